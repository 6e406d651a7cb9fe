"""What the claims of a token must say (RFC 7519, RFC 9068): pure functions, time is an argument."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from weft.errors import InvalidToken

#: How far two clocks may be apart, in seconds.
SKEW = 30.0

_LONGEST_SUBJECT = 255
_MOST_VALUES = 500


def check_times(claims: Mapping[str, Any], now: float) -> float:
    """Check ``exp``, ``iat`` and ``nbf``; return when the token ends.

    :raises InvalidToken: expired, not yet valid, or without a time that it must have.
    """
    ends, issued = _time(claims, "exp"), _time(claims, "iat")
    starts = _time(claims, "nbf") if "nbf" in claims else issued
    if now >= ends + SKEW:
        raise InvalidToken("the token has expired")
    if max(issued, starts) > now + SKEW:
        raise InvalidToken("the token is not valid yet")
    return ends


def check_audience(claims: Mapping[str, Any], wanted: Collection[str]) -> None:
    """Refuse a token that is meant for somebody else.

    :raises InvalidToken: ``aud`` holds none of ``wanted``.
    """
    audience = claims.get("aud")
    named = {audience} if isinstance(audience, str) else set(strings(audience))
    if named.isdisjoint(wanted):
        raise InvalidToken("the token is for another audience")


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return ``sub``.

    :raises InvalidToken: there is none that can be a name.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        raise InvalidToken("the token names no subject")
    return subject


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the words of ``scope``, which some issuers write as a list."""
    scope = claims.get("scope")
    return frozenset(scope.split()) if isinstance(scope, str) else frozenset(strings(scope))


def values_at(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the strings of a claim: by its whole name, else by the dots of ``path`` into objects."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    return frozenset({found} if isinstance(found, str) else strings(found))


def strings(value: object) -> list[str]:
    """Return the strings of a list, at most so many that a decision stays quick; none of anything else."""
    return [item for item in value if isinstance(item, str)][:_MOST_VALUES] if isinstance(value, list) else []


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidToken(f"the token has no time {name}")
    return float(value)
