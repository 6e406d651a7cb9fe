"""Jobs: made, found, counted, removed."""

from dataclasses import replace

import pytest

from tests.builders import NOW, a_new_job, a_run, a_task, create_soon, stored
from weft.errors import Bug, Conflict, InvalidRequest
from weft.model import Input, Kind, Tail, task_to_json
from weft.states import STORED, TERMINAL, State
from weft.store.store import Filters, Store


def test_a_created_job_is_read_back_as_it_was(store: Store) -> None:
    task = a_task(name="näme", tags={"a": "b"}, inputs=(Input(path="/in", content="x"),))
    new = a_new_job(task=task, priority=3, max_attempts=2, messages=["key dropped"])
    created = store.create(new)
    found = store.get(new.id)
    assert found == created
    assert found is not None
    assert (found.state, found.attempt, found.priority, found.max_attempts) == (State.QUEUED, 0, 3, 2)
    assert found.task == task
    assert [(event.target, event.message) for event in store.events(new.id)] == [
        (State.QUEUED, None),
        (None, "key dropped"),
    ]


def test_a_run_is_read_back_as_it_was(store: Store) -> None:
    run = a_run(workflow_params={"threads": 4, "deep": [{"a": None}]}, tags={"project": "x"})
    new = a_new_job(run=run)
    store.create(new)
    found = store.get(new.id)
    assert found is not None
    assert (found.kind, found.run, found.tags) == (Kind.RUN, run, {"project": "x"})


def test_a_job_that_was_never_made_is_none(store: Store) -> None:
    assert store.get("nobody") is None
    assert store.row("nobody") is None
    assert store.attempts(["nobody"]) == {"nobody": ()}
    assert store.events("nobody") == ()
    assert store.tails("nobody") == ()


def test_tags_that_are_not_in_the_document_are_kept(store: Store) -> None:
    job = store.create(a_new_job(task=a_task(tags={"a": "b"}), tags={"a": "b", "run": "r1"}))
    found = store.get(job.id)
    assert found is not None
    assert found.tags == {"a": "b", "run": "r1"}
    assert found.document["tags"] == {"a": "b"}
    assert len(store.page(Kind.TASK, Filters(tags=(("run", "r1"),)), 5, None).jobs) == 1


def test_a_row_holds_the_bytes_of_the_document_and_tells_of_content(store: Store) -> None:
    plain = store.create(a_new_job(task=a_task(inputs=(Input(path="/in", url="file:///x"),))))
    heavy = store.create(a_new_job(task=a_task(inputs=(Input(path="/in", content=""),))))
    plain_row, heavy_row = store.row(plain.id), store.row(heavy.id)
    assert plain_row is not None
    assert heavy_row is not None
    assert not plain_row.has_content
    assert heavy_row.has_content
    assert plain_row.document == b'{"inputs":[{"url":"file:///x","path":"/in","type":"FILE"}],"executors":' + (
        b'[{"image":"busybox:latest","command":["echo","hello"]}]}'
    )
    assert plain_row.job == plain


def test_the_same_idempotency_key_gives_the_first_job(store: Store) -> None:
    first = store.create(a_new_job(idempotency_key="k", task=a_task(name="one")))
    again = store.create(a_new_job(idempotency_key="k", task=a_task(name="two")))
    assert again == first
    assert len(store.page(Kind.TASK, Filters(), 10, None).jobs) == 1


def test_idempotency_keys_of_other_owners_and_kinds_are_other_keys(store: Store) -> None:
    made = {
        store.create(new).id
        for new in (
            a_new_job(idempotency_key="k"),
            a_new_job(idempotency_key="k", owner="bob"),
            a_new_job(idempotency_key="k", kind=Kind.RUN),
            a_new_job(),
            a_new_job(),
        )
    }
    assert len(made) == 5


def test_the_same_key_sent_at_once_makes_one_job(store: Store) -> None:
    futures = [create_soon(store, a_new_job(idempotency_key="k")) for _ in range(50)]
    assert len({future.result().id for future in futures}) == 1


