"""What one rule says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule's word on one request."""

    rule: str
    allowed: bool
    reason: str
    field: str | None = None
    remedy: str | None = None
    project: str | None = None
    datasets: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def allowed(rule: str, reason: str, *, project: str | None = None, datasets: tuple[str, ...] = ()) -> Finding:
    """Say that a rule has nothing against it; said over and over, so it is remembered."""
    return Finding(rule=rule, allowed=True, reason=reason, project=project, datasets=datasets)


def refused(
    rule: str, reason: str, *, field: str | None = None, remedy: str | None = None, datasets: tuple[str, ...] = ()
) -> Finding:
    """Say that a rule refuses, why, and what to do."""
    return Finding(rule=rule, allowed=False, reason=reason, field=field, remedy=remedy, datasets=datasets)
