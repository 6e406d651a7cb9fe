"""Many transfers at once, each tried again where that may help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from weft.errors import StagingFailed, Unavailable, WeftError
from weft.staging import halt

Item = TypeVar("Item")
Result = TypeVar("Result")
Pause = Callable[[float], None]

#: Pauses between tries, in seconds.
BACK_OFF = (0.5, 2.0)
#: Most transfers of one job at once.
THREADS = 8


def patiently(action: Callable[[], Result], pause: Pause) -> Result:
    """Run ``action``, again after a pause where a part did not answer.

    :raises StagingFailed: it did not answer the last time either; or as ``action`` raises it.
    """
    for seconds in BACK_OFF:
        try:
            return action()
        except Unavailable:
            pause(seconds)
    try:
        return action()
    except Unavailable as error:
        failure = StagingFailed(f"{error.message} ({len(BACK_OFF) + 1} tries)")
        failure.may_pass = True
        raise failure from error


def each(items: Sequence[Item], action: Callable[[Item], Result]) -> list[Result | WeftError]:
    """Run ``action`` for all items and return the results in order, an error in the place of its result."""
    wanted = halt.heeded()

    def guarded(item: Item) -> Result | WeftError:
        try:
            with halt.heeding(wanted):
                halt.check()
                return action(item)
        except WeftError as error:
            return error
        except OSError as error:
            return StagingFailed((error.strerror or str(error)).lower())

    if len(items) < 2:
        return [guarded(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items)), thread_name_prefix="staging") as pool:
        return list(pool.map(guarded, items))


def in_words(problems: Sequence[str], most: int = 5) -> str:
    """Join problems into one message that stays readable."""
    more = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {more} more" if more > 0 else "")
