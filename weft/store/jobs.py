"""Jobs: made, found, counted, removed. What changes a job's state is in ``moves``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Double, Integer, LargeBinary, Select, Text, bindparam, delete, func, insert, select, update

from weft.clock import new_id
from weft.errors import Conflict
from weft.model import FileType, Job, Kind, NewJob
from weft.states import STORED, TERMINAL, State
from weft.store import outbox
from weft.store.history import add_event, first_events
from weft.store.link import Link, Prepared
from weft.store.rows import Brief, Row, clean, document_bytes, has_content, job_columns, packed
from weft.store.schema import LEASED, attempts, callbacks, events, is_in, jobs, tags, tails

#: Columns that a new job leaves empty.
_LATER = ("started_at", "ended_at", "lease_owner", "lease_until", "executor", "native_id", "outputs")
_INSERT = Prepared(insert(jobs).values({item.name: bindparam(item.name) for item in jobs.c if item.name not in _LATER}))
_ADD_TAG = Prepared(insert(tags))
_BY_ID = Prepared(select(*job_columns(jobs)).where(jobs.c.id == bindparam("id")))
_BRIEF = Prepared(select(*job_columns(jobs, Brief._fields)).where(jobs.c.id == bindparam("id")))
_BY_KEY = Prepared(
    select(*job_columns(jobs)).where(
        jobs.c.owner == bindparam("owner"),
        jobs.c.kind == bindparam("kind"),
        jobs.c.idempotency_key == bindparam("idempotency_key"),
        jobs.c.idempotency_key.is_not(None),  # lets SQLite use the partial index
    )
)
_SET_DOCUMENT = Prepared(
    update(jobs).where(jobs.c.id == bindparam("of_job")).values(document=bindparam("new_document", type_=LargeBinary))
)
_STATE = Prepared(select(jobs.c.state).where(jobs.c.id == bindparam("id")).with_for_update())
#: Tasks of one run may be made at once, but none while the run itself is moved.
_PARENT = Prepared(select(jobs.c.state).where(jobs.c.id == bindparam("id")).with_for_update(read=True, key_share=True))
_LIVE = Prepared(select(jobs.c.id, jobs.c.attempt).where(LEASED))
_DRIVEN_BY = Prepared(select(*job_columns(jobs)).where(LEASED, jobs.c.lease_owner == bindparam("worker")))

_ENDED_BEFORE = Prepared(
    select(jobs.c.id)
    .where(
        jobs.c.id < bindparam("before", type_=Text),  # ids sort by creation, which comes before the end
        is_in(jobs.c.state, TERMINAL),
        jobs.c.ended_at < bindparam("at", type_=Double),
        jobs.c.parent.is_(None),
    )
    .order_by(jobs.c.id)
    .limit(bindparam("limit", type_=Integer))
)

#: States of a run in which it takes no more tasks.
_CLOSED = TERMINAL | {State.CANCELING}


def create_all(link: Link, news: Sequence[NewJob]) -> list[Job | None]:
    """Store QUEUED jobs with their first events; for an idempotency key seen before, return the job it made instead.

    :raises Conflict: the run that a task says it belongs to is over, or is being cancelled.
    :raises InvalidRequest: a document holds what cannot be stored.
    """
    found = [_create_with_key(link, new) if new.idempotency_key is not None else None for new in news]
    _insert(link, [new for new in news if new.idempotency_key is None])
    return found


def _create_with_key(link: Link, new: NewJob) -> Job | None:
    known = link.one(_BY_KEY, owner=new.owner, kind=new.kind.value, idempotency_key=new.idempotency_key)
    if known is not None:
        return Row._make(known).job
    _insert(link, [new])
    return None


def _insert(link: Link, news: Sequence[NewJob]) -> None:
    """Write jobs, their tags and their first events: a statement for each table, however many jobs there are."""
    for new in news:
        if new.parent is not None:
            _check_parent(link, new.parent)
    link.put_all(_INSERT, [_row_of(new) for new in news])
    named = ((new.id, key, value) for new in news for key, value in new.tags.items())
    link.put_all(_ADD_TAG, [{"key": key, "value": value, "job_id": job_id} for job_id, key, value in named])
    first_events(link, news)
    for new in news:
        for message in new.messages:
            add_event(link, new.id, 0, at=new.created_at, message=message)
        outbox.subscribe(link, new.id, new.callbacks)


def as_created(new: NewJob) -> Job:
    """Return the job that ``create_all`` makes of ``new``."""
    return Job(
        id=new.id,
        kind=new.kind,
        state=State.QUEUED,
        owner=new.owner,
        document=new.document,
        created_at=new.created_at,
        name=clean(new.name),
        tags=new.tags,
        parent=new.parent,
        max_attempts=new.max_attempts,
        priority=new.priority,
        project=new.project,
        grounds=new.grounds,
    )


def correct_types(link: Link, job_id: str, types: Mapping[str, Mapping[str, FileType]]) -> None:
    """Write the file types that were found into the task's document (``tesFileType``: the server fills them in).

    :param types: ``inputs`` and ``outputs`` -> path -> type.
    """
    row = get(link, job_id)
    if row is None:
        return
    document = orjson.loads(row.document)
    for part, found in types.items():
        for item in document.get(part, ()):
            item["type"] = found.get(item["path"], item["type"])
    new = document_bytes(document)
    if new != row.document:
        link.put(_SET_DOCUMENT, of_job=job_id, new_document=new)


def get(link: Link, job_id: str) -> Row | None:
    """Return the job's row."""
    found = link.one(_BY_ID, id=job_id)
    return None if found is None else Row._make(found)


