"""Entries as lines of JSON, for auditors and for verification elsewhere; and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import orjson

from weft.audit.entry import canonical, milliseconds
from weft.errors import InvalidRequest
from weft.model import JsonObject
from weft.store.audit_table import AuditRow


def document(row: AuditRow) -> JsonObject:
    """Give ``seq``, ``prev``, ``hash`` and ``entry``."""
    return {"seq": row.seq, "prev": row.prev.hex(), "hash": row.hash.hex(), "entry": orjson.loads(row.body)}


def rows(lines: Iterable[bytes]) -> Iterator[AuditRow]:
    """Read lines that were exported.

    :raises InvalidRequest: a line is none.
    """
    for number, line in enumerate(lines, 1):
        try:
            said = orjson.loads(line)
            entry = said["entry"]
            ts = milliseconds(datetime.fromisoformat(entry["time"]).timestamp())
            yield AuditRow(said["seq"], ts, canonical(entry), bytes.fromhex(said["prev"]), bytes.fromhex(said["hash"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"line {number} is no entry of an audit record") from error
