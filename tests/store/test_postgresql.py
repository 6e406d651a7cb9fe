"""What only PostgreSQL has: other processes that write at the same time, and a server that can go away."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.builders import NOW, a_new_job, a_task, create_soon, stored
from tests.store.databases import only_postgresql
from tests.testbeds.postgres import PrivateServer
from weft.errors import InvalidRequest, Unavailable
from weft.model import Kind
from weft.states import State
from weft.store.inspection import inspect
from weft.store.link import Link
from weft.store.store import Filters, Store

WAIT = 20.0

pytestmark = only_postgresql


@pytest.fixture
def somebody(url: str, store: Store) -> Iterator[psycopg.Connection]:
    """Another client of the database, in a transaction of its own."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def connections(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def cut_all(url: str) -> None:
    """End all connections to the database, and wait until they are gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_key_that_two_processes_use_at_once_makes_one_job(open_store: Callable[[], Store]) -> None:
    stores = [open_store(), open_store()]
    for number in range(30):
        futures = [create_soon(store, a_new_job(idempotency_key=f"k{number}")) for store in stores for _ in range(3)]
        assert len({future.result(WAIT).id for future in futures}) == 1
    assert len(stores[0].page(Kind.TASK, Filters(), 100, None).jobs) == 30


def test_who_waits_for_a_key_that_somebody_else_is_writing_gets_their_job(
    store: Store, somebody: psycopg.Connection
) -> None:
    """The race in its slowest form: the other one's job is written, and not yet committed."""
    first = store.create(a_new_job(idempotency_key="other"))
    somebody.execute("UPDATE jobs SET idempotency_key = 'k'")
    future = create_soon(store, a_new_job(idempotency_key="k"))
    with pytest.raises(TimeoutError):
        future.result(0.2)
    somebody.commit()
    assert future.result(WAIT).id == first.id


def test_a_deadlock_is_done_again_and_both_succeed(open_store: Callable[[], Store]) -> None:
    stores = [open_store(), open_store()]
    ids = [stored(stores[0]).id for _ in range(2)]
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def lock(link: Link, first: str, second: str) -> str:
        held = link.driver.execute(f"UPDATE jobs SET priority = priority + 1 WHERE id = '{first}' RETURNING id")
        assert held.fetchone() is not None  # so that it is not only sent, but done
        runs.append(first)
        if len(runs) <= 2:
            both_hold_one.wait(WAIT)
        link.send(f"UPDATE jobs SET priority = priority + 1 WHERE id = '{second}'")
        return first

    futures = [
        stores[0].writer.submit(lambda link: lock(link, ids[0], ids[1])),
        stores[1].writer.submit(lambda link: lock(link, ids[1], ids[0])),
    ]
    assert [future.result(WAIT) for future in futures] == ids
    assert len(runs) > 2
    assert [job.priority for job_id in ids if (job := stores[0].get(job_id))] == [2, 2]


def test_a_job_that_another_process_holds_is_passed_over_by_a_claim(store: Store, somebody: psycopg.Connection) -> None:
    held, free = store.create(a_new_job()), store.create(a_new_job())
    somebody.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [held.id])
    assert [job.id for job in store.claim("w", [Kind.TASK], 5, now=NOW, until=NOW + 30)] == [free.id]


def test_a_lease_that_another_process_holds_is_passed_over_by_a_take_over(
    store: Store, somebody: psycopg.Connection
) -> None:
    held, free = stored(store, State.RUNNING), stored(store, State.RUNNING)
    somebody.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [held.id])
    assert [job.id for job in store.take_over("w", 5, now=NOW + 60, until=NOW + 90)] == [free.id]


def test_a_process_that_holds_a_row_does_not_hold_others_up_for_ever(
    store: Store, somebody: psycopg.Connection
) -> None:
    job = stored(store, State.RUNNING)
    somebody.execute("SELECT 1 FROM jobs FOR UPDATE")
    store.writer.run(lambda link: link.send("SET lock_timeout = '50ms'"))
    with pytest.raises(Unavailable, match="lock timeout"):
        store.request_cancel(job.id, now=NOW)
    somebody.rollback()
    cancelled = store.request_cancel(job.id, now=NOW)
    assert cancelled is not None
    assert cancelled.state is State.CANCELING


def test_a_task_is_not_made_while_its_run_is_being_cancelled(store: Store, somebody: psycopg.Connection) -> None:
    run = stored(store, State.RUNNING, kind=Kind.RUN)
    somebody.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [run.id])  # what a cancel begins with
    future = create_soon(store, a_new_job(parent=run.id))
    with pytest.raises(TimeoutError):
        future.result(0.2)
    somebody.rollback()
    assert future.result(WAIT).parent == run.id


def test_tasks_of_one_run_are_made_at_once(store: Store, somebody: psycopg.Connection) -> None:
    run = stored(store, State.RUNNING, kind=Kind.RUN)
    somebody.execute("SELECT 1 FROM jobs WHERE id = %s FOR KEY SHARE", [run.id])  # another process creates one
    assert create_soon(store, a_new_job(parent=run.id)).result(WAIT).parent == run.id


