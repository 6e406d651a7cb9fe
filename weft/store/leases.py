"""Leases: which worker drives a job, and until when.

The database is the authority: a worker that fell silent finds that its lease is somebody else's, and that none of its
updates match any more. ``until`` and ``now`` are seconds since the epoch, on the clocks of the workers of one site.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from sqlalchemy import Double, Integer, Text, bindparam, null, select, update

from weft.model import Job, Kind
from weft.states import State
from weft.store.batches import batches, in_batch
from weft.store.history import add_attempt, add_event
from weft.store.link import Link, Prepared
from weft.store.patience import Patience
from weft.store.rows import Row, job_columns
from weft.store.schema import LEASED, QUEUED, jobs
from weft.store.shares import Turns

_WORKER = bindparam("worker", type_=Text)
_UNTIL = bindparam("until", type_=Double)
_NOW = bindparam("now", type_=Double)
_MOST = bindparam("most", type_=Integer)

# Skips the rows that another PostgreSQL client is claiming; SQLite has one writer at a time and ignores it. Rows are
# locked inside a WITH, which PostgreSQL runs once: elsewhere it may run a subquery again and lock more than the limit.
_EXPIRED = (
    select(jobs.c.id)
    .where(LEASED, jobs.c.lease_until <= _NOW)
    .order_by(jobs.c.lease_until)
    .limit(_MOST)
    .with_for_update(skip_locked=True)
    .cte("expired")
)
_TAKE_OVER = Prepared(
    update(jobs)
    .where(jobs.c.id.in_(select(_EXPIRED.c.id)))
    .values(lease_owner=_WORKER, lease_until=_UNTIL)
    .returning(*job_columns(jobs))
)
#: Leases that end later than any that is given now.
_TOO_LONG = Prepared(
    select(jobs.c.id, jobs.c.lease_until).where(LEASED, jobs.c.lease_until > bindparam("latest", type_=Double))
)
_EXPIRE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.lease_until == bindparam("ends", type_=Double))
    .values(lease_until=0.0)
)
#: A lease that ended at the beginning of time is free for anybody.
_RELEASE = Prepared(update(jobs).where(LEASED, jobs.c.lease_owner == _WORKER).values(lease_until=0.0))


def claim(
    link: Link,
    worker: str,
    kinds: Collection[Kind],
    limit: int,
    *,
    now: float,
    until: float,
    turns: Turns,
    most_each: int | None = None,
) -> tuple[Job, ...]:
    """QUEUED -> INITIALIZING for at most ``limit`` jobs, of one kind after the other, each in its order of ``turns``.

    :param most_each: the most jobs of a kind that one owner may have running.
    """
    chosen: list[str] = []
    for kind in sorted(kinds):
        chosen += turns.choose(link, kind, limit - len(chosen), now=now, running=most_each)
    found: list[Row] = []
    for length, params in batches(chosen):
        found += [Row._make(row) for row in link.all(_claim(length), worker=worker, until=until, **params)]
    for row in found:
        add_attempt(link, row.id, row.attempt, at=now)
        add_event(link, row.id, row.attempt, at=now, source=State.QUEUED, target=State.INITIALIZING)
    claimed = {row.id: row.job for row in found}
    return tuple(claimed[job_id] for job_id in chosen if job_id in claimed)


def take_over(link: Link, worker: str, limit: int, *, now: float, until: float, patience: Patience) -> tuple[Job, ...]:
    """Lease at most ``limit`` jobs whose lease expired, longest ago first; state and attempt stay."""
    if limit < 1:
        return ()
    seconds = until - now
    too_long = [(job_id, float(ends)) for job_id, ends in link.all(_TOO_LONG, latest=until + seconds)]
    for job_id, ends in patience.overdue(too_long, seconds):
        link.put(_EXPIRE, of_job=job_id, ends=ends)
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


@cache
def _renew(length: int) -> Prepared:
    return Prepared(
        update(jobs)
        .where(in_batch(jobs.c.id, length), jobs.c.lease_owner == _WORKER)
        .values(lease_until=_UNTIL)
        .returning(jobs.c.id)
    )


@cache
def _claim(length: int) -> Prepared:
    """Take these if they are still there; what another client holds now is left to the next claim."""
    free = select(jobs.c.id).where(in_batch(jobs.c.id, length), QUEUED).with_for_update(skip_locked=True).cte("free")
    return Prepared(
        update(jobs)
        .where(jobs.c.id.in_(select(free.c.id)), QUEUED)
        .values(
            state=State.INITIALIZING.value,
            attempt=jobs.c.attempt + 1,
            lease_owner=_WORKER,
            lease_until=_UNTIL,
            executor=null(),
            native_id=null(),
        )
        .returning(*job_columns(jobs))
    )
