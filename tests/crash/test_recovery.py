"""Recovery: who provably died is not waited for, and a thousand running jobs are adopted as they are."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import Death, Life, World
from tests.live import LiveWeft
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store

MANY = 1000
#: Longer than any test: a lease that nobody waits for.
FOR_EVER = "3600"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], LiveWeft]]:
    """Start processes of one installation whose leases last for ever."""
    started: list[LiveWeft] = []

    def one(command: str) -> LiveWeft:
        env = {"WEFT_EXECUTOR": "process", "WEFT_LEASE_SECONDS": FOR_EVER}
        started.append(LiveWeft(tmp_path / "data", env=env, command=command))
        return started[-1].start()

    yield one
    for process in reversed(started):
        process.end()


def sleeps(server: LiveWeft, script: str) -> str:
    task_id = server.create({"executors": [{"image": "busybox", "command": ["sh", "-c", script]}]})
    server.wait(task_id, until={"RUNNING"})
    return task_id


def test_the_next_start_takes_over_at_once(start: Callable[[str], LiveWeft]) -> None:
    server = start("serve")
    ends, runs_on = sleeps(server, "sleep 1; echo over"), sleeps(server, "sleep 1000")
    server.kill()
    server.start()
    assert server.wait(ends, seconds=30)["logs"][0]["logs"][0]["stdout"] == "over\n"
    server.cancel(runs_on)
    assert server.wait(runs_on, seconds=30)["state"] == "CANCELED"
    server.assert_nothing_is_left()


def test_a_worker_beside_takes_over_at_once_and_never_from_one_that_only_stands_still(
    start: Callable[[str], LiveWeft],
) -> None:
    api, first = start("api"), start("work")
    task_id = sleeps(api, "sleep 1000")
    second = start("work")
    first.pause()
    lasts = api.create({"executors": [{"image": "busybox", "command": ["true"]}]})
    api.wait(lasts)  # the second one works
    assert not [line for line in api.task(task_id)["logs"][0]["system_logs"] if "took the job over" in line]
    first.kill()
    deadline = time.monotonic() + 30
    while not [line for line in api.task(task_id)["logs"][0]["system_logs"] if "took the job over" in line]:
        assert time.monotonic() < deadline, second.log()
        time.sleep(0.05)
    api.cancel(task_id)
    assert api.wait(task_id, seconds=30)["state"] == "CANCELED"
    api.assert_nothing_is_left()


def test_a_thousand_running_jobs_are_adopted(tmp_path: Path) -> None:
    (tmp_path / "files-data").mkdir()
    store = Store(f"sqlite:///{tmp_path / 'data' / 'weft.db'}")
    store.start()
    try:
        world = World(tmp_path / "data", store)
        task = a_task(steps=(a_step(command=("sleep", "1000")),))
        job_ids = [store.create(a_new_job(task=task)).id for _ in range(MANY)]
        life = Life()
        first = world.new_worker(life)
        first.slots = {Kind.TASK: MANY}
        world.turn(first, 2)
        assert len(store.page(Kind.TASK, Filters(state=State.RUNNING), 2048, None).jobs) == MANY
        life.dead = True
        with suppress(Death):
            first.turn()
        world.now += 31
        memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        second = world.new_worker(Life())
        second.slots = {Kind.TASK: MANY}
        world.turn(second)
        seconds, grown = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert sorted(second.held()) == sorted(job_ids)
        for key in world.backend.known():
            world.backend.finish(key)
        world.turn(second, 12)
        assert set(world.assert_the_promise(job_ids).values()) == {State.COMPLETE}
        sys.stdout.write(f"\nadopted {MANY} jobs in {seconds:.1f} s of processor time with {grown >> 10} MB more\n")
        assert grown >> 10 < 200
    finally:
        store.stop()
