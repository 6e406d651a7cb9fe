"""The worker dies before and after every single call of a port; after a restart the promise holds.

The method is SQLite's: fail at the first moment, the second, the third, … until the story survives untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import Death, Held, Life, World
from weft.errors import Unavailable
from weft.folders import AttemptFolder
from weft.model import FileType, Input, Job, Kind, Output, Task
from weft.preparation import Preparation, Prepared
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


def said(world: World, job_id: str) -> str:
    """Return the job's system log."""
    return "\n".join(event.message for event in world.store.events(job_id) if event.message)


def test_a_worker_keeps_its_leases_however_short_they_are(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    job_id = world.store.create(a_new_job(task=a_task(steps=(a_step(command=("sleep", "1000")),)))).id
    worker, other = world.new_worker(Life(), lease_seconds=2), world.new_worker(Life(), lease_seconds=2)
    for _ in range(10):
        world.turn(worker)
        other.turn()
    assert "took the job over" not in said(world, job_id)
    world.backend.finish(f"{job_id}-1")
    world.turn(worker, 3)
    assert world.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


def test_a_lease_that_was_renewed_too_late_does_not_make_a_second_drive(worlds: Callable[[int], World]) -> None:
    world, pool = worlds(0), Held()
    job_id = world.store.create(a_new_job(task=plain_task(world.data))).id
    worker = world.new_worker(Life(), pool=pool)
    world.turn(worker)  # claimed; what prepares it waits
    world.now += 100
    world.turn(worker)
    for _ in range(8):
        pool.release()
        world.turn(worker)
    assert said(world, job_id).count("worker-1 took the job over") <= 1
    assert world.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


class Meanwhile:
    """A preparation after which, before its work is submitted, something happens elsewhere."""

    def __init__(self, real: Preparation, elsewhere: Callable[[Path], None]) -> None:
        self._real, self._elsewhere = real, elsewhere
        self.collect, self.close = real.collect, real.close

    def prepare(self, job: Job, folder: AttemptFolder) -> Prepared:
        prepared = self._real.prepare(job, folder)
        self._elsewhere(folder.mounts)
        return prepared


def test_a_worker_that_was_paused_before_it_prepared_leaves_the_other_ones_folder_alone(
    worlds: Callable[[int], World],
) -> None:
    world, pool, seen = worlds(0), Held(), []

    def wake_up(mounts: Path) -> None:
        for _ in range(2):
            seen.append(sorted(path.stat().st_ino for path in mounts.rglob("*")))
            pool.release()

    job_id = world.store.create(a_new_job(task=plain_task(world.data))).id
    paused = world.new_worker(Life(), pool=pool)
    world.turn(paused)
    world.now += 100
    second = world.new_worker(Life())
    preparations = second.means.preparations
    preparations[Kind.TASK] = Meanwhile(preparations[Kind.TASK], wake_up)
    world.turn(second, 6)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 2
    world.turn(paused)
    assert world.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


def test_a_worker_that_was_paused_while_it_prepared_clears_what_came_too_late(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    second = world.new_worker(Life())

    def the_other_does_it_all(mounts: Path) -> None:
        world.now += 100
        world.turn(second, 6)
        mounts.mkdir()  # what the first one still writes when it wakes up

    job_id = world.store.create(a_new_job(task=plain_task(world.data))).id
    paused = world.new_worker(Life())
    preparations = paused.means.preparations
    preparations[Kind.TASK] = Meanwhile(preparations[Kind.TASK], the_other_does_it_all)
    world.turn(paused, 2)
    assert world.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


def test_a_backend_that_is_away_is_not_asked_to_cancel_again_and_again(worlds: Callable[[int], World]) -> None:
    world = worlds(0)
    job_id = world.store.create(a_new_job(task=a_task(steps=(a_step(command=("sleep", "1000")),)))).id
    worker = world.new_worker(Life())
    world.turn(worker, 2)
    executor = worker.executors["scripted"]
    for _ in range(4):
        executor.fail_at("cancel", Unavailable("the backend is away"))  # type: ignore[attr-defined]
    world.store.request_cancel(job_id, now=world.now)
    world.turn(worker, 10)
    asked = [name for name, _ in executor.calls if name == "cancel"]  # type: ignore[attr-defined]
    assert len(asked) == 4, "after pauses of 1, 2 and 5 seconds"
    world.turn(worker, 20)
    assert world.assert_the_promise([job_id]) == {job_id: State.CANCELED}


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_that_jumps_by_an_hour_starts_no_job_twice_and_ends_each_once(
    worlds: Callable[[int], World], jump: float
) -> None:
    world = worlds(0)
    task = a_task(steps=(a_step(command=("sleep", "1000")),))
    job_ids = [world.store.create(a_new_job(task=task)).id for _ in range(3)]
    first = world.new_worker(Life())
    world.turn(first, 3)
    second = world.new_worker(Life())
    world.now += jump
    for _ in range(4):
        world.turn(second)
        world.turn(first)
    late = world.store.create(a_new_job(task=task, created_at=world.now)).id
    for _ in range(3):
        world.turn(first)
        world.turn(second)
    for key in world.backend.known():
        world.backend.finish(key)
    for _ in range(12):
        world.turn(second)
        world.turn(first)
    ended = world.assert_the_promise([*job_ids, late])
    assert set(ended.values()) == {State.COMPLETE}
