"""The loop: claim, drive, renew leases, stop gracefully.

One thread wakes when the store or an executor says that something happened, and once a beat. It never blocks on a
backend's slow calls: those run in a pool, one at a time for each drive. Jobs that only run cost no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from weft.dispatch import Drive, Means, Stage
from weft.errors import Unavailable
from weft.logs import get_logger
from weft.model import Handle, Job, JsonObject, Kind
from weft.parameters import PARAMETERS
from weft.ports import Executor, Observation, Phase
from weft.presence import Presence
from weft.rescue import Sweeper
from weft.retention import Retention
from weft.states import State
from weft.store.store import Store, WorkerInfo

log = get_logger(__name__)

#: Jobs whose log tails are saved in one transaction.
_TAILS_AT_ONCE = 100

#: Every so many beats an executor that wakes the worker is looked at all the same, because a wake-up can get lost.
LOOK_AT_ALL_EVERY = 10
#: Pause between sweeps for native jobs that nobody drives, in seconds.
SWEEP_SECONDS = 60.0
#: How long blocking actions may go on when the worker stops, in seconds.
STOP_SECONDS = 3.0


class Pool(Protocol):
    """Runs blocking actions beside the loop; tests pass one that runs them at once."""

    def submit(self, action: Callable[[], None], /) -> Any:
        """Run ``action`` soon."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Run nothing more; with ``wait``, return when what runs has ended."""
        ...


def thread_pool(size: int) -> Pool:
    """Return the pool of production."""
    return ThreadPoolExecutor(size, thread_name_prefix="drive")


