"""Counts of few jobs are fresh, counts of many are kept for a second."""

from collections.abc import Callable

import pytest

from weft.model import Kind
from weft.states import State
from weft.store.counting import KeptCounts


@pytest.mark.parametrize(("number", "asked"), [(49_999, 3), (50_000, 2)])
def test_only_a_count_of_many_is_kept_and_not_for_long(number: int, asked: int) -> None:
    now, calls = 100.0, []

    def count() -> dict[State, int]:
        calls.append(now)
        return {State.QUEUED: number, State.COMPLETE: 0}

    kept = KeptCounts(lambda: now)
    ask: Callable[[], object] = lambda: kept.of(Kind.RUN, "ada", count)  # noqa: E731
    first = ask()
    now += 0.9
    assert ask() == first
    now += 0.2
    assert ask() == first
    assert len(calls) == asked


def test_each_owner_has_counts_of_their_own() -> None:
    kept = KeptCounts(lambda: 0.0)
    assert kept.of(Kind.RUN, "ada", lambda: {State.QUEUED: 60_000})[State.QUEUED] == 60_000
    assert kept.of(Kind.RUN, "eve", lambda: {State.QUEUED: 1})[State.QUEUED] == 1
