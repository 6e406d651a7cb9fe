"""What happens to a task whose native job is lost, on an executor that can be told to lose it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import Life, World
from weft.model import Job
from weft.ports import Failure
from weft.states import State
from weft.store.store import Store
from weft.worker import Worker

LOST = Failure(reason="preempted: the node was taken back", retry=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "files-data").mkdir()
    (tmp_path / "data").mkdir()
    store = Store(f"sqlite:///{tmp_path / 'data' / 'weft.db'}")
    store.start()
    yield World(tmp_path / "data", store)
    store.stop()


def running(world: World, *, max_attempts: int) -> tuple[Worker, str]:
    """Start a task that runs until it is told to end."""
    sleeps = a_task(steps=(a_step(command=("sleep", "60")),))
    job = world.store.create(a_new_job(task=sleeps, max_attempts=max_attempts))
    worker = world.new_worker(Life())
    world.turn(worker, 4)
    assert now(world, job.id).state is State.RUNNING
    return worker, job.id


def now(world: World, job_id: str) -> Job:
    job = world.store.get(job_id)
    assert job is not None
    return job


def test_a_preempted_task_is_tried_again_as_often_as_it_asked(world: World) -> None:
    worker, job_id = running(world, max_attempts=2)
    world.backend.fail(now(world, job_id).key, LOST)
    world.turn(worker, 8)
    assert (now(world, job_id).state, now(world, job_id).attempt) == (State.RUNNING, 2)
    world.backend.fail(now(world, job_id).key, LOST)
    world.turn(worker, 8)
    assert (now(world, job_id).state, now(world, job_id).attempt) == (State.SYSTEM_ERROR, 2)
    said = [event.message for event in world.store.events(job_id) if event.message]
    assert len([line for line in said if "preempted" in line]) == 2
    world.assert_the_promise([job_id])


def test_without_retries_a_preempted_task_ends_and_says_why(world: World) -> None:
    worker, job_id = running(world, max_attempts=1)
    world.backend.fail(now(world, job_id).key, LOST)
    world.turn(worker, 8)
    assert now(world, job_id).state is State.SYSTEM_ERROR
    assert "preempted" in str([event.message for event in world.store.events(job_id)])


def test_the_next_attempt_waits_a_while(world: World) -> None:
    worker, job_id = running(world, max_attempts=5)
    world.backend.fail(now(world, job_id).key, LOST)
    while now(world, job_id).state is State.RUNNING:
        worker.turn()
    for _ in range(5):
        worker.turn()
    assert now(world, job_id).state is State.QUEUED
    world.now += 2.0
    world.turn(worker, 3)
    assert now(world, job_id).attempt == 2
