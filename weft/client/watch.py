"""Follow a job by asking again, with pauses that grow while nothing changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from weft.client.connection import JsonObject
from weft.client.errors import TimedOut, Unreachable

#: What a script sees. PREEMPTED is an end only on servers that rest in it.
EXIT_CODES = {"COMPLETE": 0, "EXECUTOR_ERROR": 1, "SYSTEM_ERROR": 3, "CANCELED": 4, "PREEMPTED": 3}


def ended(document: JsonObject) -> bool:
    """Tell whether the job of this document will not change any more."""
    return document.get("state") in EXIT_CODES


@dataclass(slots=True)
class Watch:
    """How to ask again: all times in seconds; ``grace`` is how long a silent server is borne."""

    timeout: float | None = None
    first: float = 0.1
    growth: float = 1.3
    longest: float = 2.0
    grace: float = 60.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)

    def until_ended(self, read: Callable[[], JsonObject]) -> Iterator[JsonObject]:
        """Yield what ``read`` gives, again and again, until it shows an ended job.

        :raises TimedOut: ``timeout`` is over.
        :raises Unreachable: no answer for longer than ``grace``, or none to the first question.
        """
        began = heard = self.clock()
        pause, previous = self.first, None
        while True:
            try:
                document = read()
            except Unreachable:
                if previous is None or self.clock() - heard > self.grace:
                    raise
            else:
                heard = self.clock()
                yield document
                if ended(document):
                    return
                pause = self.first if document != previous else pause
                previous = document
            self._rest(pause, began)
            pause = min(pause * self.growth, self.longest)

    def _rest(self, pause: float, began: float) -> None:
        if self.timeout is not None:
            left = began + self.timeout - self.clock()
            if left <= 0:
                raise TimedOut
            pause = min(pause, left)
        self.sleep(pause)


def news(before: str, now: str) -> str:
    """Return what ``now`` adds to ``before``, where both are the end of one growing text.

    A server shows a window of the text, so ``now`` may have lost its beginning. When nothing of ``before`` is left
    in it, all of ``now`` is new.
    """
    if not now:
        return ""
    if now.startswith(before):
        return now[len(before) :]
    return now[_overlap(before, now) :]


def _overlap(before: str, now: str) -> int:
    """Length of the longest end of ``before`` that is a beginning of ``now`` (Knuth, Morris and Pratt's table)."""
    before = before[-len(now) :]
    borders = [0] * len(now)
    length = 0
    for index in range(1, len(now)):
        while length and now[index] != now[length]:
            length = borders[length - 1]
        length += now[index] == now[length]
        borders[index] = length
    length = 0
    for character in before:
        while length and (length == len(now) or character != now[length]):
            length = borders[length - 1]
        length += character == now[length]
    return length
