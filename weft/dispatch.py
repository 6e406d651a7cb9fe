"""The life of one attempt at a job as a straight story: prepare, submit, watch, collect, finish.

A ``Drive`` is held by the one worker that has the lease. ``begin``, ``finish`` and ``cancel`` may block (bytes are
moved, backends are called) and are run by the worker's pool, one at a time for each drive; ``look`` is quick and
is called by the worker's own thread. Every step may be repeated by another worker after a death at any point:
``find`` comes before ``submit``, uploads replace, moves are conditional.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from weft import submissions
from weft.authority import OPEN, Authority
from weft.clock import Clock
from weft.errors import (
    ExecutorRefused,
    Forbidden,
    InvalidRequest,
    StagingFailed,
    TooLarge,
    Unavailable,
    WeftError,
)
from weft.folders import AttemptFolder, Folders
from weft.logs import get_logger
from weft.model import Handle, Job, Kind, StepResult, Submission, Tail
from weft.parameters import time_limit
from weft.ports import Executor, Observation, Phase
from weft.preparation import Collected, PartlyCollected, Preparation, Prepared, Types
from weft.staging.halt import heeding
from weft.states import State
from weft.store.store import Store
from weft.tails import TailReader
from weft.verdict import Verdict, judge

log = get_logger(__name__)

#: How long a backend may know nothing of a job that it has taken, in seconds, before the attempt counts as lost.
UNSEEN_GRACE = 15.0
#: Pauses between tries while a part that weft needs does not answer, in seconds.
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)
#: Errors that say in words why an attempt cannot go on; anything else is a bug of ours.
_SPOKEN = (StagingFailed, ExecutorRefused, InvalidRequest, Forbidden, TooLarge)


class Stage(Enum):
    """Where a drive is."""

    PREPARING = auto()  # nothing native exists yet
    SUBMITTING = auto()  # something native may exist
    WATCHING = auto()  # the executor has it
    CLOSING = auto()  # being finished or cancelled
    GONE = auto()  # no longer this worker's business


@dataclass(slots=True, kw_only=True)
class Means:
    """What every drive of a worker uses."""

    store: Store
    folders: Folders
    clock: Clock
    worker: str
    preparations: dict[Kind, Preparation]
    time_limits: dict[Kind, float | None]
    log_tail_bytes: int
    authority: Authority = OPEN
    #: How long outputs wait for a store that does not answer, in seconds.
    output_patience: float = 0.0


@dataclass(slots=True, kw_only=True)
class Drive:
    """One attempt at one job, from lease to terminal state."""

    means: Means
    job: Job
    executor: Executor
    stage: Stage = Stage.PREPARING
    handle: Handle | None = None
    work: Submission | None = None
    retry_at: float = 0.0
    _tries: int = 0
    _steps: tuple[StepResult, ...] = ()
    _said: set[str] = field(default_factory=set)
    _unseen_since: float | None = None
    _running_since: float | None = None
    _waits_since: float | None = None
    _overrun: str | None = None
    _tails: TailReader | None = None
    _halt: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- prepare and submit ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Stage the inputs and submit, or adopt what a worker that died has already submitted."""
        try:
            self.handle = self.job.handle or self.executor.find(self.job.key)
            self._adopt() if self.handle is not None else self._start()
        except Unavailable as error:
            self._try_later(error)
        except _SPOKEN as error:
            self._end(Verdict(State.SYSTEM_ERROR, error.message, retry=isinstance(error, StagingFailed)))
        except Exception as error:
            self._end(Verdict(State.SYSTEM_ERROR, _unexpected(error)))

    def _start(self) -> None:
        if not self._is_mine():
            self.stage = Stage.GONE
            return
        self.means.authority.check_start(self.job)
        self.means.folders.mark(self.job.key)
        folder = self.means.folders.attempt(self.job.id, self.job.attempt)
        prepared = self._prepared(folder)
        if prepared is None:
            return
        mine = self._is_mine()
        with self._lock:
            cancelled = self.stage is not Stage.PREPARING
            if not cancelled:
                self.stage = Stage.SUBMITTING if mine else Stage.GONE
        if cancelled or not mine:
            self._remove() if cancelled else self._yield_to_who_was_first()
            return
        self.work = prepared.work
        submissions.save(prepared.work)
        self.handle = self.executor.submit(prepared.work)
        self._watch(prepared.messages, types={"inputs": prepared.types})

    def _prepared(self, folder: AttemptFolder) -> Prepared | None:
        """Stage; None when a cancel came in between, and then nothing is left of it."""
        try:
            with heeding(self._halt):
                return self.means.preparations[self.job.kind].prepare(self.job, folder)
        except WeftError:
            if not self._halt.is_set():
                raise
            self._remove()
            return None

    def _adopt(self) -> None:
        self.stage = Stage.SUBMITTING
        self.work = submissions.load(self.means.folders.attempt(self.job.id, self.job.attempt).root)
        self._said.update(event.message for event in self.means.store.events(self.job.id) if event.message)
        self._watch((), adopted=True)

    def _watch(self, messages: Sequence[str], *, adopted: bool = False, types: Types | None = None) -> None:
        assert self.handle is not None
        if self.work is not None:
            limit = self.means.log_tail_bytes
            work = self.work
            self._tails = TailReader(self.job.attempt, work.folder, work.mounts, work.steps, limit)
        log.info("job submitted", job=self.job.id, executor=self.handle.executor, native=self.handle.native_id)
        kept = self.means.store.record(
            self.job.id,
            now=self.means.clock(),
            lease_owner=self.means.worker,
            handle=None if adopted and self.job.handle else self.handle,
            messages=self._new_messages(messages),
            types=types,
        )
        with self._lock:
            if not kept:
                self.stage = Stage.GONE
            elif self.stage is Stage.SUBMITTING:
                self.stage = Stage.WATCHING

    def _try_later(self, error: WeftError) -> None:
        """Keep the lease and the attempt, and try again after a pause: waiting is not failing."""
        pause = BACK_OFF[min(self._tries, len(BACK_OFF) - 1)]
        self._tries += 1
        self.retry_at = self.means.clock() + pause
        for message in self._new_messages((f"waiting: {error.message}",)):
            self._say(message)
        with self._lock:
            if self.stage is Stage.SUBMITTING:
                self.stage = Stage.PREPARING

    # -- watch -------------------------------------------------------------------------------------------------

    def look(self, seen: Observation) -> bool:
        """Take in what the executor says now; True when the attempt ended and ``finish`` is due."""
        if self.stage is not Stage.WATCHING:
            return False
        if seen.phase is Phase.UNSEEN:
            return self._is_lost()
        self._unseen_since = None
        if seen.phase in (Phase.RUNNING, Phase.ENDED) and self.job.state is State.INITIALIZING:
            self._mark_running(seen)
        elif seen.steps != self._steps or set(seen.messages) - self._said:
            self._save(seen)
        self._steps = seen.steps
        return seen.phase is Phase.ENDED and self.job.state is State.RUNNING and self.stage is Stage.WATCHING

    def _is_lost(self) -> bool:
        now = self.means.clock()
        self._unseen_since = self._unseen_since or now
        return now - self._unseen_since > UNSEEN_GRACE

    def _mark_running(self, seen: Observation) -> None:
        moved = self.means.store.move(
            self.job.id,
            {State.INITIALIZING},
            State.RUNNING,
            now=self.means.clock(),
            lease_owner=self.means.worker,
            handle=self.handle,
            steps=seen.steps,
            metadata=seen.metadata,
        )
        if moved is None:  # cancelled meanwhile (the worker will come to it), or the lease is lost
            current = self.means.store.get(self.job.id)
            if current is None or current.lease_owner != self.means.worker:
                self.stage = Stage.GONE
            return
        self.job = moved
        self._running_since = self.means.clock()
        for message in self._new_messages(seen.messages):
            self._say(message)

    def _save(self, seen: Observation) -> None:
        self.means.store.record(
            self.job.id,
            now=self.means.clock(),
            lease_owner=self.means.worker,
            steps=seen.steps,
            metadata=seen.metadata,
            messages=self._new_messages(seen.messages),
        )

    def overrun(self) -> bool:
        """Tell whether the attempt has used up its wall time; remembers why in words."""
        limit = self._time_limit()
        since = self._running_since or self.job.started_at
        if limit is None or since is None or self.stage is not Stage.WATCHING or self._overrun:
            return False
        if self.means.clock() - since <= limit:
            return False
        self._overrun = f"stopped: the time limit of {limit:g} s is used up"
        return True

    def _time_limit(self) -> float | None:
        """Return the site's limit, the policy's or the task's own, whichever ends first."""
        own = time_limit(self.job.document)
        given = (self.means.time_limits[self.job.kind], self.means.authority.time_limit(self.job), own)
        return min((limit for limit in given if limit is not None), default=None)

    def stop(self) -> None:
        """Stop the native job because of ``overrun``; its end is then seen as usual."""
        if self.handle is not None:
            self.executor.cancel(self.handle)

    def live_tails(self) -> tuple[Tail, ...]:
        """Return what the steps wrote since ``tails_saved``."""
        return self._tails.news() if self._tails is not None and self.stage is Stage.WATCHING else ()

    def tails_saved(self) -> None:
        """Note that ``live_tails`` are on disk."""
        if self._tails is not None:
            self._tails.saved()

    # -- collect and finish ------------------------------------------------------------------------------------

    def finish(self, seen: Observation) -> None:
        """Collect the outputs, write the one terminal move, then remove what is left of the native job."""
        try:
            self._end(self._verdict(seen), seen)
        except Unavailable as error:
            self._look_again(error)
        except Exception as error:
            self.stage = Stage.CLOSING
            self._close(Verdict(State.SYSTEM_ERROR, _unexpected(error)), seen, Collected())

    def _look_again(self, error: WeftError) -> None:
        self._try_later(error)
        self.stage = Stage.WATCHING

    def _verdict(self, seen: Observation) -> Verdict:
        if self._overrun:
            return Verdict(State.SYSTEM_ERROR, self._overrun)
        if seen.phase is Phase.UNSEEN:
            return Verdict(State.SYSTEM_ERROR, "the executor no longer knows this job", retry=True)
        if self.work is None:
            return Verdict(State.SYSTEM_ERROR, "the job's folder is gone", retry=True)
        return judge(self.work.steps, seen)

    def _end(self, verdict: Verdict, seen: Observation | None = None) -> None:
        with self._lock:
            if self.stage in (Stage.CLOSING, Stage.GONE):
                return
            self.stage = Stage.CLOSING
        collected = Collected()
        if seen is not None and self.work is not None and not verdict.retry:
            verdict, collected = self._collect(verdict, self.work)
        self._close(verdict, seen, collected)

    def _collect(self, verdict: Verdict, work: Submission) -> tuple[Verdict, Collected]:
        preparation = self.means.preparations[self.job.kind]
        try:
            return verdict, preparation.collect(self.job, work, best_effort=verdict.state is not State.COMPLETE)
        except Unavailable:
            self.stage = Stage.WATCHING
            raise
        except PartlyCollected as error:
            if error.may_pass and self._has_patience():
                self.stage = Stage.WATCHING
                raise Unavailable(error.message) from error
            return Verdict(State.SYSTEM_ERROR, error.message), error.collected
        except StagingFailed as error:
            return Verdict(State.SYSTEM_ERROR, error.message), Collected()

    def _has_patience(self) -> bool:
        """Tell whether results may wait on for a store that does not answer: the work was done, and would be lost."""
        now = self.means.clock()
        self._waits_since = self._waits_since or now
        return now - self._waits_since < self.means.output_patience

    def _close(self, verdict: Verdict, seen: Observation | None, collected: Collected) -> None:
        again = verdict.retry and self.job.attempt < self.job.max_attempts
        for message in self._new_messages(collected.messages):
            self._say(message)
        if collected.types:
            self._correct({"outputs": collected.types})
        if seen is not None and seen.types:
            self._correct(seen.types)
        if (again or seen is None or seen.phase is Phase.UNSEEN) and self._is_mine():
            self._remove()
        self.means.preparations[self.job.kind].close(self.job)
        moved = self.means.store.move(
            self.job.id,
            {self.job.state},
            State.QUEUED if again else verdict.state,
            now=self.means.clock(),
            message=verdict.message,
            lease_owner=self.means.worker,
            steps=None if seen is None else seen.steps,
            outputs=collected.outputs or (() if seen is None else seen.outputs),
            run_outputs=collected.run_outputs or (None if seen is None else seen.run_outputs),
            metadata=None if seen is None else seen.metadata,
            tails=self._tails.news() if self._tails is not None else (),
            not_before=self._next_try() if again else None,
        )
        if moved is None:
            self._yield_to_who_was_first()
            return
        self.job = moved
        self.stage = Stage.GONE
        log.info("job ended", job=self.job.id, state=moved.state.value, message=verdict.message)
        images = () if seen is None else _digests(seen.metadata)
        self.means.authority.ended(moved, images=images, size=sum(item.size_bytes for item in collected.outputs))
        self._remove()

    def _next_try(self) -> float:
        """Return when the next attempt may begin: the pause grows with the number of attempts."""
        return self.means.clock() + BACK_OFF[min(self.job.attempt - 1, len(BACK_OFF) - 1)]

    def _yield_to_who_was_first(self) -> None:
        """Give way: a cancel came in between and wins, or the lease is lost; what was staged too late is cleared."""
        current = self.means.store.get(self.job.id)
        if current is not None and current.state is State.CANCELING and current.lease_owner == self.means.worker:
            self.job = current
            self.stage = Stage.WATCHING
            self.cancel()
            return
        self.stage = Stage.GONE
        if current is None or current.key != self.job.key or current.state.terminal:
            self.means.folders.clear(self.job.key)

    # -- cancel ------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Remove the native job, then say CANCELED; a drive that is still preparing is cancelled at once."""
        with self._lock:
            if self.stage in (Stage.CLOSING, Stage.GONE, Stage.SUBMITTING):
                return  # its own end sees the cancel
            self.stage = Stage.CLOSING
        self._halt.set()
        try:
            self.handle = self.handle or self.executor.find(self.job.key)
            if self.handle is not None:
                self.executor.cancel(self.handle)
            self._remove()
        except Unavailable as error:
            self._look_again(error)
            return
        self.means.preparations[self.job.kind].close(self.job)
        self.means.store.move(
            self.job.id,
            {State.CANCELING},
            State.CANCELED,
            now=self.means.clock(),
            lease_owner=self.means.worker,
            steps=self._steps or None,
            tails=self._tails.news() if self._tails is not None else (),
        )
        self.stage = Stage.GONE
        log.info("job ended", job=self.job.id, state="CANCELED", message=None)

    def _is_mine(self) -> bool:
        """Tell whether the lease still holds; a process that was paused must not disturb who has taken over."""
        if self.job.lease_until is not None and self.means.clock() < self.job.lease_until:
            return True
        current = self.means.store.get(self.job.id)
        return current is not None and (current.lease_owner, current.key) == (self.means.worker, self.job.key)

    def _remove(self) -> None:
        """Leave nothing native, and of the folder only what is still read: logs and the executor's notes."""
        try:
            if self.handle is not None:
                self.executor.forget(self.handle)
        except Unavailable as error:  # the sweep will do it
            log.warning("native job not removed yet", job=self.job.id, error=error.message)
            return
        self.means.folders.clear(self.job.key)

    def _new_messages(self, messages: Sequence[str]) -> tuple[str, ...]:
        new = tuple(message for message in dict.fromkeys(messages) if message not in self._said)
        self._said.update(new)
        return new

    def _correct(self, types: Types) -> None:
        self.means.store.record(self.job.id, now=self.means.clock(), lease_owner=self.means.worker, types=types)

    def _say(self, message: str) -> None:
        self.means.store.record(self.job.id, now=self.means.clock(), lease_owner=self.means.worker, messages=(message,))


def _digests(metadata: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the digests of the images that ran, where the executor told them (``image_digest``)."""
    names = (metadata or {}).get("image_digest", "").split(", ")
    return tuple(dict.fromkeys(name.rpartition("@")[2] for name in names if "@" in name))


def _unexpected(error: Exception) -> str:
    """Say what weft did not foresee, with the traceback, for the system log and for the bug report."""
    log.exception("unexpected error", error=repr(error))
    return "weft failed unexpectedly: " + "".join(traceback.format_exception(error)).strip()
