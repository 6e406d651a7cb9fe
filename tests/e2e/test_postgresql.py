"""Several API and worker processes on one PostgreSQL: each task is done once, and a worker's death stops nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveWeft
from tests.testbeds import postgres
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store


@pytest.fixture
def database() -> Iterator[str]:
    missing = postgres.missing_tools()
    if missing:
        pytest.skip(missing)
    with postgres.private_server(fsync="on", full_page_writes="on") as server:
        yield server.url(server.create_database())


@pytest.fixture
def started(database: str, start_weft: Callable[..., LiveWeft], tmp_path: Path) -> Callable[[str, str], LiveWeft]:
    """Start one more process on the database and on the data folder of all; its log lies in a folder of its own."""

    def start(command: str, name: str) -> LiveWeft:
        data = ("--data", str(tmp_path / "shared"))
        flags = (*data, "--database", database, "--executor", "process", "--max-running", "4")
        return start_weft(*flags, name=name, command=command, env={"WEFT_LEASE_SECONDS": "2"})

    return start


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    store.start()
    yield store
    store.stop()


def a_task(number: int, script: str = "") -> dict[str, object]:
    command = ["sh", "-c", f"{script} echo {number}"]
    return {"executors": [{"image": "busybox", "command": command}], "tags": {"number": str(number)}}


def check(database: str) -> str:
    argv = [sys.executable, "-m", "weft.cli", "db", "check", "--database", database]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_apis_and_two_workers_do_fifty_tasks_once_each(
    database: str, started: Callable[[str, str], LiveWeft], store: Store
) -> None:
    apis = [started("api", "api-1"), started("api", "api-2")]
    for name in ("work-1", "work-2"):
        started("work", name)
    ids = [apis[number % 2].create(a_task(number, "sleep 0.1;")) for number in range(50)]
    for number, task_id in enumerate(ids):
        task = apis[(number + 1) % 2].wait(task_id)  # the other one than made it
        assert task["state"] == "COMPLETE", task
        assert [log["stdout"] for attempt in task["logs"] for log in attempt["logs"]] == [f"{number}\n"]
    for events in store.events_of(ids).values():
        moves = Counter(event.target for event in events if event.target is not None)
        assert moves == {State.QUEUED: 1, State.INITIALIZING: 1, State.RUNNING: 1, State.COMPLETE: 1}
    assert "law: 50 jobs" in check(database)


def test_a_worker_that_is_killed_leaves_its_tasks_to_the_other(
    database: str, started: Callable[[str, str], LiveWeft], store: Store
) -> None:
    api, doomed = started("api", "api-1"), started("work", "work-1")
    ids = [api.create(a_task(number, "sleep 0.3;")) for number in range(12)]
    api.wait(ids[0], until={"RUNNING", "COMPLETE"})
    doomed.kill()
    started("work", "work-2")
    states = Counter(api.wait(task_id)["state"] for task_id in ids)
    assert states == {"COMPLETE": len(ids)}
    assert store.page(Kind.TASK, Filters(state=State.RUNNING), 50, None).jobs == ()
    assert "law: 12 jobs" in check(database)
