"""The writer: shared commits, operations undone alone, and nobody told a success that is not on disk."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import pytest

from tests.builders import a_new_job, create_soon, stored
from tests.store.databases import only_sqlite
from weft.errors import Bug, Unavailable
from weft.model import Job, Kind
from weft.states import State
from weft.store import dialect
from weft.store.link import Link
from weft.store.store import Filters, Store
from weft.store.writer import Writer


class FakeLink:
    """A connection that remembers what was sent and fails where it is told to."""

    def __init__(self, fails_at: str | None = None) -> None:
        self.sent: list[str] = []
        self.fails_at = fails_at
        self.closed = False
        self.in_transaction = False
        self.is_stale = False
        self.is_remote = False

    def send(self, text: str) -> None:
        self.sent.append(text)
        if text == self.fails_at:
            raise Unavailable("the disk is full")
        self.in_transaction = text != "COMMIT"

    def begin(self) -> None:
        self.send("BEGIN")

    def together(self) -> nullcontext[None]:
        return nullcontext()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def write() -> Iterator[Callable[..., Writer]]:
    """Start a writer over the fake links that are given, one after the other."""
    started: list[Writer] = []

    def start(*links: FakeLink, rang: Callable[[], None] = lambda: None) -> Writer:
        waiting: Any = iter(links)
        writer = Writer(lambda: next(waiting), rang)
        writer.start()
        started.append(writer)
        return writer

    yield start
    for writer in started:
        writer.stop()


def hold(writer: Writer) -> Callable[[], None]:
    """Keep the writer busy until the returned function is called."""
    entered, gate = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        entered.set()
        assert gate.wait(10)

    def let_go() -> None:
        gate.set()
        future.result(10)

    future = writer.submit(wait)
    assert entered.wait(10)
    return let_go


def test_what_waits_together_is_committed_together(store: Store) -> None:
    let_go = hold(store.writer)
    before = store.writer.commits
    futures: list[Future[Job]] = [create_soon(store, a_new_job()) for _ in range(100)]
    assert not any(future.done() for future in futures)
    let_go()
    assert len({future.result(10).id for future in futures}) == 100
    assert store.writer.commits == before + 2  # the one that was held, and one for all hundred


def test_a_batch_is_bounded(write: Callable[..., Writer]) -> None:
    link = FakeLink()
    writer = write(link)
    let_go = hold(writer)
    futures = [writer.submit(lambda link: None) for _ in range(300)]
    let_go()
    for future in futures:
        future.result(10)
    assert link.sent.count("COMMIT") == 3


def test_an_operation_that_fails_is_undone_alone(store: Store) -> None:
    def half(link: Link) -> None:
        link.send("UPDATE jobs SET owner = 'mallory'")
        raise ValueError("no")

    let_go = hold(store.writer)
    first = create_soon(store, a_new_job())
    broken = store.writer.submit(half)
    last = create_soon(store, a_new_job())
    let_go()
    with pytest.raises(ValueError, match="no"):
        broken.result(10)
    assert [store.get(future.result(10).id) for future in (first, last)] == [first.result(), last.result()]


def test_when_the_commit_fails_nobody_is_told_a_success(write: Callable[..., Writer]) -> None:
    rings: list[int] = []
    broken, fresh = FakeLink(fails_at="COMMIT"), FakeLink()
    writer = write(broken, fresh, rang=lambda: rings.append(1))
    future = writer.submit(lambda link: "written", rings=True)
    with pytest.raises(Unavailable, match="the disk is full"):
        future.result(10)
    assert broken.closed
    assert rings == []
    assert writer.run(lambda link: "written", rings=True) == "written"
    assert fresh.sent == ["BEGIN", "COMMIT"]


@pytest.mark.parametrize("statement", ["BEGIN", "ROLLBACK", "SAVEPOINT operation", "ROLLBACK TO operation", "COMMIT"])
def test_the_writer_outlives_a_failure_anywhere(write: Callable[..., Writer], statement: str) -> None:
    def fail(_: object) -> None:
        raise ValueError("so that everything is undone, and done again")

    writer = write(FakeLink(fails_at=statement), FakeLink())
    with pytest.raises(Unavailable):
        writer.run(fail)
    assert writer.run(lambda link: 1) == 1


def test_a_batch_is_done_again_in_savepoints_only_when_an_operation_fails(write: Callable[..., Writer]) -> None:
    def fail(_: object) -> None:
        raise ValueError("no")

    link = FakeLink()
    writer = write(link)
    let_go = hold(writer)
    good, bad = writer.submit(lambda link: 1), writer.submit(fail)
    let_go()
    assert good.result(10) == 1
    with pytest.raises(ValueError, match="no"):
        bad.result(10)
    savepoint = ["SAVEPOINT operation", "RELEASE operation"]
    undone = ["SAVEPOINT operation", "ROLLBACK TO operation", "RELEASE operation"]
    assert link.sent[2:] == ["BEGIN", "ROLLBACK", "BEGIN", *savepoint, *undone, "COMMIT"]


def test_those_who_ask_for_the_same_are_served_at_once(write: Callable[..., Writer]) -> None:
    def doubled(_: object, numbers: Sequence[int]) -> list[int]:
        served.append(list(numbers))
        return [2 * number for number in numbers]

    served: list[list[int]] = []
    writer = write(FakeLink())
    let_go = hold(writer)
    first = [writer.submit_each(doubled, number) for number in (1, 2)]
    other = writer.submit(lambda link: "other")
    last = writer.submit_each(doubled, 3)
    let_go()
    assert [future.result(10) for future in (*first, other, last)] == [2, 4, "other", 6]
    assert served == [[1, 2], [3]]


def test_coroutines_are_told_in_one_turn_and_one_that_left_is_not_missed(write: Callable[..., Writer]) -> None:
    async def ask() -> None:
        let_go = hold(writer)
        asked = [writer.submit_soon(lambda link, numbers: list(numbers), number) for number in range(3)]
        asked[1].cancel()
        let_go()
        assert await asked[0] == 0
        assert asked[2].done()
        assert await asked[2] == 2

    writer = write(FakeLink())
    asyncio.run(ask())


def test_a_database_that_cannot_be_opened_is_unavailable_until_it_can(write: Callable[..., Writer]) -> None:
    writer = write()
    with pytest.raises(Unavailable):
        writer.run(lambda link: None)
    assert writer.alive


def test_an_operation_that_loses_the_transaction_fails_all_of_it(write: Callable[..., Writer]) -> None:
    """SQLite rolls everything back by itself when the disk is full."""
    link = FakeLink()
    writer = write(link, FakeLink())
    let_go = hold(writer)

    def lose(_: Link) -> None:
        link.in_transaction = False
        raise RuntimeError("rolled back")

    futures: list[Future[Any]] = [writer.submit(lambda link: 1), writer.submit(lose), writer.submit(lambda link: 2)]
    let_go()
    for future in futures:
        with pytest.raises(Unavailable):
            future.result(10)


def test_only_after_the_commit_is_anybody_rung(write: Callable[..., Writer]) -> None:
    link, rung = FakeLink(), threading.Event()
    sent: list[str] = []

    def ring() -> None:
        sent.extend(link.sent)
        rung.set()

    writer = write(link, rang=ring)
    writer.run(lambda link: None)
    assert not rung.is_set()
    writer.run(lambda link: None, rings=True)
    assert rung.wait(10)
    assert sent[-1] == "COMMIT"


def test_a_listener_that_fails_harms_nobody(store: Store) -> None:
    heard = threading.Event()

    def fail() -> None:
        raise ValueError("listener")

    store.on_change(fail)
    store.on_change(heard.set)
    store.create(a_new_job())
    assert heard.wait(10)
    assert store.ready()


def test_a_listener_that_writes_is_told_so_instead_of_waiting_for_ever(store: Store) -> None:
    caught: list[Exception] = []
    done = threading.Event()

    def listen() -> None:
        try:
            store.create(a_new_job())
        except Exception as error:
            caught.append(error)
        done.set()

    store.on_change(listen)
    store.create(a_new_job())
    assert done.wait(10)
    assert isinstance(caught[0], Bug)


@only_sqlite
def test_a_full_disk_is_unavailable_and_loses_nothing(store: Store) -> None:
    """``max_page_count`` is SQLite's own way to run out of room."""
    kept = [store.create(a_new_job()).id for _ in range(5)]
    store.writer.run(lambda link: link.send("PRAGMA max_page_count = 1"))
    with pytest.raises(Unavailable, match="the disk is full"):
        store.create(a_new_job(document={"executors": [], "description": "x" * 200_000}))
    assert [job.id for job in store.page(Kind.TASK, Filters(), 10, None).jobs] == kept[::-1]
    assert store.create(a_new_job()).state is State.QUEUED  # the writer lives on