@dataclass(slots=True, kw_only=True)
class Worker:
    """Drives jobs of one store on the executors that it was given."""

    means: Means
    #: Which executor takes new jobs of a kind.
    placement: Mapping[Kind, Executor]
    #: All executors by name; a job that was submitted elsewhere before keeps its own.
    executors: Mapping[str, Executor]
    #: Jobs of a kind driven at once.
    slots: Mapping[Kind, int]
    pool: Pool
    #: Jobs of a kind that one owner may have running; the store knows exceptions.
    most_each: int | None = None
    lease_seconds: float = 30.0
    beat_seconds: float = 1.0
    retention: Retention | None = None
    presence: Presence | None = None
    _drives: dict[str, Drive] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _woken: set[Handle] = field(default_factory=set)
    _signal: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _acting: threading.Condition = field(default_factory=threading.Condition)
    _actions: int = 0
    _thread: threading.Thread | None = None
    _beats: int = 0
    _next_beat: float = 0.0
    _next_sweep: float = 0.0
    _next_renewal: float = 0.0
    _known: set[Handle] = field(default_factory=set)  # looked at once; from then on a wake-up tells

    @property
    def store(self) -> Store:
        """The store whose jobs are driven."""
        return self.means.store

    def start(self) -> None:
        """Start the executors and the loop."""
        if self._thread is not None:
            return
        self._stopping.clear()
        if self.presence is not None:
            self.presence.enter()
        self.store.on_change(self._signal.set)
        for executor in self.executors.values():
            executor.start(self.wake)
        self._thread = threading.Thread(target=self._loop, name="worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop claiming, let blocking calls finish for a while, give the leases back; native jobs go on."""
        if self._thread is None:
            return
        self._stopping.set()
        self._signal.set()
        self._thread.join()
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self._acting:
            self._acting.wait_for(lambda: not self._actions, STOP_SECONDS)  # the rest is redone by who takes over
        for executor in self.executors.values():
            executor.stop()
        self.store.release(self.means.worker)
        if self.presence is not None:
            self.presence.leave()
        self._thread = None

    def wake(self, handle: Handle) -> None:
        """Note that something happened to ``handle``; called by executors from any thread."""
        with self._lock:
            self._woken.add(handle)
        self._signal.set()

    # -- the loop ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._signal.clear()
            self.turn()
            self._signal.wait(max(0.01, self._next_beat - self.means.clock()))

    def turn(self) -> None:
        """Do once whatever is due now; the loop is this, again and again."""
        for duty in (self._beat, self._claim, self._cancel, self._look, self._go_on):
            self._do(duty)

    def _do(self, duty: Callable[[], None]) -> None:
        """Run one duty; a part that does not answer now is tried again a beat later."""
        try:
            duty()
        except Unavailable as error:
            log.warning("worker waits", duty=duty.__name__.strip("_"), error=error.message)
        except Exception as error:
            log.exception("worker's duty failed", duty=duty.__name__.strip("_"), error=repr(error))

    def _beat(self) -> None:
        now = self.means.clock()
        if now < self._next_beat <= now + self.beat_seconds:
            return
        self._next_beat = now + self.beat_seconds
        self._beats += 1
        self._save_tails()
        self._renew(now)
        self._take_over(now)
        self._enforce_limits()
        if self._beats % 5 == 1:
            self.store.announce(WorkerInfo(id=self.means.worker, heartbeat_at=now, capabilities=self._capabilities()))
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            if self.retention is not None:
                self._submit_duty(self.retention.sweep)
            self._submit_duty(Sweeper(store=self.store, executors=self.executors, folders=self.means.folders).sweep)

    def _claim(self) -> None:
        now = self.means.clock()
        for kind, slots in self.slots.items():
            free = slots - sum(1 for drive in self._drives.values() if drive.job.kind is kind)
            if free > 0:
                until = now + self.lease_seconds
                claimed = self.store.claim(
                    self.means.worker, (kind,), free, now=now, until=until, most_each=self.most_each
                )
                for job in claimed:
                    self._hold(job)

    def _take_over(self, now: float) -> None:
        """Drive jobs whose worker died or stopped, as the same attempt; at once where it provably died."""
        for dead in self.presence.dead() if self.presence is not None else ():
            log.info("worker died", worker=dead)
            self.store.release(dead)
        for job in self.store.take_over(self.means.worker, 1000, now=now, until=now + self.lease_seconds):
            held = self._drives.get(job.id)
            if held is not None and held.stage is not Stage.GONE and held.job.key == job.key:
                held.job = job  # our own, renewed too late: it goes on as it stands now
                continue
            log.info("job taken over", job=job.id, state=job.state.value)
            self._hold(job)

    def _hold(self, job: Job) -> None:
        executor = self.placement[job.kind]
        if job.handle is not None:
            executor = self.executors.get(job.handle.executor, executor)
        drive = Drive(means=self.means, job=job, executor=executor)
        self._drives[job.id] = drive
        if job.state is State.CANCELING:
            self._run(drive, drive.cancel)
        else:
            self._run(drive, drive.begin)

    def _cancel(self) -> None:
        for job in self.store.cancelling(self.means.worker):
            drive = self._drives.get(job.id)
            if drive is None:
                self._hold(job)
                continue
            if drive.job.state is not State.CANCELING:
                drive.job = job
            if drive.stage is Stage.PREPARING:
                self._submit_duty(drive.cancel, drive)
            elif drive.retry_at <= self.means.clock():
                self._run(drive, drive.cancel)

    def _look(self) -> None:
        """Ask each executor about the handles that are due, all in one call."""
        with self._lock:
            woken, self._woken = self._woken, set()
            self._woken |= woken & {drive.handle for drive in self._drives.values() if drive.job.id in self._busy}
        everything = self._beats % LOOK_AT_ALL_EVERY == 0
        due: dict[str, dict[Handle, Drive]] = {}
        for drive in list(self._drives.values()):
            if drive.stage is Stage.WATCHING and drive.handle is not None and drive.job.id not in self._busy:
                polled = everything or not drive.executor.capabilities.wakes or drive.handle not in self._known
                if polled or drive.handle in woken:
                    due.setdefault(drive.handle.executor, {})[drive.handle] = drive
        for name, drives in due.items():
            try:
                self._look_at(self.executors[name], drives)
            except Unavailable as error:  # the other executors are looked at all the same
                log.warning("worker waits", duty="look", executor=name, error=error.message)

    def _look_at(self, executor: Executor, drives: Mapping[Handle, Drive]) -> None:
        handles = list(drives)
        size = executor.capabilities.observe_batch
        for start in range(0, len(handles), size):
            batch = handles[start : start + size]
            seen = executor.observe(batch)
            for handle in batch:
                self._take_in(drives[handle], seen.get(handle, Observation(phase=Phase.UNSEEN)))

    def _take_in(self, drive: Drive, seen: Observation) -> None:
        over = drive.look(seen)
        waits = over and drive.retry_at > self.means.clock()
        if drive.handle is not None and seen.phase is not Phase.UNSEEN and not waits:
            self._known.add(drive.handle)
        if over and not waits:
            self._run(drive, lambda: drive.finish(seen))

    def _go_on(self) -> None:
        """Try again what had to wait, and let go of what is done."""
        now = self.means.clock()
        for drive in list(self._drives.values()):
            if drive.job.id in self._busy:
                continue
            if drive.stage is Stage.GONE:
                self._let_go(drive)
            elif drive.stage is Stage.PREPARING and drive.retry_at <= now and drive.job.state is not State.CANCELING:
                self._run(drive, drive.begin)

    def _let_go(self, drive: Drive) -> None:
        self._drives.pop(drive.job.id, None)
        if drive.handle is not None:
            self._known.discard(drive.handle)
        self._signal.set()  # a slot is free

    # -- the beat's parts --------------------------------------------------------------------------------------

    def _save_tails(self) -> None:
        """Save what running steps wrote since the last beat, many jobs in one transaction."""
        drives = list(self._drives.values())
        for first in range(0, len(drives), _TAILS_AT_ONCE):
            some = drives[first : first + _TAILS_AT_ONCE]
            news = {drive.job.id: tails for drive in some if (tails := drive.live_tails())}
            if news:
                self.store.save_tails(news, lease_owner=self.means.worker)
            for drive in some:
                if drive.job.id in news:
                    drive.tails_saved()

    def _renew(self, now: float) -> None:
        if not self._drives or now < self._next_renewal <= now + self.lease_seconds:
            return
        self._next_renewal = now + self.lease_seconds / 3
        kept = self.store.renew(self.means.worker, list(self._drives), until=now + self.lease_seconds)
        for job_id in set(self._drives) - kept:
            drive = self._drives[job_id]
            if job_id not in self._busy and drive.stage is not Stage.GONE:
                log.warning("lease lost", job=job_id)
                drive.stage = Stage.GONE

    def _enforce_limits(self) -> None:
        for drive in list(self._drives.values()):
            if drive.overrun():
                self._run(drive, drive.stop)

    def _capabilities(self) -> JsonObject:
        """Say what new tasks can be given here, for the services' checks and for service-info."""
        able = self.placement[Kind.TASK].capabilities
        return {
            "executor": able.name,
            "uses_image": able.uses_image,
            "shared_filesystem": able.shared_filesystem,
            "backend_parameters": sorted(able.backend_parameters | PARAMETERS),
            "cpu_cores": able.cpu_cores,
            "ram_bytes": able.ram_bytes,
            "disk_bytes": able.disk_bytes,
            "slots": able.slots,
            "stages": able.stages,
            "runs": able.runs,
        }

    # -- the pool ----------------------------------------------------------------------------------------------

    def _run(self, drive: Drive, action: Callable[[], None]) -> None:
        """Run a drive's blocking action unless one is under way."""
        if drive.job.id in self._busy:
            return
        self._busy.add(drive.job.id)
        self._submit_duty(action, drive, frees=True)

    def _submit_duty(self, action: Callable[[], None], drive: Drive | None = None, *, frees: bool = False) -> None:
        def run() -> None:
            with self._acting:
                self._actions += 1
            try:
                action()
            except Exception as error:
                log.exception("drive failed", job=None if drive is None else drive.job.id, error=repr(error))
                if drive is not None:
                    drive.stage = Stage.GONE  # its lease runs out, and it is taken over
            finally:
                if frees and drive is not None:
                    self._busy.discard(drive.job.id)
                self._signal.set()
                with self._acting:
                    self._actions -= 1
                    self._acting.notify_all()

        self.pool.submit(run)

    def held(self) -> Sequence[str]:
        """Return the ids of the jobs that this worker drives now."""
        return tuple(self._drives)
