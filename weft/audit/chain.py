"""Each entry's hash covers its number, its body and the hash before it, so that none can change unseen. Pure."""

from __future__ import annotations

import hashlib

from weft.audit.entry import Entry, body, milliseconds
from weft.store.audit_table import GENESIS, AuditRow

_TAG = b"weft-audit-v1\x00"


def link_hash(seq: int, prev: bytes, content: bytes) -> bytes:
    """Return SHA-256 over the tag, ``seq`` as eight bytes (big end first), ``prev`` and the body."""
    return hashlib.sha256(_TAG + seq.to_bytes(8, "big") + prev + content).digest()


def follow(tail: AuditRow | None, entry: Entry, *, node: str, actor: str | None) -> AuditRow:
    """Make the row that follows ``tail``."""
    seq, prev = (1, GENESIS) if tail is None else (tail.seq + 1, tail.hash)
    content = body(entry, node=node, actor=actor)
    return AuditRow(seq, milliseconds(entry.at), content, prev, link_hash(seq, prev, content))
