"""Moves: every change of a job's state is one conditional update with its event, in one transaction.

The condition is the law: only legal moves of ``weft.states.MOVES`` can be written here, and a row that somebody else
moved first does not match, which is a normal answer (None).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Double, LargeBinary, Text, bindparam, func, null, select, update

from weft.errors import Bug
from weft.model import FileType, Handle, Job, JsonObject, StepResult, StoredOutput, Tail
from weft.states import DRIVEN, TERMINAL, State, is_legal
from weft.store import outbox
from weft.store.history import add_event, add_lines, save_tails, update_attempt
from weft.store.jobs import correct_types, get, state_of
from weft.store.link import Link, Prepared
from weft.store.rows import Row, job_columns, packed
from weft.store.schema import is_in, jobs

_LEASED_ATTEMPT = Prepared(
    select(jobs.c.attempt)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.lease_owner == bindparam("worker"))
    .with_for_update()
)
_SET_HANDLE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(executor=bindparam("new_executor", type_=Text), native_id=bindparam("new_native_id", type_=Text))
)
#: Where a cancel leads from each state; from the others it changes nothing.
_CANCEL = {
    State.QUEUED: State.CANCELED,
    State.INITIALIZING: State.CANCELING,
    State.RUNNING: State.CANCELING,
}


def move(
    link: Link,
    job_id: str,
    sources: Collection[State],
    target: State,
    *,
    now: float,
    message: str | None = None,
    lease_owner: str | None = None,
    handle: Handle | None = None,
    steps: Sequence[StepResult] | None = None,
    outputs: Sequence[StoredOutput] | None = None,
    run_outputs: JsonObject | None = None,
    metadata: Mapping[str, str] | None = None,
    tails: Sequence[Tail] = (),
    not_before: float | None = None,
) -> Job | None:
    """Move the job if it is in one of ``sources`` (and leased by ``lease_owner``, where given); else None.

    :raises Bug: the law has no such move, or it is the one that only ``claim`` may make.
    """
    check_legal(sources, target)
    states, fenced = frozenset(sources), lease_owner is not None
    params = {"of_job": job_id, "worker": lease_owner}
    source = link.one(_source(states, fenced), **params)
    if source is None:
        return None
    moved = link.one(
        _move(states, target, fenced),
        **params,
        now=now,
        new_not_before=not_before or 0.0,
        new_executor=None if handle is None else handle.executor,
        new_native_id=None if handle is None else handle.native_id,
        new_outputs=None if run_outputs is None else packed(run_outputs),
    )
    if moved is None:  # cannot be: the transaction holds the row
        return None
    row = Row._make(moved)
    ended_at = now if target in TERMINAL or target is State.QUEUED else None
    update_attempt(
        link, job_id, row.attempt, ended_at=ended_at, handle=handle, steps=steps, outputs=outputs, metadata=metadata
    )
    save_tails(link, job_id, tails)
    add_event(link, job_id, row.attempt, at=now, source=State(source[0]), target=target, message=message)
    outbox.tell(link, row, at=now)
    return row.job


def record(
    link: Link,
    job_id: str,
    *,
    now: float,
    lease_owner: str,
    handle: Handle | None = None,
    steps: Sequence[StepResult] | None = None,
    metadata: Mapping[str, str] | None = None,
    messages: Sequence[str] = (),
    tails: Sequence[Tail] = (),
    types: Mapping[str, Mapping[str, FileType]] | None = None,
) -> bool:
    """Save what is known of the current attempt; False when the lease is lost. A repeated line is kept once."""
    found = link.one(_LEASED_ATTEMPT, of_job=job_id, worker=lease_owner)
    if found is None:
        return False
    attempt = int(found[0])
    if handle is not None:
        link.put(_SET_HANDLE, of_job=job_id, new_executor=handle.executor, new_native_id=handle.native_id)
    update_attempt(link, job_id, attempt, handle=handle, steps=steps, metadata=metadata)
    save_tails(link, job_id, tails)
    if types:
        correct_types(link, job_id, types)
    if messages:
        add_lines(link, job_id, attempt, messages, at=now)
    return True


def save_tails_of(link: Link, tails: Mapping[str, Sequence[Tail]], *, lease_owner: str) -> None:
    """Save the tails of those jobs that this worker still drives."""
    for job_id, news in tails.items():
        if link.one(_LEASED_ATTEMPT, of_job=job_id, worker=lease_owner) is not None:
            save_tails(link, job_id, news)


def request_cancel(link: Link, job_id: str, *, now: float, message: str | None = None) -> Job | None:
    """Move towards CANCELED as far as the API may; a job that is past that is returned as it is."""
    state = state_of(link, job_id)
    target = None if state is None else _CANCEL.get(state)
    if state is None or target is None:
        row = get(link, job_id)
        return None if row is None else row.job
    return move(link, job_id, {state}, target, now=now, message=message)


def check_legal(sources: Collection[State], target: State) -> None:
    """Refuse what is not in the table of moves.

    :raises Bug: names the move.
    """
    illegal = sorted(source for source in sources if not is_legal(source, target))
    if illegal or not sources:
        raise Bug(f"there is no legal move from {', '.join(illegal) or 'nowhere'} to {target}")
    if target is State.INITIALIZING:
        raise Bug("only claim moves a job to INITIALIZING: it needs a lease and an attempt")


@cache
def _source(sources: frozenset[State], fenced: bool) -> Prepared:
    """Read the state that the event will name; the row stays locked until the move is written."""
    return Prepared(select(jobs.c.state).where(*_conditions(sources, fenced)).with_for_update())


@cache
def _move(sources: frozenset[State], target: State, fenced: bool) -> Prepared:
    changes: dict[str, Any] = {
        "state": target.value,
        "executor": func.coalesce(bindparam("new_executor", type_=Text), jobs.c.executor),
        "native_id": func.coalesce(bindparam("new_native_id", type_=Text), jobs.c.native_id),
        "outputs": func.coalesce(bindparam("new_outputs", type_=LargeBinary), jobs.c.outputs),
    }
    if target not in DRIVEN:
        changes |= {"lease_owner": null(), "lease_until": null()}
    if target is State.QUEUED:
        changes["not_before"] = bindparam("new_not_before", type_=Double)
    if target is State.RUNNING:
        changes["started_at"] = func.coalesce(jobs.c.started_at, bindparam("now", type_=Double))
    if target in TERMINAL:
        changes["ended_at"] = bindparam("now", type_=Double)
    conditions = _conditions(sources, fenced)
    return Prepared(update(jobs).where(*conditions).values(changes).returning(*job_columns(jobs)))


def _conditions(sources: frozenset[State], fenced: bool) -> list[ColumnElement[bool]]:
    conditions = [jobs.c.id == bindparam("of_job", type_=Text), is_in(jobs.c.state, sources)]
    return [*conditions, jobs.c.lease_owner == bindparam("worker", type_=Text)] if fenced else conditions
