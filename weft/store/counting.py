"""Counts of jobs for whoever asks again and again: a count of many takes a while, and is kept for a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from weft.model import Kind
from weft.states import State

Counts = Mapping[State, int]

#: Counting so many takes some milliseconds; fewer are always counted anew.
_MANY = 50_000
_SECONDS = 1.0


class KeptCounts:
    """Remembers the counts of many jobs, by kind and owner."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Remember nothing yet."""
        self._monotonic = monotonic
        self._kept: dict[tuple[Kind, str | None], tuple[float, Counts]] = {}

    def of(self, kind: Kind, owner: str | None, count: Callable[[], Counts]) -> Counts:
        """Return what ``count`` gives now, or gave within the last second where there are many jobs."""
        now = self._monotonic()
        until, counts = self._kept.get((kind, owner), (now, {}))
        if now < until:
            return counts
        counts = count()
        if sum(counts.values()) >= _MANY:
            self._kept[kind, owner] = (self._monotonic() + _SECONDS, counts)
        return counts
