"""Moves: every change of a job's state is one conditional update with its event, in one transaction.

The condition is the law: only legal moves of ``weft.states.MOVES`` can be written here, and a row that somebody else
moved first does not match, which is a normal answer (None). A lease says which worker drives a job and until when;
the database is the authority, and a worker that lost its lease finds that its updates match nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Double, Integer, LargeBinary, Select, Text, bindparam, func, null, select, union_all, update
from sqlalchemy.sql import literal_column

from weft.errors import Bug
from weft.model import Handle, Job, JsonObject, Kind, StepResult, StoredOutput, Tail
from weft.states import DRIVEN, TERMINAL, State, is_legal
from weft.store.batches import batches, in_batch
from weft.store.history import add_attempt, add_event, add_lines, save_tails, update_attempt
from weft.store.jobs import get
from weft.store.link import Link, Prepared
from weft.store.rows import Row, job_columns, packed
from weft.store.schema import LEASED, QUEUED, is_in, jobs

#: A lease that has run out since ever.
_EXPIRED = 0.0
#: Where a cancel leads from each state; from the others it changes nothing.
_CANCEL = {
    State.QUEUED: State.CANCELED,
    State.INITIALIZING: State.CANCELING,
    State.RUNNING: State.CANCELING,
}


def claim(
    link: Link, worker: str, kinds: Collection[Kind], limit: int, *, now: float, until: float
) -> tuple[Job, ...]:
    """QUEUED -> INITIALIZING for at most ``limit`` jobs: the highest priority first, then the oldest."""
    if limit < 1 or not kinds:
        return ()
    statement = _claim(frozenset(kinds))
    rows = [Row._make(row) for row in link.all(statement, worker=worker, until=until, now=now, most=limit)]
    for row in rows:
        add_attempt(link, row.id, row.attempt, at=now)
        add_event(link, row.id, row.attempt, at=now, source=State.QUEUED, target=State.INITIALIZING)
    rows.sort(key=lambda row: (-row.priority, row.id))
    return tuple(row.job for row in rows)


def take_over(link: Link, worker: str, limit: int, *, now: float, until: float) -> tuple[Job, ...]:
    """Lease at most ``limit`` jobs whose lease expired, longest ago first; state and attempt stay."""
    if limit < 1:
        return ()
    rows = [Row._make(row) for row in link.all(_TAKE_OVER, worker=worker, until=until, now=now, most=limit)]
    for row in rows:
        add_event(link, row.id, row.attempt, at=now, message=f"worker {worker} took the job over")
    rows.sort(key=lambda row: row.id)
    return tuple(row.job for row in rows)


def renew(link: Link, worker: str, job_ids: Collection[str], *, until: float) -> frozenset[str]:
    """Extend the leases that are still this worker's and return their jobs."""
    held: set[str] = set()
    for length, params in batches(tuple(job_ids)):
        held.update(job_id for (job_id,) in link.all(_renew(length), worker=worker, until=until, **params))
    return frozenset(held)


def release(link: Link, worker: str) -> None:
    """Let this worker's leases expire now."""
    link.run(_RELEASE, worker=worker)


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
    where = _Where(frozenset(sources), lease_owner is not None)
    params: dict[str, Any] = {"of_job": job_id} if lease_owner is None else {"of_job": job_id, "worker": lease_owner}
    source = link.one(_source(where), **params)
    if source is None:
        return None
    moved = link.one(
        _move(where, target),
        **params,
        now=now,
        new_not_before=not_before,
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
) -> bool:
    """Save what is known of the current attempt; False when the lease is lost. A repeated line is kept once."""
    found = link.one(_LEASED_ATTEMPT, of_job=job_id, worker=lease_owner)
    if found is None:
        return False
    attempt = int(found[0])
    if handle is not None:
        link.run(_SET_HANDLE, of_job=job_id, new_executor=handle.executor, new_native_id=handle.native_id)
    update_attempt(link, job_id, attempt, handle=handle, steps=steps, metadata=metadata)
    save_tails(link, job_id, tails)
    if messages:
        add_lines(link, job_id, attempt, messages, at=now)
    return True


def request_cancel(link: Link, job_id: str, *, now: float, message: str | None = None) -> Job | None:
    """Move towards CANCELED as far as the API may; a job that is past that is returned as it is."""
    row = get(link, job_id)
    if row is None:
        return None
    target = _CANCEL.get(State(row.state))
    if target is None:
        return row.job
    return move(link, job_id, {State(row.state)}, target, now=now, message=message)


def check_legal(sources: Collection[State], target: State) -> None:
    """Refuse what is not in the table of moves.

    :raises Bug: names the move.
    """
    illegal = sorted(source for source in sources if not is_legal(source, target))
    if illegal or not sources:
        raise Bug(f"there is no legal move from {', '.join(illegal) or 'nowhere'} to {target}")
    if target is State.INITIALIZING:
        raise Bug("only claim moves a job to INITIALIZING: it needs a lease and an attempt")


_Where = tuple
