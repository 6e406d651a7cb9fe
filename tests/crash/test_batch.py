"""AWS Batch under a worker that dies before and after every call to it and to storage, and under its faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from executors.aws_batch import AwsBatchExecutor
from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import LEASE_SECONDS, Death, Inline, Life, Mortal, World
from tests.fake_batch import FakeAccount, FakeClient, FakeObjects
from weft.config import Settings
from weft.dispatch import Means
from weft.folders import Folders
from weft.model import Kind
from weft.prepare import HandedOver
from weft.sections.backends import AwsBatchSettings
from weft.staging.ferry import Ferry
from weft.staging.stagers import installed
from weft.states import State
from weft.store.store import Store
from weft.worker import Pool, Worker

MOST_MOMENTS = 200
_FREE = frozenset({"start", "stop"})


@dataclass
class BatchWorld(World):
    """A world whose tasks go to AWS Batch."""

    account: FakeAccount = field(default_factory=FakeAccount)

    def settings(self) -> Settings:
        batch = AwsBatchSettings(queue="weft", storage="s3://bucket/jobs", image="weft-staging", platform="EC2")
        return Settings(data=self.data, aws_batch=batch)

    def new_worker(self, life: Life, *, lease_seconds: float = LEASE_SECONDS, pool: Pool | None = None) -> Worker:
        self.workers += 1
        client: Any = Mortal(FakeClient(self.account), life)
        objects: Any = Mortal(FakeObjects(self.account), life)
        executor = Mortal(AwsBatchExecutor(self.settings(), client, objects), life, free=_FREE)
        store = Mortal(self.store, life, free=frozenset({"on_change"}))
        folders = Folders(self.data)
        handed_over = HandedOver(ferry=Ferry(folders=folders, stagers=installed(self.settings()), storage=None))
        means = Means(
            store=store,  # type: ignore[arg-type]
            folders=folders,
            clock=self.clock,
            worker=f"worker-{self.workers}",
            preparations={Kind.TASK: handed_over},
            time_limits={Kind.TASK: None},
            log_tail_bytes=1000,
        )
        return Worker(
            means=means,
            placement={Kind.TASK: executor},  # type: ignore[dict-item]
            executors={"aws_batch": executor},  # type: ignore[dict-item]
            slots={Kind.TASK: 100},
            pool=pool or Inline(),
            lease_seconds=lease_seconds,
        )

    def assert_the_promise(self, job_ids: list[str]) -> dict[str, State]:
        ended = super().assert_the_promise(job_ids)
        assert self.account.live() == [], "a Batch job outlived its job"
        assert all(times == 1 for times in self.account.ran.values()), f"ran twice: {self.account.ran}"
        assert list(self.account.objects) == [], "something is left in storage"
        return ended


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[int], BatchWorld]]:
    stores: list[Store] = []

    def make(number: int) -> BatchWorld:
        data = tmp_path / str(number)
        data.mkdir()
        store = Store(f"sqlite:///{data / 'weft.db'}")
        store.start()
        stores.append(store)
        return BatchWorld(data, store)

    yield make
    for store in stores:
        store.stop()


@pytest.mark.parametrize(
    ("command", "cancels", "ends"),
    [
        (("echo", "hello"), False, State.COMPLETE),
        (("sh", "-c", "exit 3"), False, State.EXECUTOR_ERROR),
        (("sleep", "1000"), True, State.CANCELED),
    ],
    ids=["completes", "fails", "is cancelled"],
)
def test_the_promise_holds_after_a_death_at_every_call(
    worlds: Callable[[int], BatchWorld], command: tuple[str, ...], cancels: bool, ends: State
) -> None:
    for moment in range(MOST_MOMENTS):
        world = worlds(moment)
        job_id = world.store.create(a_new_job(task=a_task(steps=(a_step(command=command),)))).id
        life = Life(dies_at=moment)
        worker = world.new_worker(life)
        with suppress(Death):
            world.turn(worker, 5)
            if cancels:
                world.store.request_cancel(job_id, now=world.now)
                world.turn(worker, 4)
        if cancels:
            world.store.request_cancel(job_id, now=world.now)
        world.restart()
        assert world.assert_the_promise([job_id]) == {job_id: ends}, f"died {life.last}"
        if not life.dead:
            assert moment > 20, "the story passes more moments than this"
            return
    pytest.fail("the story did not survive in the end")


@pytest.mark.parametrize("kind", ["500", "throttle", "lose"])
@pytest.mark.parametrize("operation", ["submit", "describe", "terminate", "register"])
def test_the_promise_holds_whatever_call_fails_throttles_or_loses_its_answer(
    worlds: Callable[[int], BatchWorld], operation: str, kind: str
) -> None:
    world = worlds(0)
    world.account.faults = {operation: [kind] * 3}
    goes = world.store.create(a_new_job()).id
    stops = world.store.create(a_new_job(task=a_task(steps=(a_step(command=("sleep", "1000")),)))).id
    worker = world.new_worker(Life())
    world.turn(worker, 30)
    world.store.request_cancel(stops, now=world.now)
    world.turn(worker, 60)
    assert world.assert_the_promise([goes, stops]) == {goes: State.COMPLETE, stops: State.CANCELED}
    assert world.account.calls["submit"] <= 2 + 3
