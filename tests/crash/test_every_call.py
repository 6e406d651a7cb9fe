"""The worker dies before and after every single call of a port; after a restart the promise holds.

The method is SQLite's: fail at the first moment, the second, the third, … until the story survives untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import Death, Life, World
from weft.model import FileType, Input, Output, Task
from weft.states import State
from weft.store.store import Store
from weft.worker import Worker

MOST_MOMENTS = 400


def plain_task(data: Path) -> Task:
    return a_task(
        steps=(a_step(), a_step(command=("echo", "again"), stdout="/out/said.txt")),
        inputs=(Input(path="/in/a.txt", content="a"),),
        outputs=(
            Output(path="/out/said.txt", url=f"file://{data.parent}/files-{data.name}/said.txt", type=FileType.FILE),
        ),
    )


def completes(world: World, worker: Worker, job_id: str) -> None:
    world.turn(worker, 6)


def fails(world: World, worker: Worker, job_id: str) -> None:
    world.turn(worker, 6)


def is_cancelled(world: World, worker: Worker, job_id: str) -> None:
    world.turn(worker, 3)
    world.store.request_cancel(job_id, now=world.now)
    world.turn(worker, 4)


Story = Callable[[World, Worker, str], None]


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[int], World]]:
    stores: list[Store] = []

    def make(number: int) -> World:
        data = tmp_path / str(number)
        (tmp_path / f"files-{number}").mkdir()
        data.mkdir()
        store = Store(f"sqlite:///{data / 'weft.db'}")
        store.start()
        stores.append(store)
        return World(data, store)

    yield make
    for store in stores:
        store.stop()


@pytest.mark.parametrize(
    ("story", "command", "ends"),
    [
        (completes, ("echo", "hello"), {State.COMPLETE}),
        (fails, ("sh", "-c", "exit 3"), {State.EXECUTOR_ERROR}),
        (is_cancelled, ("sleep", "1000"), {State.CANCELED}),
    ],
    ids=["completes", "fails", "is cancelled"],
)
def test_the_promise_holds_after_a_death_at_every_moment(
    worlds: Callable[[int], World], story: Story, command: tuple[str, ...], ends: set[State]
) -> None:
    for moment in range(MOST_MOMENTS):
        world = worlds(moment)
        task = plain_task(world.data)
        task = a_task(steps=(a_step(command=command), *task.steps[1:]), inputs=task.inputs, outputs=task.outputs)
        job_id = world.store.create(a_new_job(task=task)).id
        life = Life(dies_at=moment)
        worker = world.new_worker(life)
        with suppress(Death):
            story(world, worker, job_id)
        if story is is_cancelled:  # the user's wish stands, whenever the worker died
            world.store.request_cancel(job_id, now=world.now)
        world.restart()
        ended = world.assert_the_promise([job_id])
        assert set(ended.values()) <= ends, f"died {life.last}: {ended}"
        if ends == {State.COMPLETE}:
            assert (world.files / "said.txt").read_text() == "again\n", f"died {life.last}"
        if not life.dead:
            assert moment > 20, "the story passes more moments than this"
            return
    pytest.fail("the story did not survive in the end")


def test_a_worker_that_wakes_up_after_its_lease_cannot_move_the_job(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    job_id = world.store.create(a_new_job(task=a_task(steps=(a_step(command=("sleep", "1000")),)))).id
    paused = world.new_worker(Life())
    world.turn(paused, 2)
    world.now += 100
    second = world.new_worker(Life())
    world.turn(second, 2)
    world.backend.finish(f"{job_id}-1")
    world.turn(paused)
    job = world.store.get(job_id)
    assert job is not None
    assert (job.state, job.lease_owner) == (State.RUNNING, "worker-2")
    world.turn(second, 3)
    assert world.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


def test_two_workers_never_drive_one_job(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    ids = [world.store.create(a_new_job()).id for _ in range(20)]
    first, second = world.new_worker(Life()), world.new_worker(Life())
    for _ in range(6):
        world.turn(first)
        world.turn(second)
    assert set(world.assert_the_promise(ids).values()) == {State.COMPLETE}


def test_a_native_job_of_no_job_is_swept(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    job_id = world.store.create(a_new_job(task=a_task(steps=(a_step(command=("sleep", "1000")),)))).id
    worker = world.new_worker(Life())
    world.turn(worker, 3)
    world.store.request_cancel(job_id, now=world.now)
    world.turn(worker, 2)
    assert world.backend.known() == []
    world.assert_the_promise([job_id])