def test_several_processes_that_write_everything_at_once_keep_the_law(
    url: str, open_store: Callable[[], Store]
) -> None:
    stores = [open_store() for _ in range(3)]

    def create(store: Store) -> None:
        for _ in range(40):
            store.create(a_new_job())

    def drive(store: Store, worker: str) -> int:
        done = 0
        while done < 30 and (jobs := store.claim(worker, [Kind.TASK], 5, now=NOW, until=NOW + 30) or hungry.is_set()):
            for job in () if jobs is True else jobs:
                store.move(job.id, [State.INITIALIZING], State.RUNNING, now=NOW, lease_owner=worker)
                store.renew(worker, [job.id], until=NOW + 60)
                store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW, lease_owner=worker)
                done += 1
        return done

    def cancel(store: Store) -> None:
        while hungry.is_set():
            for job in store.page(Kind.TASK, Filters(), 20, None).jobs:
                store.request_cancel(job.id, now=NOW)

    hungry = threading.Event()
    hungry.set()
    with ThreadPoolExecutor(10) as pool:
        drivers = [pool.submit(drive, store, f"w{number}") for number, store in enumerate(stores)]
        canceller = pool.submit(cancel, stores[0])
        for maker in [pool.submit(create, store) for store in stores]:
            maker.result(60)
        hungry.clear()
        for future in (*drivers, canceller):
            future.result(60)
    assert sum(stores[0].counts(Kind.TASK, None).values()) == 120
    findings = list(inspect(url))
    assert [finding.text for finding in findings if not finding.sound and "server:" not in finding.text] == []


def test_connections_that_were_cut_are_replaced_and_nobody_notices(url: str, open_store: Callable[[], Store]) -> None:
    here, there = open_store(), open_store()
    job = here.create(a_new_job())
    assert here.get(job.id) == job
    heard = threading.Event()
    there.on_change(heard.set)
    cut_all(url)
    assert here.get(job.id) == job
    made = here.create(a_new_job())
    assert there.get(made.id) == made
    assert heard.wait(WAIT)


def test_a_bell_that_was_cut_off_is_heard_again(url: str, open_store: Callable[[], Store]) -> None:
    here, there = open_store(), open_store()
    rings: list[int] = []
    news = threading.Condition()

    def listen() -> None:
        with news:
            rings.append(len(rings))
            news.notify_all()

    there.on_change(listen)
    cut_all(url)
    with news:
        assert news.wait_for(lambda: rings, WAIT), "a new connection counts as a ring"
    for _ in range(3):
        with news:
            before = len(rings)
        here.create(a_new_job())
        with news:
            assert news.wait_for(lambda seen=before: len(rings) > seen, WAIT)


def test_a_connection_that_is_cut_in_a_transaction_tells_nobody_a_success(url: str, store: Store) -> None:
    def write_and_lose(link: Link) -> None:
        link.send("UPDATE jobs SET owner = 'mallory'")
        cut_all(url)
        link.send("UPDATE jobs SET owner = 'mallory'")

    job = store.create(a_new_job())
    with pytest.raises(Unavailable):
        store.writer.run(write_and_lose)
    assert store.get(job.id) == job
    assert store.create(a_new_job()).owner == "alice"


def test_a_server_that_is_down_is_unavailable_and_its_return_is_noticed(
    url: str, store: Store, open_store: Callable[[], Store], postgres_server: PrivateServer
) -> None:
    job = store.create(a_new_job())
    heard = threading.Event()
    postgres_server.stop()
    try:
        for use in (lambda: store.get(job.id), lambda: store.create(a_new_job())):
            with pytest.raises(Unavailable, match="cannot be used now"):
                use()
        assert not store.ready()
        with pytest.raises(Unavailable):
            Store(url).start()
        store.on_change(heard.set)
    finally:
        postgres_server.start()
    assert store.get(job.id) == job
    assert store.create(a_new_job()).state is State.QUEUED
    assert store.ready()
    heard.clear()
    open_store().create(a_new_job())
    assert heard.wait(WAIT)


def test_a_store_stops_while_its_server_is_down(url: str, postgres_server: PrivateServer) -> None:
    store = Store(url)
    store.start()
    postgres_server.stop()
    try:
        store.stop()
    finally:
        postgres_server.start()
    store.start()
    assert store.create(a_new_job()).state is State.QUEUED
    store.stop()


def test_many_reads_at_once_share_a_few_connections(url: str, store: Store) -> None:
    job = store.create(a_new_job())
    entered = threading.Semaphore(0)
    gate = threading.Event()

    def hold() -> None:
        with store._readers.link():
            entered.release()
            assert gate.wait(WAIT)

    with ThreadPoolExecutor(40) as pool:
        held = [pool.submit(hold) for _ in range(16)]
        for _ in held:
            assert entered.acquire(timeout=WAIT)
        more = [pool.submit(store.get, job.id) for _ in range(24)]
        assert not any(future.done() for future in more)
        assert connections(url) == 16 + 2  # the writer and the bell
        gate.set()
        assert all(future.result(WAIT) == job for future in more)


def test_a_stopped_store_leaves_no_connection(url: str, store: Store) -> None:
    store.get(store.create(a_new_job()).id)
    assert connections(url) > 0
    store.stop()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        for _ in range(200):
            if connections(url) == 1:  # this one
                return
            connection.execute("SELECT pg_sleep(0.02)")
    raise AssertionError("connections are left")


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.create(a_new_job(task=a_task(tags={"a": "\0"}))),
        lambda store: store.page(Kind.TASK, Filters(name_prefix="\0"), 5, None),
        lambda store: store.get("\0"),
    ],
    ids=["create", "page", "get"],
)
def test_a_text_with_a_nul_is_the_callers_mistake(store: Store, use: Callable[[Store], Any]) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        use(store)
    assert store.page(Kind.TASK, Filters(), 5, None).jobs == ()
