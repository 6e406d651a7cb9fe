"""Fair shares: no owner starves another, none has more running than he may, and a claim costs what it takes."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.builders import NOW, a_new_job
from tests.store.databases import only_sqlite
from weft.errors import Bug
from weft.model import Job, Kind
from weft.states import State
from weft.store import shares
from weft.store.store import Store


def fill(store: Store, **numbers: int) -> None:
    for owner, number in numbers.items():
        for _ in range(number):
            store.create(a_new_job(owner=owner))


def claim(store: Store, limit: int, worker: str = "w", **more: int | None) -> tuple[Job, ...]:
    return store.claim(worker, [Kind.TASK], limit, now=NOW, until=NOW + 30, **more)


def owners(jobs: tuple[Job, ...]) -> str:
    return "".join(job.owner for job in jobs)


def end(store: Store, *jobs: Job) -> None:
    for job in jobs:
        store.move(job.id, [State.INITIALIZING], State.SYSTEM_ERROR, now=NOW, lease_owner=job.lease_owner)


def test_many_jobs_of_one_do_not_delay_the_one_of_another(store: Store) -> None:
    fill(store, a=200, b=1, c=2)
    claimed = claim(store, 8)
    assert Counter(owners(claimed)) == {"a": 5, "b": 1, "c": 2}
    assert set(owners(claimed[:3])) == {"a", "b", "c"}


def test_a_free_slot_goes_to_who_has_the_fewest_running(store: Store) -> None:
    fill(store, a=3)
    claim(store, 3)
    fill(store, a=5, b=3)
    assert owners(claim(store, 4)) == "bbba"


def test_with_a_single_slot_owners_take_turns(store: Store) -> None:
    fill(store, a=3, b=3, c=1)
    order = ""
    while claimed := claim(store, 1):
        order += owners(claimed)
        end(store, *claimed)
    assert order == "abcabab"


def test_a_priority_ranks_the_jobs_of_its_owner_alone(store: Store) -> None:
    first = store.create(a_new_job(owner="a"))
    urgent = [store.create(a_new_job(owner="b", priority=priority)) for priority in (0, 9, 9)]
    order = [job.id for job in claim(store, 9)]
    assert order == [first.id, urgent[1].id, urgent[2].id, urgent[0].id]


def test_the_steps_of_a_run_count_for_the_owner_of_the_run(store: Store) -> None:
    run = store.create(a_new_job(owner="a", kind=Kind.RUN))
    for _ in range(9):
        store.create(a_new_job(owner="a", parent=run.id))
    fill(store, b=3)
    assert Counter(owners(claim(store, 6))) == {"a": 3, "b": 3}


def test_runs_and_tasks_are_counted_apart(store: Store) -> None:
    for kind in (Kind.RUN, Kind.RUN, Kind.TASK, Kind.TASK):
        store.create(a_new_job(owner="a", kind=kind))
    assert len(store.claim("w", [Kind.RUN], 5, now=NOW, until=NOW + 30, most_each=1)) == 1
    assert len(claim(store, 5, most_each=1)) == 1


def test_nobody_has_more_running_than_he_may(store: Store) -> None:
    fill(store, a=9, b=1, c=9)
    store.allow("c", 4)
    claimed = claim(store, 100, most_each=2)
    assert Counter(owners(claimed)) == {"a": 2, "b": 1, "c": 4}
    assert claim(store, 100, most_each=2) == ()
    end(store, claimed[0])
    assert owners(claim(store, 100, most_each=2)) == claimed[0].owner
    store.allow("a", None)
    store.allow_default("c")
    assert Counter(owners(claim(store, 100, most_each=2))) == {"a": 9 - 2 - (claimed[0].owner == "a")}


def test_a_limit_is_kept_by_several_claimers_together(open_store: Callable[[], Store]) -> None:
    stores = [open_store() for _ in range(3)]
    fill(stores[0], a=50, b=50)

    def claim_often(number: int) -> list[Job]:
        return [job for _ in range(5) for job in claim(stores[number % 3], 3, f"w{number}", most_each=5)]

    with ThreadPoolExecutor(6) as pool:
        claimed = [job for part in pool.map(claim_often, range(6)) for job in part]
    assert Counter(job.owner for job in claimed) == {"a": 5, "b": 5}


def test_jobs_that_are_put_off_hold_up_neither_their_owner_nor_others(store: Store) -> None:
    fill(store, a=1, b=1)
    for job in claim(store, 2):
        store.move(job.id, [State.INITIALIZING], State.QUEUED, now=NOW, lease_owner="w", not_before=NOW + 60)
    fill(store, b=1)
    assert owners(claim(store, 5)) == "b"
    assert Counter(owners(store.claim("w", [Kind.TASK], 5, now=NOW + 60, until=NOW + 90))) == {"a": 1, "b": 1}


def test_everybody_gets_a_turn_among_more_owners_than_are_read_at_once(store: Store) -> None:
    names = [f"o{number:03}" for number in range(150)]
    fill(store, **dict.fromkeys(names, 2))
    order: list[str] = []
    for _ in range(len(names)):
        (job,) = claim(store, 1)
        order.append(job.owner)
        end(store, job)
    assert order == names
    assert Counter(job.owner for job in claim(store, 150)) == dict.fromkeys(names, 1)


def test_the_queue_is_counted_by_owner_and_in_all(store: Store) -> None:
    fill(store, a=3, b=1)
    store.create(a_new_job(owner="a", kind=Kind.RUN))
    claim(store, 1)
    assert (store.queued("a"), store.queued("b"), store.queued("c"), store.queued(None)) == (3, 1, 0, 4)


def test_an_owner_may_be_kept_from_running_anything_but_not_less(store: Store) -> None:
    fill(store, a=1)
    store.allow("a", 0)
    assert claim(store, 1) == ()
    with pytest.raises(Bug, match="constraint"):
        store.allow("a", -1)


@only_sqlite
def test_a_claim_steps_through_indexes_and_sorts_nothing(plan_of: Callable[..., str]) -> None:
    of_one = plan_of(shares._QUEUE[Kind.TASK], of_owner="a", now=NOW, most=5)
    of_all = plan_of(shares._OWNERS_AFTER[Kind.TASK], after="")
    running = plan_of(shares._RUNNING[Kind.TASK])
    assert "INDEX jobs_queue (kind=? AND owner=?)" in of_one
    assert of_all.count("INDEX jobs_queue (kind=? AND owner>?)") == 2
    assert "INDEX jobs_driven (kind=?)" in running
    assert "TEMP B-TREE" not in of_one + of_all + running
    assert "SCAN jobs" not in of_one + of_all + running
