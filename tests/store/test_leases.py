"""Leases: a job has one driver at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.builders import NOW, a_new_job, stored
from tests.store.databases import only_sqlite
from weft.model import Kind
from weft.states import DRIVEN, STORED, State
from weft.store import leases
from weft.store.store import Store


def test_a_claimed_job_is_not_claimed_twice(open_store: Callable[[], Store]) -> None:
    """Two stores on one file, eight threads, 200 jobs."""
    stores = [open_store(), open_store()]
    made = {stores[0].create(a_new_job()).id for _ in range(200)}

    def claim_until_empty(number: int) -> list[str]:
        mine: list[str] = []
        while jobs := stores[number % 2].claim(f"w{number}", [Kind.TASK], 7, now=NOW, until=NOW + 30):
            mine += [job.id for job in jobs]
        return mine

    with ThreadPoolExecutor(8) as pool:
        claimed = [job_id for part in pool.map(claim_until_empty, range(8)) for job_id in part]
    assert sorted(claimed) == sorted(made)
    assert all(len(tries) == 1 for tries in stores[1].attempts(claimed).values())


def test_a_claim_leases_the_job_and_begins_an_attempt(store: Store) -> None:
    new = a_new_job()
    store.create(new)
    (job,) = store.claim("w", [Kind.TASK, Kind.RUN], 5, now=NOW + 1, until=NOW + 31)
    assert job == store.get(new.id)
    assert (job.state, job.attempt, job.lease_owner, job.lease_until) == (State.INITIALIZING, 1, "w", NOW + 31)
    assert job.key == f"{new.id}-1"
    assert [attempt.started_at for attempt in store.attempts([job.id])[job.id]] == [NOW + 1]
    event = store.events(job.id)[-1]
    assert (event.source, event.target, event.attempt) == (State.QUEUED, State.INITIALIZING, 1)


def test_the_highest_priority_goes_first_then_the_oldest(store: Store) -> None:
    jobs = [store.create(a_new_job(priority=priority)) for priority in (0, 5, -1, 5)]
    wanted = sorted(jobs, key=lambda job: (-job.priority, job.id))
    claimed = [job.id for _ in jobs for job in store.claim("w", [Kind.TASK], 1, now=NOW, until=NOW + 30)]
    assert claimed == [job.id for job in wanted]


def test_a_claim_takes_no_more_than_its_limit(store: Store) -> None:
    for kind in [Kind.TASK, Kind.RUN] * 3:
        store.create(a_new_job(kind=kind))
    assert store.claim("w", [Kind.TASK, Kind.RUN], 0, now=NOW, until=NOW + 30) == ()
    assert store.claim("w", [], 5, now=NOW, until=NOW + 30) == ()
    assert len(store.claim("w", [Kind.TASK, Kind.RUN], 4, now=NOW, until=NOW + 30)) == 4
    assert len(store.claim("w", [Kind.TASK, Kind.RUN], 4, now=NOW, until=NOW + 30)) == 2


@pytest.mark.parametrize("state", sorted(DRIVEN))
def test_a_job_that_is_taken_over_keeps_its_state_and_its_attempt(store: Store, state: State) -> None:
    job = stored(store, state, worker="old")
    assert store.take_over("new", 5, now=NOW + 29, until=NOW + 60) == ()
    (taken,) = store.take_over("new", 5, now=NOW + 31, until=NOW + 61)
    assert (taken.id, taken.state, taken.attempt) == (job.id, state, 1)
    assert (taken.lease_owner, taken.lease_until) == ("new", NOW + 61)
    assert len(store.attempts([job.id])[job.id]) == 1
    assert store.take_over("third", 5, now=NOW + 31, until=NOW + 61) == ()
    assert store.events(job.id)[-1].message == "worker new took the job over"


def test_a_take_over_has_a_limit(store: Store) -> None:
    for _ in range(3):
        stored(store, State.RUNNING)
    assert store.take_over("new", 0, now=NOW + 60, until=NOW + 90) == ()
    assert len(store.take_over("new", 2, now=NOW + 60, until=NOW + 90)) == 2
    assert len(store.take_over("new", 2, now=NOW + 60, until=NOW + 90)) == 1


def test_only_own_leases_are_renewed(store: Store) -> None:
    mine, other = stored(store, State.RUNNING, worker="me"), stored(store, State.RUNNING, worker="you")
    done = stored(store, State.COMPLETE, worker="me")
    assert store.renew("me", [mine.id, other.id, done.id, "nobody"], until=NOW + 99) == {mine.id}
    assert store.renew("me", [], until=NOW + 99) == frozenset()
    assert [job.lease_until for job in store.driven_by("me")] == [NOW + 99]
    assert [job.lease_until for job in store.driven_by("you")] == [NOW + 30]


def test_many_leases_are_renewed_at_once(store: Store) -> None:
    ids = [store.create(a_new_job()).id for _ in range(300)]
    store.claim("me", [Kind.TASK], 300, now=NOW, until=NOW + 30)
    assert store.renew("me", ids, until=NOW + 99) == frozenset(ids)


def test_what_a_worker_releases_is_taken_over_at_once(store: Store) -> None:
    mine, other = stored(store, State.RUNNING, worker="me"), stored(store, State.RUNNING, worker="you")
    store.release("me")
    assert [job.id for job in store.take_over("next", 5, now=NOW, until=NOW + 30)] == [mine.id]
    assert [job.id for job in store.driven_by("you")] == [other.id]


def test_leases_of_a_clock_that_was_set_back_are_waited_for_and_then_taken_over(url: str) -> None:
    passed = 0.0
    store = Store(url, monotonic=lambda: passed)
    store.start()
    try:
        dead = stored(store, State.RUNNING, worker="dead")
        alive = stored(store, State.RUNNING, worker="alive")
        now = NOW - 3600
        for passed in (0.0, 10.0, 29.0):
            assert store.take_over("next", 5, now=now + passed, until=now + passed + 30) == ()
            assert store.renew("alive", [alive.id], until=NOW + 30 + passed)  # its own clock is not set back yet
        passed = 31.0
        (taken,) = store.take_over("next", 5, now=now + passed, until=now + passed + 30)
        assert (taken.id, taken.state, taken.attempt) == (dead.id, State.RUNNING, 1)
        assert store.move(dead.id, [State.RUNNING], State.COMPLETE, now=now, lease_owner="dead") is None
        assert store.renew("alive", [alive.id], until=now + 60) == {alive.id}
        assert store.take_over("next", 5, now=now + 32, until=now + 62) == ()
    finally:
        store.stop()


def test_a_worker_whose_clock_is_set_back_keeps_its_jobs(store: Store) -> None:
    job = stored(store, State.RUNNING, worker="me")
    assert store.renew("me", [job.id], until=NOW - 3600 + 30) == {job.id}
    assert store.take_over("other", 5, now=NOW - 3600, until=NOW - 3600 + 30) == ()
    assert store.record(job.id, now=NOW - 3600, lease_owner="me", messages=["on it goes"])
    assert store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW - 3600, lease_owner="me") is not None


def test_live_keys_are_those_of_all_driven_jobs(store: Store) -> None:
    jobs = {state: stored(store, state) for state in STORED}
    assert store.live_keys() == {jobs[state].key for state in DRIVEN}


@only_sqlite
def test_a_take_over_reads_nothing_but_the_leases(plan_of: Callable[..., str]) -> None:
    plan = plan_of(leases._TAKE_OVER, worker="w", until=NOW, now=NOW, most=5)
    assert "jobs_lease" in plan
    assert "SCAN jobs" not in plan
