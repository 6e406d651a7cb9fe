"""A worker that can die at any call of a port, and the promise that must hold whatever happens.

Everything is in one thread and the clock is the test's, so a story is the same each time: the n-th call of a port is
always the same call. ``Life`` counts calls and dies before or after the n-th one; from then on every call of a dead
worker fails, as nothing reaches the world from a process that is gone.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executors.scripted import ScriptedBackend, ScriptedExecutor
from tests.builders import NOW
from tests.crash.promise import ends_of
from weft.config import Settings
from weft.dispatch import Means
from weft.folders import Folders
from weft.model import Job, Kind, Submission
from weft.prepare import TaskPreparation
from weft.rescue import Sweeper
from weft.sections.transfer import FetchSettings
from weft.staging.stagers import installed
from weft.states import TERMINAL, State
from weft.store.store import Filters, Store
from weft.worker import Pool, Worker

LEASE_SECONDS = 30.0
_EVERYTHING = Filters()


class Death(BaseException):
    """The process is gone. No ``except Exception`` of weft survives it."""


@dataclass
class Life:
    """Counts the calls of ports; dies at call ``dies_at``, before it (even) or after it (odd)."""

    dies_at: int | None = None
    calls: int = 0
    dead: bool = False
    last: str = ""

    def moment(self, name: str) -> None:
        """Pass one moment before or after a call."""
        if self.dead:
            raise Death(name)
        self.last = name
        if self.calls == self.dies_at:
            self.dead = True
            raise Death(name)
        self.calls += 1


class Mortal:
    """Stands before an object and lets every call of it be the last one."""

    def __init__(self, target: Any, life: Life, *, free: frozenset[str] = frozenset()) -> None:
        self._target, self._life, self._free = target, life, free

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or name in self._free:
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._life.moment(f"before {name}")
            result = value(*args, **kwargs)
            self._life.moment(f"after {name}")
            return result

        return call


class Inline:
    """A pool that runs everything at once, in the thread that asks."""

    def submit(self, action: Callable[[], None]) -> None:
        action()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        return None


class Held:
    """A pool that runs nothing before ``release``: the process stands still in between."""

    def __init__(self) -> None:
        self._actions: list[Callable[[], None]] = []

    def submit(self, action: Callable[[], None]) -> None:
        self._actions.append(action)

    def release(self) -> None:
        actions, self._actions = self._actions, []
        for action in actions:
            action()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        return None


class CountingBackend(ScriptedBackend):
    """Counts how often each key was started."""

    __slots__ = ("started",)

    def submit(self, work: Submission) -> None:
        if not hasattr(self, "started"):
            self.started: Counter[str] = Counter()
        if work.key not in self.known():
            self.started[work.key] += 1
        super().submit(work)


@dataclass
class World:
    """One data folder, one backend, one clock; workers come and go."""

    data: Path
    store: Store
    backend: CountingBackend = field(default_factory=CountingBackend)
    now: float = NOW
    workers: int = 0

    @property
    def files(self) -> Path:
        """Return the folder that tasks may name."""
        return self.data.parent / f"files-{self.data.name}"

    def clock(self) -> float:
        return self.now

    def settings(self) -> Settings:
        return Settings(data=self.data, file_roots=(self.files,), fetch=FetchSettings())

    def new_worker(self, life: Life, *, lease_seconds: float = LEASE_SECONDS, pool: Pool | None = None) -> Worker:
        """Make a worker as ``wiring`` does, with mortal ports."""
        self.workers += 1
        executor = Mortal(ScriptedExecutor(self.backend), life, free=frozenset({"start", "stop"}))
        store = Mortal(self.store, life, free=frozenset({"on_change"}))
        folders = Folders(self.data)
        staging = TaskPreparation(stagers=installed(self.settings()), folders=folders)
        means = Means(
            store=store,  # type: ignore[arg-type]
            folders=folders,
            clock=self.clock,
            worker=f"worker-{self.workers}",
            preparations={Kind.TASK: Mortal(staging, life)},  # type: ignore[dict-item]
            time_limits={Kind.TASK: None},
            log_tail_bytes=1000,
        )
        worker = Worker(
            means=means,
            placement={Kind.TASK: executor},  # type: ignore[dict-item]
            executors={"scripted": executor},  # type: ignore[dict-item]
            slots={Kind.TASK: 100},
            pool=pool or Inline(),
            lease_seconds=lease_seconds,
        )
        executor.start(worker.wake)
        return worker

    def turn(self, worker: Worker, times: int = 1) -> None:
        """Let a worker do what is due, a beat at a time."""
        for _ in range(times):
            worker.turn()
            self.now += 1.0

    def restart(self) -> Worker:
        """Start a new worker after the leases of the dead one have run out, and let it settle everything."""
        self.now += LEASE_SECONDS + 1
        worker = self.new_worker(Life())
        for _ in range(60):
            self.turn(worker)
            if not worker.held() and not self.open_jobs():
                break
        Sweeper(store=self.store, executors=worker.executors, folders=Folders(self.data)).sweep()
        return worker

    def open_jobs(self) -> list[Job]:
        """Return the jobs that have not ended."""
        pages = self.store.page(Kind.TASK, _EVERYTHING, 1000, None)
        return [job for job in pages.jobs if job.state not in TERMINAL]

    def assert_the_promise(self, job_ids: list[str]) -> dict[str, State]:
        """Check the promise of ``docs/``: one terminal state each, legal moves only, nothing native is left."""
        ended = ends_of(self.store, job_ids)
        assert self.backend.known() == [], "a native job outlived its job"
        assert sorted(self.data.glob("jobs/*/*/mounts")) == [], "the folder of an ended job was not cleared"
        assert Folders(self.data).marked() == []
        started = getattr(self.backend, "started", Counter())
        assert all(count == 1 for count in started.values()), f"started twice: {started}"
        return ended