def brief(link: Link, job_id: str) -> Brief | None:
    """Return what few columns tell of a job."""
    found = link.one(_BRIEF, id=job_id)
    return None if found is None else Brief._make(found)


def state_of(link: Link, job_id: str) -> State | None:
    """Return the state, which nobody else may change until this transaction ends."""
    found = link.one(_STATE, id=job_id)
    return None if found is None else State(found[0])


def counts(link: Link, kind: Kind, owner: str | None) -> Mapping[State, int]:
    """Count the jobs in each state in which a job can rest."""
    params = {"kind": kind.value} if owner is None else {"kind": kind.value, "owner": owner}
    found = {State(state): int(number) for state, number in link.all(_counts(owner is not None), **params)}
    return {state: found.get(state, 0) for state in sorted(STORED)}


def children(link: Link, run_id: str, states: Collection[State]) -> tuple[str, ...]:
    """Return the ids of a run's tasks that are in these states, oldest first."""
    if not states:
        return ()
    return tuple(job_id for (job_id,) in link.all(_children(frozenset(states)), parent=run_id))


def driven_by(link: Link, worker: str) -> tuple[Job, ...]:
    """Return the jobs whose lease this worker holds, oldest first."""
    found = (Row._make(row).job for row in link.all(_DRIVEN_BY, worker=worker))
    return tuple(sorted(found, key=lambda job: job.id))


def live_keys(link: Link) -> frozenset[str]:
    """Return the keys of the attempts that may have a native job."""
    return frozenset(f"{job_id}-{attempt}" for job_id, attempt in link.all(_LIVE))


def ended_before(link: Link, at: float, limit: int) -> tuple[str, ...]:
    """Return the ids of jobs that ended before a moment and are no run's tasks, oldest first."""
    return tuple(job_id for (job_id,) in link.all(_ENDED_BEFORE, before=new_id(at), at=at, limit=limit))


def remove(link: Link, job_id: str) -> bool:
    """Remove a terminal job and all that is known of it; False when there is none such."""
    row = get(link, job_id)
    if row is None or State(row.state) not in TERMINAL:
        return False
    for key, value in row.job.tags.items():
        link.run(_remove_tag(), key=key, value=value, job_id=job_id)
    for table in (tails, events, attempts, callbacks):
        link.run(Prepared(delete(table).where(table.c.job_id == bindparam("job_id"))), job_id=job_id)
    return link.run(Prepared(delete(jobs).where(jobs.c.id == bindparam("id"))), id=job_id) == 1


def _row_of(new: NewJob) -> dict[str, Any]:
    same_tags = new.tags == new.document.get("tags", {})
    return {
        "id": new.id,
        "kind": new.kind.value,
        "state": State.QUEUED.value,
        "owner": new.owner,
        "name": clean(new.name),
        "parent": new.parent,
        "has_content": has_content(new.document),
        "attempt": 0,
        "max_attempts": new.max_attempts,
        "priority": new.priority,
        "created_at": new.created_at,
        "not_before": 0.0,
        "idempotency_key": new.idempotency_key,
        "tags": None if same_tags else packed(dict(new.tags)),
        "document": document_bytes(new.document),
        "project": new.project,
        "grounds": new.grounds,
    }


def _check_parent(link: Link, run_id: str) -> None:
    """Refuse a task that comes after its run was cancelled: it would outlive the run."""
    found = link.one(_PARENT, id=run_id)
    if found is not None and State(found[0]) in _CLOSED:
        raise Conflict(f"run {run_id} is {found[0]}: it takes no more tasks")


@cache
def _counts(owned: bool) -> Prepared:
    statement: Select[tuple[str, int]] = select(jobs.c.state, func.count()).where(jobs.c.kind == bindparam("kind"))
    if owned:
        statement = statement.where(jobs.c.owner == bindparam("owner"))
    return Prepared(statement.group_by(jobs.c.state))


@cache
def _children(states: frozenset[State]) -> Prepared:
    return Prepared(
        select(jobs.c.id)
        .where(jobs.c.parent == bindparam("parent"), jobs.c.parent.is_not(None), is_in(jobs.c.state, states))
        .order_by(jobs.c.id)
    )


@cache
def _remove_tag() -> Prepared:
    return Prepared(
        delete(tags).where(
            tags.c.key == bindparam("key"), tags.c.value == bindparam("value"), tags.c.job_id == bindparam("job_id")
        )
    )
