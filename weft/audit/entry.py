"""One entry of the audit record, and how it reads as JSON. It holds no personal data, no query and no secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from weft.model import JsonObject, without_nulls

ALLOW = "allow"
DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What happened. ``actor`` is a principal's name here, and a pseudonym in the record."""

    #: Seconds since the epoch.
    at: float
    action: str
    decision: str = ALLOW
    #: The rule that decided, never a sentence that quotes a request.
    reason: str | None = None
    actor: str | None = None
    #: What was acted on, where it is no job.
    object: str | None = None
    job: str | None = None
    project: str | None = None
    datasets: tuple[str, ...] = ()
    #: Version of the policy in force.
    policy: str | None = None
    request: str | None = None
    images: tuple[str, ...] = ()
    bytes: int | None = None


def milliseconds(at: float) -> int:
    """Return a time as the record keeps it."""
    return round(at * 1000)


def time_of(ts: int) -> str:
    """Write the record's milliseconds as RFC 3339, UTC."""
    return datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def body(entry: Entry, *, node: str, actor: str | None) -> bytes:
    """Write the entry's canonical JSON: keys in order, no nulls, no spaces, UTF-8.

    :param actor: the pseudonym of ``entry.actor``.
    """
    document: JsonObject = without_nulls(
        {
            "time": time_of(milliseconds(entry.at)),
            "node": node,
            "actor": actor,
            "action": entry.action,
            "object": entry.object,
            "job": entry.job,
            "project": entry.project,
            "datasets": list(entry.datasets) or None,
            "decision": entry.decision,
            "reason": entry.reason,
            "policy": entry.policy,
            "request": entry.request,
            "images": list(entry.images) or None,
            "bytes": entry.bytes,
        }
    )
    return canonical(document)


def canonical(document: JsonObject) -> bytes:
    """Write JSON in the one form that is hashed."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
