"""How much one principal may have: requests a second, jobs that wait, jobs that run, a priority; and the whole queue.

Who may have what is one function, ``LimitsOf``; ``site_limits`` gives everybody what the settings say. Jobs that run
are counted where jobs are claimed (``weft.store.shares``), the rest here, at the door.

A workflow engine's tasks count for the owner of its run, but are never refused: the run was accepted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from weft.clock import Clock
from weft.config import Settings
from weft.errors import TooMany, Unavailable
from weft.model import Principal

#: Principals whose requests are counted at once; beyond it those are forgotten who have been quiet.
_REMEMBERED = 10_000
#: How old a count of queued jobs may become, in seconds: other processes create jobs too.
_GOOD_FOR = 10.0
#: When to come back to a queue that is full, in seconds.
_COME_BACK = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one principal may have; None: any number."""

    #: Jobs of one kind (tasks, or runs) that run at once.
    running: int | None = None
    #: Jobs that wait.
    queued: int | None = None
    #: Requests a second in the long run, and how many may come at once.
    requests: float | None = None
    burst: int = 1
    #: The highest and, negated, the lowest ``backend_parameters.priority``.
    priority: int = 0


LimitsOf = Callable[[Principal], Limits]


def site_limits(settings: Settings) -> LimitsOf:
    """Give everybody what the settings say."""
    given = settings.limits
    same = Limits(
        running=given.running,
        queued=given.queued,
        requests=given.requests,
        burst=given.burst,
        priority=given.priority,
    )
    return lambda _principal: same


class Rates:
    """Requests a second: a bucket of tokens for each principal, filled by time."""

    def __init__(self, limits_of: LimitsOf, monotonic: Clock) -> None:
        """Assign. ``monotonic`` gives seconds on a clock that is never set."""
        self._limits_of = limits_of
        self._monotonic = monotonic
        #: Principal -> tokens at a moment, that moment.
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, principal: Principal) -> None:
        """Count one request; called on one thread.

        :raises TooMany: says when to come back.
        """
        limits = self._limits_of(principal)
        if limits.requests is None or principal.run is not None:
            return
        now = self._monotonic()
        tokens, since = self._buckets.get(principal.name, (float(limits.burst), now))
        tokens = min(float(limits.burst), tokens + (now - since) * limits.requests)
        if tokens < 1:
            self._buckets[principal.name] = (tokens, now)
            raise TooMany(
                f"more than {limits.requests:g} requests a second",
                remedy="send fewer, or pause as long as Retry-After says",
                retry_after=math.ceil((1 - tokens) / limits.requests),
            )
        if len(self._buckets) >= _REMEMBERED:
            self._forget(now)
        self._buckets[principal.name] = (tokens - 1, now)

    def _forget(self, now: float) -> None:
        """Forget the half of the principals who have been quiet for longest: their buckets are the fullest."""
        quiet = sorted(self._buckets, key=lambda name: self._buckets[name][1])
        for name in quiet[: len(quiet) // 2]:
            del self._buckets[name]


class Queue(Protocol):
    """The part of the store that is needed here."""

    def queued(self, owner: str | None) -> int:
        """Count the jobs that wait, of one owner or of all."""
        ...

    def allow(self, owner: str, running: int | None) -> None:
        """Let an owner have so many jobs of a kind running."""
        ...

    def allow_default(self, owner: str) -> None:
        """Undo ``allow``."""
        ...


class Admission:
    """Decides who may add a job to the queue. May be called from any thread.

    Counting costs as much as is queued, so a count is kept and what was admitted since is added to it; it is counted
    anew when that sum reaches a limit, or after ten seconds. Several processes may so exceed a limit together by what
    they admit in that time.
    """

    def __init__(self, limits_of: LimitsOf, queue: Queue, settings: Settings, monotonic: Clock) -> None:
        """Assign."""
        self.limits_of = limits_of
        self._queue = queue
        self._most = settings.limits.queued_in_all
        self._default_running = settings.limits.running
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: Owner (None: all) -> jobs at most, when they were counted.
        self._counts: dict[str | None, tuple[int, float]] = {}
        #: Owner -> what the workers were told of him.
        self._told: dict[str, int | None] = {}

    def admit(self, principal: Principal) -> None:
        """Count one more job of this principal.

        :raises TooMany: his part of the queue is full.
        :raises Unavailable: the whole queue is.
        """
        if principal.run is not None:
            return
        limits = self.limits_of(principal)
        self._tell(principal.name, limits.running)
        with self._lock:
            if limits.queued is not None and not self._has_room(principal.name, limits.queued):
                raise TooMany(
                    f"you have {limits.queued} jobs in the queue, as many as one user may have here",
                    remedy="wait until some of them have started, or cancel some",
                    retry_after=_COME_BACK,
                )
            if self._most is not None and not self._has_room(None, self._most):
                raise Unavailable(
                    f"the queue is full: {self._most} jobs wait", remedy="try again later", retry_after=_COME_BACK
                )
            for owner in (principal.name, None):
                if owner in self._counts:
                    number, since = self._counts[owner]
                    self._counts[owner] = (number + 1, since)

    def _has_room(self, owner: str | None, most: int) -> bool:
        now = self._monotonic()
        number, since = self._counts.get(owner, (most, -math.inf))
        if number >= most or now - since > _GOOD_FOR:
            if len(self._counts) >= _REMEMBERED:
                self._counts.clear()
            number = self._queue.queued(owner)
            self._counts[owner] = (number, now)
        return number < most

    def _tell(self, owner: str, running: int | None) -> None:
        """Let the workers know who may have another number of jobs running than the settings say."""
        if owner in self._told and self._told[owner] == running:
            return
        if running == self._default_running:
            self._queue.allow_default(owner)
        else:
            self._queue.allow(owner, running)
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[owner] = running
