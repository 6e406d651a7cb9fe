"""Check a record from outside: every link of the chain, and every checkpoint that was signed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weft.audit.chain import link_hash
from weft.audit.checkpoints import Checkpoint, is_genuine
from weft.audit.entry import canonical, time_of
from weft.store.audit_table import GENESIS, AuditRow


@dataclass(slots=True)
class Report:
    """What was found; a record without problems is whole up to its last checkpoint."""

    entries: int = 0
    checkpoints: int = 0
    #: Number of the last entry that a checkpoint vouches for.
    sealed: int = 0
    problems: list[str] = field(default_factory=list)


def verify(rows: Iterable[AuditRow], checkpoints: Iterable[Checkpoint], public_key: Ed25519PublicKey) -> Report:
    """Walk along the chain; each problem names the entry or the checkpoint."""
    report = Report()
    sealed = _genuine(checkpoints, public_key, report)
    seq, prev = 0, GENESIS
    for row in rows:
        report.entries += 1
        if row.seq != seq + 1:
            report.problems.append(f"gap: entry {seq + 1} is missing, {row.seq} follows {seq}")
        elif row.prev != prev:
            report.problems.append(f"fork: entry {row.seq} does not follow the one before it")
        report.problems += _faults(row)
        if row.seq in sealed and row.hash.hex() not in sealed[row.seq]:
            report.problems.append(f"fork: entry {row.seq} is not the one that was sealed")
        elif len(sealed.get(row.seq, ())) > 1:
            report.problems.append(f"fork: entry {row.seq} was sealed in two versions")
        seq, prev = row.seq, row.hash
    report.sealed = max((number for number in sealed if number <= seq), default=0)
    report.problems += [f"truncation: entry {number} was sealed, and is gone" for number in sealed if number > seq]
    if report.entries and not report.checkpoints:
        report.problems.append("no checkpoint: nothing shows that the record is whole")
    return report


def _genuine(checkpoints: Iterable[Checkpoint], public_key: Ed25519PublicKey, report: Report) -> dict[int, set[str]]:
    """Return the hashes that were sealed at each number."""
    sealed: dict[int, set[str]] = {}
    for checkpoint in checkpoints:
        if is_genuine(checkpoint, public_key):
            report.checkpoints += 1
            sealed.setdefault(checkpoint.seq, set()).add(checkpoint.hash)
        else:
            report.problems.append(f"checkpoint of entry {checkpoint.seq}: its signature is not of this key")
    return sealed


def _faults(row: AuditRow) -> list[str]:
    """Say what is wrong with one entry by itself."""
    if row.hash != link_hash(row.seq, row.prev, row.body):
        return [f"edit: entry {row.seq} does not match its hash"]
    document = orjson.loads(row.body)
    if document.get("time") != time_of(row.ts) or canonical(document) != row.body:
        return [f"edit: entry {row.seq} says something else outside its body"]
    return []
