"""Moves: the law, the fence, and what each move writes."""

import itertools

import pytest

from tests.builders import NOW, stored
from weft.errors import Bug
from weft.model import Handle, Job, Kind, StepResult, StoredOutput, Tail
from weft.states import DRIVEN, MOVES, STORED, TERMINAL, State, is_legal
from weft.store.store import Store

PAIRS = list(itertools.product(sorted(State), sorted(State)))
LEGAL = [(source, target) for source, targets in MOVES.items() for target in targets]


@pytest.mark.parametrize(("source", "target"), [pair for pair in LEGAL if pair[1] is not State.INITIALIZING])
def test_every_legal_move_can_be_made(store: Store, source: State, target: State) -> None:
    before = stored(store, source)
    after = store.move(before.id, [source], target, now=NOW + 5, message="why")
    assert after is not None
    assert after.state is target
    assert after == store.get(before.id)
    event = store.events(before.id)[-1]
    assert (event.source, event.target, event.at, event.message) == (source, target, NOW + 5, "why")
    assert event.attempt == before.attempt
    assert (after.ended_at == NOW + 5) is (target in TERMINAL)
    assert (after.lease_owner is not None) is (target in DRIVEN)


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if not is_legal(*pair)])
def test_no_other_move_can_be_written(store: Store, source: State, target: State) -> None:
    with pytest.raises(Bug):
        store.move("any", [source], target, now=NOW)


def test_only_a_claim_moves_to_initializing(store: Store) -> None:
    job = stored(store)
    with pytest.raises(Bug):
        store.move(job.id, [State.QUEUED], State.INITIALIZING, now=NOW)


def test_a_move_from_nowhere_is_a_bug(store: Store) -> None:
    with pytest.raises(Bug):
        store.move("any", [], State.COMPLETE, now=NOW)


@pytest.mark.parametrize("state", sorted(STORED - {State.RUNNING}))
def test_a_job_that_somebody_moved_first_is_not_moved(store: Store, state: State) -> None:
    before = stored(store, state)
    events = store.events(before.id)
    assert store.move(before.id, [State.RUNNING], State.COMPLETE, now=NOW) is None
    assert store.get(before.id) == before
    assert store.events(before.id) == events


def test_the_event_names_the_state_that_the_job_was_in(store: Store) -> None:
    job = stored(store, State.INITIALIZING)
    store.move(job.id, [State.INITIALIZING, State.RUNNING], State.QUEUED, now=NOW)
    assert store.events(job.id)[-1].source is State.INITIALIZING


def test_a_worker_that_lost_its_lease_moves_and_records_nothing(store: Store) -> None:
    job = stored(store, State.RUNNING, worker="old")
    store.take_over("new", 1, now=NOW + 60, until=NOW + 90)
    before = store.get(job.id), store.events(job.id), store.attempts([job.id])
    assert store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW + 61, lease_owner="old") is None
    assert not store.record(job.id, now=NOW + 61, lease_owner="old", messages=["late"], metadata={"a": "b"})
    assert (store.get(job.id), store.events(job.id), store.attempts([job.id])) == before
    assert store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW + 61, lease_owner="new") is not None


def test_the_end_is_written_with_everything_that_is_known(store: Store) -> None:
    job = stored(store, State.RUNNING, kind=Kind.RUN)
    step = StepResult(started_at=NOW, ended_at=NOW + 2, exit_code=0, reason=None)
    output = StoredOutput(url="file:///o", path="/o", size_bytes=1 << 40)
    handle = Handle(executor="docker", native_id="c1")
    after = store.move(
        job.id,
        [State.RUNNING],
        State.COMPLETE,
        now=NOW + 3,
        handle=handle,
        steps=[step],
        outputs=[output],
        run_outputs={"vcf": "x"},
        metadata={"host": "h"},
        tails=[Tail(attempt=1, step=0, stdout="out\0", stderr="err\ud800")],
    )
    assert after is not None
    assert (after.handle, after.outputs, after.started_at) == (handle, {"vcf": "x"}, NOW + 1)
    (attempt,) = store.attempts([job.id])[job.id]
    assert (attempt.started_at, attempt.ended_at) == (NOW, NOW + 3)
    assert (attempt.steps, attempt.outputs, attempt.metadata) == ((step,), (output,), {"host": "h"})
    assert attempt.handle == handle
    assert store.tails(job.id) == (Tail(attempt=1, step=0, stdout="out\0", stderr="err?"),)


