"""What leaves a site is written down here before it leaves: for each job of the hub one file, with every decision.

::

    DATA/node/releases/KEY/
      ledger.json      what the job made, its hashes, who decided what and why
      files/0, 1, …    copies made when the job ended: what is reviewed is what is sent
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from weft.errors import Conflict, Forbidden, NotFound
from weft.federation.release import Decision

_FOLDER = "releases"
_FILE = "ledger.json"
_KEY = re.compile(r"[A-Za-z0-9]+-[0-9]{1,9}")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file that a job made."""

    #: As the job's outputs name it.
    path: str
    size_bytes: int
    sha256: str
    decision: Decision
    reason: str
    reviewer: str | None = None
    decided_at: float | None = None
    #: The hub has it.
    sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All files of one job of the hub."""

    key: str
    job_id: str
    #: Who asked at the hub.
    submitter: str
    opened_at: float
    items: tuple[Item, ...]

    @property
    def pending(self) -> tuple[Item, ...]:
        """Return what nobody has decided on."""
        return tuple(item for item in self.items if item.decision is Decision.PENDING)

    def with_item(self, new: Item) -> Ledger:
        """Return a copy in which ``new`` stands for the item of its path."""
        return replace(self, items=tuple(new if item.path == new.path else item for item in self.items))


class Ledgers:
    """The ledgers of one site. Whole or not at all: each is written beside and renamed."""

    def __init__(self, membership: Path) -> None:
        """Keep the folder; it need not exist."""
        self._folder = membership / _FOLDER

    def load(self, key: str) -> Ledger | None:
        """Return the ledger of a job of the hub; None when there is none."""
        try:
            document = orjson.loads((self._place(key) / _FILE).read_bytes())
        except FileNotFoundError:
            return None
        items = tuple(Item(**{**item, "decision": Decision(item["decision"])}) for item in document["items"])
        return Ledger(**{**document, "items": items})

    def save(self, ledger: Ledger) -> None:
        """Write a ledger."""
        place = self._place(ledger.key)
        temporary = place / f".{_FILE}"
        with temporary.open("wb") as stream:
            stream.write(orjson.dumps(asdict(ledger)))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place / _FILE)

    def every(self) -> Iterator[Ledger]:
        """Yield all ledgers, oldest job first."""
        for place in sorted(self._folder.glob(f"*/{_FILE}")):
            found = self.load(place.parent.name)
            if found is not None:
                yield found

    def keep(self, key: str, index: int, source: BinaryIO) -> tuple[int, str]:
        """Copy a file that a job made; return its size and its SHA-256 in hex."""
        target = self.file(key, index)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as stream:
            while chunk := source.read(_CHUNK):
                stream.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()

    def file(self, key: str, index: int) -> Path:
        """Return the place of the copy of item ``index``."""
        return self._place(key) / "files" / str(index)

    def drop_files(self, key: str) -> None:
        """Remove the copies: all that may leave has left."""
        shutil.rmtree(self._place(key) / "files", ignore_errors=True)

    def decide(self, key: str, path: str, decision: Decision, reason: str, reviewer: str, *, now: float) -> Ledger:
        """Write down a person's decision on one file that waits for it.

        :raises NotFound: there is no such job or file.
        :raises Conflict: it was decided on before, or is not the file any more that was listed.
        :raises Forbidden: the reviewer is who asked for it.
        """
        ledger = self.load(key)
        found = None if ledger is None else next((item for item in ledger.items if item.path == path), None)
        if ledger is None or found is None:
            raise NotFound(f"{key} has no file {path!r}", remedy="see weft release list")
        if found.decision is not Decision.PENDING:
            raise Conflict(f"{path} of {key} is {found.decision.value} already: {found.reason}")
        if reviewer.casefold() in _names_of(ledger.submitter):
            raise Forbidden(f"{reviewer} asked for it, and may not review it", remedy="let somebody else review it")
        if self.hash_of(key, ledger.items.index(found)) != found.sha256:
            raise Conflict(
                f"{path} of {key} is not the file that was listed", remedy="reject it, and ask for a new run"
            )
        new = replace(found, decision=decision, reason=reason, reviewer=reviewer, decided_at=now)
        ledger = ledger.with_item(new)
        self.save(ledger)
        return ledger

    def hash_of(self, key: str, index: int) -> str | None:
        """Return the SHA-256 of a copy as it is now; None when it is gone."""
        try:
            with self.file(key, index).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise NotFound(f"{key[:100]!r} is no job of the hub", remedy="see weft release list")
        return self._folder / key


def _names_of(submitter: str) -> frozenset[str]:
    """Return the names under which a submitter may be known here: the whole, and the subject alone."""
    return frozenset({submitter.casefold(), submitter.rpartition("|")[2].casefold()})