def test_an_id_is_never_used_twice(store: Store) -> None:
    new = a_new_job()
    store.create(new)
    with pytest.raises(Bug):
        store.create(replace(new, owner="mallory"))
    found = store.get(new.id)
    assert found is not None
    assert found.owner == "alice"


@pytest.mark.parametrize("value", ["\ud800", 1 << 70])
def test_a_document_that_cannot_be_stored_is_refused_and_nothing_is_left(store: Store, value: object) -> None:
    new = a_new_job(document={**task_to_json(a_task()), "description": value})
    with pytest.raises(InvalidRequest):
        store.create(new)
    assert store.get(new.id) is None


def test_text_that_is_not_unicode_is_the_callers_mistake(store: Store) -> None:
    with pytest.raises(InvalidRequest):
        store.get("\ud800")
    with pytest.raises(InvalidRequest):
        store.page(Kind.TASK, Filters(name_prefix="\ud800"), 5, None)
    with pytest.raises(InvalidRequest):
        store.create(a_new_job(owner="\ud800"))


def test_counts_name_every_state_in_which_a_job_can_rest(store: Store) -> None:
    for state in STORED:
        stored(store, state)
    stored(store, State.QUEUED, owner="bob")
    stored(store, State.QUEUED, kind=Kind.RUN)
    assert store.counts(Kind.TASK, None) == {state: 2 if state is State.QUEUED else 1 for state in STORED}
    assert store.counts(Kind.TASK, "bob") == {state: int(state is State.QUEUED) for state in STORED}


def test_children_are_the_tasks_of_a_run_in_these_states(store: Store) -> None:
    run = stored(store, State.RUNNING, kind=Kind.RUN)
    queued = stored(store, parent=run.id)
    done = stored(store, State.COMPLETE, parent=run.id)
    stored(store)
    assert store.children(run.id, [State.QUEUED, State.COMPLETE]) == (queued.id, done.id)
    assert store.children(run.id, [State.COMPLETE]) == (done.id,)
    assert store.children(run.id, []) == ()


@pytest.mark.parametrize("state", sorted(TERMINAL | {State.CANCELING}))
def test_a_run_that_is_over_takes_no_more_tasks(store: Store, state: State) -> None:
    run = stored(store, state, kind=Kind.RUN)
    with pytest.raises(Conflict):
        store.create(a_new_job(parent=run.id))
    assert store.children(run.id, STORED) == ()


@pytest.mark.parametrize("state", sorted(STORED))
def test_only_a_terminal_job_can_be_removed(store: Store, state: State) -> None:
    job = stored(store, state, task=a_task(tags={"a": "b"}))
    assert store.delete(job.id) is (state in TERMINAL)
    assert (store.get(job.id) is None) is (state in TERMINAL)


def test_nothing_is_left_of_a_removed_job(store: Store) -> None:
    job = stored(store, State.RUNNING, task=a_task(tags={"a": "b"}))
    tails = [Tail(attempt=1, step=0, stdout="x")]
    store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW, tails=tails)
    assert store.delete(job.id)
    assert store.attempts([job.id]) == {job.id: ()}
    assert (store.events(job.id), store.tails(job.id)) == ((), ())
    assert store.page(Kind.TASK, Filters(tags=(("a", "b"),)), 5, None).jobs == ()
    assert not store.delete(job.id)


def test_many_jobs_are_asked_about_in_one_call(store: Store) -> None:
    jobs = [stored(store, State.INITIALIZING) for _ in range(20)]
    ids = [job.id for job in jobs]
    assert {job_id: len(found) for job_id, found in store.attempts(ids).items()} == dict.fromkeys(ids, 1)
    assert {job_id: len(found) for job_id, found in store.events_of(ids).items()} == dict.fromkeys(ids, 2)
    assert store.tails_of(ids) == dict.fromkeys(ids, ())
    assert store.attempts([]) == {}