def test_what_a_move_does_not_say_stays_as_it_was(store: Store) -> None:
    job = stored(store, State.RUNNING)
    handle = Handle(executor="docker", native_id="c1")
    step = StepResult(exit_code=0)
    assert store.record(job.id, now=NOW, lease_owner="worker-1", handle=handle, steps=[step], metadata={"a": "1"})
    store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW + 3, metadata={"b": "2"})
    (attempt,) = store.attempts([job.id])[job.id]
    assert (attempt.handle, attempt.steps, attempt.metadata) == (handle, (step,), {"a": "1", "b": "2"})


def test_another_attempt_begins_afresh_and_the_first_one_is_kept(store: Store) -> None:
    job = stored(store, State.RUNNING)
    handle = Handle(executor="docker", native_id="c1")
    store.record(job.id, now=NOW, lease_owner="worker-1", handle=handle, steps=[StepResult(exit_code=1)])
    requeued = store.move(job.id, [State.RUNNING], State.QUEUED, now=NOW + 5)
    assert requeued is not None
    assert (requeued.attempt, requeued.lease_owner, requeued.ended_at) == (1, None, None)
    (again,) = store.claim("worker-2", [Kind.TASK], 1, now=NOW + 6, until=NOW + 36)
    assert (again.attempt, again.handle, again.started_at) == (2, None, NOW + 1)
    first, second = store.attempts([job.id])[job.id]
    assert (first.number, first.handle, first.ended_at) == (1, handle, NOW + 5)
    assert (second.number, second.handle, second.started_at, second.ended_at) == (2, None, NOW + 6, None)


def test_a_job_that_backs_off_is_not_claimed_early(store: Store) -> None:
    job = stored(store, State.RUNNING)
    store.move(job.id, [State.RUNNING], State.QUEUED, now=NOW, not_before=NOW + 10)
    assert store.claim("w", [Kind.TASK], 1, now=NOW + 9, until=NOW + 39) == ()
    assert len(store.claim("w", [Kind.TASK], 1, now=NOW + 10, until=NOW + 40)) == 1


def test_tails_are_replaced_and_lines_are_written_once(store: Store) -> None:
    job = stored(store, State.RUNNING)
    for text in ("a", "ab"):
        tails = [Tail(attempt=1, step=0, stdout=text), Tail(attempt=1, step=1, stderr=text)]
        assert store.record(job.id, now=NOW, lease_owner="worker-1", messages=["hello", "hello"], tails=tails)
    assert store.tails(job.id) == (Tail(attempt=1, step=0, stdout="ab"), Tail(attempt=1, step=1, stderr="ab"))
    assert [event.message for event in store.events(job.id) if event.target is None] == ["hello"]


def test_a_message_with_an_odd_file_name_is_kept_readable(store: Store) -> None:
    job = stored(store, State.RUNNING)
    store.record(job.id, now=NOW, lease_owner="worker-1", messages=["no such file: \udcff\0"])
    assert store.events(job.id)[-1].message == "no such file: ?\N{REPLACEMENT CHARACTER}"


CANCELS = {
    State.QUEUED: State.CANCELED,
    State.INITIALIZING: State.CANCELING,
    State.RUNNING: State.CANCELING,
}


@pytest.mark.parametrize("state", sorted(STORED))
def test_a_cancel_goes_as_far_as_it_may_and_is_no_error_when_late(store: Store, state: State) -> None:
    before = stored(store, state)
    expected = CANCELS.get(state, state)
    after = store.request_cancel(before.id, now=NOW + 9, message="asked")
    assert after is not None
    assert after.state is expected
    assert after == store.get(before.id)
    assert after.lease_owner == (before.lease_owner if expected in DRIVEN else None)
    assert store.request_cancel(before.id, now=NOW + 10) == after
    last = store.events(before.id)[-1]
    assert (last.message == "asked") is (state in CANCELS)


def test_a_cancel_of_nothing_is_none(store: Store) -> None:
    assert store.request_cancel("nobody", now=NOW) is None


def test_a_cancel_that_came_in_between_wins(store: Store) -> None:
    job: Job = stored(store, State.RUNNING)
    store.request_cancel(job.id, now=NOW + 2)
    assert store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW + 3, lease_owner="worker-1") is None
    assert [found.id for found in store.cancelling("worker-1")] == [job.id]
    assert store.cancelling("worker-2") == ()


def test_tails_of_many_jobs_are_saved_in_one_transaction_but_for_those_that_were_lost(store: Store) -> None:
    mine = [stored(store, State.RUNNING) for _ in range(3)]
    lost = stored(store, State.RUNNING, worker="worker-2")
    tail = Tail(attempt=1, step=0, stdout="text")
    before = store.writer.commits
    store.save_tails({job.id: [tail] for job in (*mine, lost)}, lease_owner="worker-1")
    assert store.writer.commits == before + 1
    assert [store.tails(job.id) for job in (*mine, lost)] == [(tail,)] * 3 + [()]
