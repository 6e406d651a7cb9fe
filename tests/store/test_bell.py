"""The bell: commits wake those who wait, also in other processes."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.builders import NOW, a_new_job, stored
from weft.states import State
from weft.store.bell import Bell
from weft.store.store import Store

WAIT = 10.0


@pytest.fixture
def hang() -> Iterator[Callable[[Path, Callable[[], None]], Bell]]:
    """Start a bell; it is stopped at the end."""
    with ExitStack() as stack:

        def start(folder: Path, heard: Callable[[], None]) -> Bell:
            bell = Bell(folder, heard)
            bell.start()
            stack.callback(bell.stop)
            return bell

        yield start


def test_a_ring_is_heard_by_all_others_and_not_by_the_ringer(tmp_path: Path, hang: Callable[..., Bell]) -> None:
    own, first, second = threading.Event(), threading.Event(), threading.Event()
    bell = hang(tmp_path, own.set)
    hang(tmp_path, first.set)
    hang(tmp_path, second.set)
    bell.ring()
    assert first.wait(WAIT)
    assert second.wait(WAIT)
    assert not own.is_set()


def test_a_path_that_is_too_long_for_an_address_rings_too(tmp_path: Path, hang: Callable[..., Bell]) -> None:
    folder = tmp_path / ("long" * 40)
    heard = threading.Event()
    hang(folder, heard.set)
    hang(folder, lambda: None).ring()
    assert heard.wait(WAIT)


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path, hang: Callable[..., Bell]) -> None:
    program = (
        "import os, sys; from pathlib import Path; from weft.store.bell import Bell;"
        " Bell(Path(sys.argv[1]), print).start(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert len(list(tmp_path.iterdir())) == 1
    bell = hang(tmp_path, lambda: None)
    bell.ring()
    assert len(list(tmp_path.iterdir())) == 1
    bell.stop()
    bell.stop()
    assert list(tmp_path.iterdir()) == []


def test_ringing_never_waits_for_who_does_not_listen(tmp_path: Path, hang: Callable[..., Bell]) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait(WAIT)

    hang(tmp_path, block)
    bell = hang(tmp_path, lambda: None)
    bell.ring()
    assert entered.wait(WAIT)
    for _ in range(1000):
        bell.ring()
    gate.set()


def test_a_bell_that_does_not_hang_is_silent(tmp_path: Path) -> None:
    bell = Bell(tmp_path, lambda: None)
    bell.ring()
    bell.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_listener_that_fails_goes_on_listening(tmp_path: Path, hang: Callable[..., Bell]) -> None:
    heard: list[threading.Event] = [threading.Event(), threading.Event()]
    calls = iter(heard)

    def listen() -> None:
        next(calls).set()
        raise ValueError("no")

    hang(tmp_path, listen)
    bell = hang(tmp_path, lambda: None)
    for event in heard:
        bell.ring()
        assert event.wait(WAIT)


@pytest.mark.parametrize(
    "change",
    [
        lambda store, job: store.create(a_new_job()),
        lambda store, job: store.request_cancel(job.id, now=NOW),
        lambda store, job: store.move(job.id, [State.RUNNING], State.QUEUED, now=NOW),
        lambda store, job: store.release("worker-1"),
    ],
    ids=["create", "cancel", "requeue", "release"],
)
def test_a_change_that_a_worker_waits_for_is_heard(
    open_store: Callable[[], Store], change: Callable[[Store, object], object]
) -> None:
    here, there = open_store(), open_store()
    job = stored(here, State.RUNNING)
    heard_here, heard_there = threading.Event(), threading.Event()
    here.on_change(heard_here.set)
    there.on_change(heard_there.set)
    change(here, job)
    assert heard_here.wait(WAIT)
    assert heard_there.wait(WAIT)


def test_a_create_wakes_another_process(url: str, store: Store) -> None:
    program = """
import sys, threading
from weft.model import Kind
from weft.store.store import Store
store, heard = Store(sys.argv[1]), threading.Event()
store.on_change(heard.set)
store.start()
print("ready", flush=True)
assert heard.wait(30)
(job,) = store.claim("w", [Kind.TASK], 5, now=1, until=2)
print(job.id, flush=True)
store.stop()
"""
    other = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    with other:
        assert other.stdout.readline().strip() == "ready"
        job = store.create(a_new_job())
        assert other.stdout.readline().strip() == job.id
    assert other.returncode == 0
