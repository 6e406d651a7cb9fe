"""The outbox: what callbacks have to say is written with the move, claimed by one, and kept until it is settled."""

from __future__ import annotations

from tests.builders import NOW, a_new_job, stored
from weft.model import Callback, Delivery, Kind, Place
from weft.states import State
from weft.store.link import Link
from weft.store.store import Store

CLIENT = Callback(place=Place.CLIENT, url="https://hook.example/a", secret="whsec_x", running=True)
SITE = Callback(place=Place.SITE, url="https://site.example/b")


def due(store: Store, now: float = NOW + 5, limit: int = 100) -> tuple[Delivery, ...]:
    return store.claim_callbacks(limit, now=now, until=now + 120)


def test_a_move_writes_what_is_to_be_told(store: Store) -> None:
    job = stored(store, State.EXECUTOR_ERROR, callbacks=(CLIENT, SITE))
    assert store.callbacks_are_due(now=NOW + 5)
    told = {delivery.id: delivery for delivery in due(store)}
    assert sorted(told) == [
        f"{job.id}-1-EXECUTOR_ERROR-client",
        f"{job.id}-1-EXECUTOR_ERROR-site",
        f"{job.id}-1-RUNNING-client",
    ]
    assert told[f"{job.id}-1-EXECUTOR_ERROR-client"] == Delivery(
        id=f"{job.id}-1-EXECUTOR_ERROR-client",
        job_id=job.id,
        place=Place.CLIENT,
        kind=Kind.TASK,
        state=State.EXECUTOR_ERROR,
        attempt=1,
        at=NOW + 1,
        url=CLIENT.url,
        secret="whsec_x",
        tries=1,
    )
    assert told[f"{job.id}-1-EXECUTOR_ERROR-site"].secret is None


def test_a_job_without_callbacks_and_one_that_goes_on_tell_nothing(store: Store) -> None:
    stored(store, State.COMPLETE)
    stored(store, State.CANCELING, callbacks=(CLIENT,))
    stored(store, State.RUNNING, callbacks=(SITE,))
    assert not store.callbacks_are_due(now=NOW + 5)


def test_a_cancel_before_the_start_is_told(store: Store) -> None:
    job = stored(store, callbacks=(CLIENT,))
    store.request_cancel(job.id, now=NOW + 1)
    assert [(one.state, one.attempt) for one in due(store)] == [(State.CANCELED, 0)]


def test_what_is_claimed_is_nobody_elses_until_the_claim_ends(store: Store) -> None:
    stored(store, State.COMPLETE, callbacks=(SITE,))
    (first,) = due(store)
    assert due(store, NOW + 124) == ()
    assert not store.callbacks_are_due(now=NOW + 124)
    (second,) = due(store, NOW + 126)
    assert (second.id, first.tries, second.tries) == (first.id, 1, 2)


def test_a_claim_takes_as_many_as_it_may_the_oldest_first(store: Store) -> None:
    jobs = [store.create(a_new_job(callbacks=(SITE,))) for _ in range(3)]
    for later, job in enumerate(jobs):
        store.request_cancel(job.id, now=NOW + later)
    assert [one.job_id for one in due(store, limit=2)] == [jobs[0].id, jobs[1].id]
    assert [one.job_id for one in due(store)] == [jobs[2].id]


def test_a_failed_one_comes_again_when_it_is_due(store: Store) -> None:
    stored(store, State.COMPLETE, callbacks=(SITE,))
    (delivery,) = due(store)
    store.callback_failed(delivery, due_at=NOW + 50)
    assert due(store, NOW + 49) == ()
    assert [one.tries for one in due(store, NOW + 50)] == [2]


def test_a_settled_one_is_gone_with_its_secret_and_one_given_up_is_said(store: Store) -> None:
    job = stored(store, State.COMPLETE, callbacks=(CLIENT, SITE))
    for delivery in due(store):
        given_up = "callback given up" if delivery.place is Place.SITE else None
        store.callback_settled(delivery, now=NOW + 9, message=given_up)
    assert due(store, NOW + 10**6) == ()
    assert [event.message for event in store.events(job.id) if event.at == NOW + 9] == ["callback given up"]
    assert _secrets(store) == []


def test_a_removed_job_is_told_all_the_same(store: Store) -> None:
    job = stored(store, State.COMPLETE, callbacks=(SITE,))
    assert store.delete(job.id)
    (delivery,) = due(store)
    store.callback_settled(delivery, now=NOW + 9, message="given up")
    assert due(store, NOW + 10**6) == ()


def test_a_move_that_another_made_first_tells_nothing(store: Store) -> None:
    job = stored(store, State.RUNNING, callbacks=(SITE,))
    assert store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW + 2, lease_owner="another") is None
    assert due(store) == ()


def _secrets(store: Store) -> list[object]:
    def read(link: Link) -> list[object]:
        found = link.send("SELECT secret FROM callbacks UNION SELECT secret FROM outbox")
        return [row[0] for row in found.fetchall()]

    return store.writer.run(read)