@only_sqlite
def test_a_full_disk_fails_the_whole_batch(store: Store) -> None:
    let_go = hold(store.writer)
    small = create_soon(store, a_new_job())
    store.writer.submit(lambda link: link.send("PRAGMA max_page_count = 1"))
    large = create_soon(store, a_new_job(document={"executors": [], "description": "x" * 200_000}))
    let_go()
    for future in (small, large):
        with pytest.raises(Unavailable):
            future.result(10)
    assert store.page(Kind.TASK, Filters(), 10, None).jobs == ()


@only_sqlite
def test_a_read_only_database_is_unavailable_and_can_still_be_read(store: Store) -> None:
    job = stored(store)
    store.writer.run(lambda link: link.send("PRAGMA query_only = ON"))
    with pytest.raises(Unavailable, match="read-only"):
        store.create(a_new_job())
    assert store.get(job.id) == job


def test_a_stopped_store_writes_no_more_and_can_be_started_again(store: Store) -> None:
    job = store.create(a_new_job())
    store.stop()
    store.stop()
    assert not store.ready()
    with pytest.raises(Unavailable):
        store.create(a_new_job())
    store.start()
    store.start()
    assert store.get(job.id) == job
    assert store.create(a_new_job()).state is State.QUEUED


def test_stop_writes_what_waits(store: Store) -> None:
    let_go = hold(store.writer)
    futures = [create_soon(store, a_new_job()) for _ in range(10)]
    stopping = threading.Thread(target=store.stop)
    stopping.start()
    let_go()
    stopping.join(10)
    assert all(future.result(10) for future in futures)


def test_readers_do_not_wait_for_the_writer(store: Store) -> None:
    job = store.create(a_new_job())
    let_go = hold(store.writer)
    assert store.get(job.id) == job
    let_go()


@pytest.fixture
def other_writer(url: str, store: Store) -> Iterator[sqlite3.Connection]:
    """Another process, as SQLite sees it, in the middle of a write."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@only_sqlite
def test_a_write_waits_for_the_write_of_another_process(store: Store, other_writer: sqlite3.Connection) -> None:
    future = create_soon(store, a_new_job())
    with pytest.raises(TimeoutError):
        future.result(0.05)
    other_writer.execute("COMMIT")
    assert store.get(future.result(10).id) is not None


@only_sqlite
def test_a_write_does_not_wait_for_ever(
    store: Store, other_writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.01)
    with pytest.raises(Unavailable, match="another process keeps the database locked"):
        store.create(a_new_job())
    other_writer.execute("COMMIT")
    assert store.create(a_new_job()).state is State.QUEUED
