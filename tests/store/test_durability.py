"""An answer means on disk: whoever dies, what was answered is there, and what was not is whole or absent."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.builders import NOW, stored
from tests.store.databases import only_sqlite
from weft.errors import Unavailable
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store


def in_a_child(url: str, body: str, *, expected: int = 0) -> list[str]:
    """Run ``body`` in a process of its own, with ``store`` started, and return the lines it wrote."""
    lines = (
        "import os, resource, signal, sys, threading",
        "from tests.builders import *",
        "from weft.errors import Unavailable",
        "from weft.store.store import Store",
        "store = Store(sys.argv[1])",
        "store.start()",
        body,
    )
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expected, done.stderr
    return done.stdout.split()


def test_a_create_is_on_disk_before_it_returns(url: str, open_store: Callable[[], Store]) -> None:
    (job_id,) = in_a_child(url, "print(store.create(a_new_job()).id, flush=True); os._exit(9)", expected=9)
    assert open_store().get(job_id) is not None


def test_a_move_is_on_disk_with_its_event_before_it_returns(url: str, open_store: Callable[[], Store]) -> None:
    body = "print(stored(store, State.COMPLETE).id, flush=True); os._exit(9)"
    (job_id,) = in_a_child(url, body, expected=9)
    store = open_store()
    job = store.get(job_id)
    assert job is not None
    assert job.state is State.COMPLETE
    assert store.events(job_id)[-1].target is State.COMPLETE


def test_a_kill_amid_writes_leaves_whole_jobs_and_all_that_were_answered(
    url: str, open_store: Callable[[], Store]
) -> None:
    body = """
answered = threading.Semaphore(0)
def work():
    while True:
        job = store.create(a_new_job(messages=["first"]))
        os.write(1, (job.id + "\\n").encode())
        answered.release()
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
for _ in range(200):
    answered.acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""
    answered = in_a_child(url, body, expected=-9)
    store = open_store()
    assert len(answered) >= 200
    there = {job.id for job in store.page(Kind.TASK, Filters(), 100_000, None).jobs}
    assert set(answered) <= there
    assert all(len(events) == 2 for events in store.events_of(sorted(there)).values())


@only_sqlite
def test_a_disk_that_fails_is_unavailable_and_what_was_answered_stays(
    url: str, open_store: Callable[[], Store]
) -> None:
    """A limit on file sizes makes the disk fail in earnest, in the middle of the write-ahead log."""
    body = """
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    while True:
        print(store.create(a_new_job(document={"executors": [], "description": "x" * 5000})).id, flush=True)
except Unavailable as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store.create(a_new_job()).id, flush=True)
    os._exit(7)
"""
    answered = in_a_child(url, body, expected=7)
    assert len(answered) > 5
    store = open_store()
    assert [job.id for job in store.page(Kind.TASK, Filters(), 1000, None).jobs] == answered[::-1]


def test_a_dead_workers_jobs_are_taken_over_by_the_next(url: str, open_store: Callable[[], Store]) -> None:
    body = "print(stored(store, State.RUNNING, worker='dead').id, flush=True); os._exit(9)"
    (job_id,) = in_a_child(url, body, expected=9)
    (job,) = open_store().take_over("next", 5, now=NOW + 31, until=NOW + 61)
    assert (job.id, job.state, job.attempt) == (job_id, State.RUNNING, 1)


def test_what_one_store_writes_another_reads_at_once(open_store: Callable[[], Store]) -> None:
    first, second = open_store(), open_store()
    job = stored(first, State.RUNNING)
    assert second.get(job.id) == job
    assert second.request_cancel(job.id, now=NOW) == first.get(job.id)


def test_a_folder_that_cannot_be_made_is_unavailable() -> None:
    store = Store("sqlite:////dev/null/weft.db")
    with pytest.raises(Unavailable):
        store.start()
    with pytest.raises(Unavailable):
        store.get("any")
    assert not store.ready()
    store.stop()
