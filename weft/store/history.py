"""What happened to a job: its attempts, its events, the tails of its logs. Written beside moves, read in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import orjson
from sqlalchemy import Double, Integer, LargeBinary, Table, Text, bindparam, func, insert, select, update

from weft.model import Attempt, Event, Handle, NewJob, StepResult, StoredOutput, Tail
from weft.states import State
from weft.store.batches import batches, in_batch
from weft.store.link import Link, Prepared
from weft.store.rows import clean, pack_outputs, pack_steps, packed, to_attempt, to_event, to_tail
from weft.store.schema import attempts, events, tails

T = TypeVar("T")

_ADD_EVENT = Prepared(
    insert(events).from_select(
        ["job_id", "seq", "attempt", "at", "source", "target", "message"],
        select(
            bindparam("job_id", type_=Text),
            func.coalesce(func.max(events.c.seq), 0) + 1,
            bindparam("attempt", type_=Integer),
            bindparam("at", type_=Double),
            bindparam("source", type_=Text),
            bindparam("target", type_=Text),
            bindparam("message", type_=Text),
        ).where(events.c.job_id == bindparam("job_id", type_=Text)),
    )
)
_FIRST_EVENT = Prepared(
    insert(events).values({name: bindparam(name) for name in ("job_id", "seq", "attempt", "at", "target")})
)
_LINES = Prepared(
    select(events.c.message).where(
        events.c.job_id == bindparam("job_id"), events.c.attempt == bindparam("attempt"), events.c.target.is_(None)
    )
)
_ADD_ATTEMPT = Prepared(
    insert(attempts).values(job_id=bindparam("job_id"), number=bindparam("number"), started_at=bindparam("started_at"))
)


#: What is not given stays as it was.
_UPDATE_ATTEMPT = Prepared(
    update(attempts)
    .where(attempts.c.job_id == bindparam("of_job"), attempts.c.number == bindparam("of_attempt"))
    .values(
        {
            column.name: func.coalesce(bindparam(f"new_{column.name}", type_=column.type), column)
            for column in attempts.c
            if column.name in ("ended_at", "executor", "native_id", "steps", "outputs", "metadata")
        }
    )
)
_METADATA = Prepared(
    select(attempts.c.metadata).where(
        attempts.c.job_id == bindparam("job_id"), attempts.c.number == bindparam("number")
    )
)
_UPDATE_TAIL = Prepared(
    update(tails)
    .where(
        tails.c.job_id == bindparam("of_job"),
        tails.c.attempt == bindparam("of_attempt"),
        tails.c.step == bindparam("of_step"),
    )
    .values(stdout=bindparam("new_stdout", type_=LargeBinary), stderr=bindparam("new_stderr", type_=LargeBinary))
)
_ADD_TAIL = Prepared(insert(tails))


def first_events(link: Link, news: Sequence[NewJob]) -> None:
    """Write the events of jobs' creations."""
    rest = {"seq": 1, "attempt": 0, "target": State.QUEUED.value}
    link.put_all(_FIRST_EVENT, [{"job_id": new.id, "at": new.created_at, **rest} for new in news])


def add_event(
    link: Link,
    job_id: str,
    attempt: int,
    *,
    at: float,
    source: State | None = None,
    target: State | None = None,
    message: str | None = None,
) -> None:
    """Write one event after the others of its job."""
    link.put(
        _ADD_EVENT,
        job_id=job_id,
        attempt=attempt,
        at=at,
        source=None if source is None else source.value,
        target=None if target is None else target.value,
        message=clean(message),
    )


def add_lines(link: Link, job_id: str, attempt: int, messages: Iterable[str], *, at: float) -> None:
    """Write lines of the system log, each once in an attempt however often it is said."""
    known = {line for (line,) in link.all(_LINES, job_id=job_id, attempt=attempt)}
    for message in dict.fromkeys(messages):
        if clean(message) not in known:
            add_event(link, job_id, attempt, at=at, message=message)


def add_attempt(link: Link, job_id: str, number: int, *, at: float) -> None:
    """Begin an attempt."""
    link.put(_ADD_ATTEMPT, job_id=job_id, number=number, started_at=at)


def update_attempt(
    link: Link,
    job_id: str,
    number: int,
    *,
    ended_at: float | None = None,
    handle: Handle | None = None,
    steps: Sequence[StepResult] | None = None,
    outputs: Sequence[StoredOutput] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Save what is given and keep the rest; new metadata are added to those that are there."""
    if all(value is None for value in (ended_at, handle, steps, outputs, metadata)):
        return
    link.put(
        _UPDATE_ATTEMPT,
        of_job=job_id,
        of_attempt=number,
        new_ended_at=ended_at,
        new_executor=None if handle is None else handle.executor,
        new_native_id=None if handle is None else handle.native_id,
        new_steps=None if steps is None else pack_steps(tuple(steps)),
        new_outputs=None if outputs is None else pack_outputs(tuple(outputs)),
        new_metadata=None if metadata is None else _merged(link, job_id, number, metadata),
    )


def save_tails(link: Link, job_id: str, new: Iterable[Tail]) -> None:
    """Replace the tails of the steps named in ``new``."""
    for tail in new:
        stdout, stderr = (text.encode("utf-8", "replace") for text in (tail.stdout, tail.stderr))
        changed = link.run(
            _UPDATE_TAIL,
            of_job=job_id,
            of_attempt=tail.attempt,
            of_step=tail.step,
            new_stdout=stdout,
            new_stderr=stderr,
        )
        if not changed:
            link.put(_ADD_TAIL, job_id=job_id, attempt=tail.attempt, step=tail.step, stdout=stdout, stderr=stderr)


def attempts_of(link: Link, job_ids: Sequence[str]) -> Mapping[str, tuple[Attempt, ...]]:
    """Return the attempts of each job, first try first; a job without any has an empty tuple."""
    return _gathered(link, attempts, job_ids, to_attempt)


def events_of(link: Link, job_ids: Sequence[str]) -> Mapping[str, tuple[Event, ...]]:
    """Return the events of each job in the order in which they happened."""
    return _gathered(link, events, job_ids, to_event)


def tails_of(link: Link, job_ids: Sequence[str]) -> Mapping[str, tuple[Tail, ...]]:
    """Return the tails of each job by attempt and step."""
    return _gathered(link, tails, job_ids, to_tail)


def _gathered(
    link: Link, table: Table, job_ids: Sequence[str], read: Callable[[tuple[Any, ...]], T]
) -> Mapping[str, tuple[T, ...]]:
    found: dict[str, list[T]] = {job_id: [] for job_id in job_ids}
    for length, params in batches(job_ids):
        for row in link.all(_rows_of(table, length), **params):
            found[row[0]].append(read(row))
    return {job_id: tuple(rows) for job_id, rows in found.items()}


@cache
def _rows_of(table: Table, length: int) -> Prepared:
    """All columns, in the order of the primary key, which begins with the job."""
    order = tuple(table.primary_key.columns)
    return Prepared(select(table).where(in_batch(table.c.job_id, length)).order_by(*order))


def _merged(link: Link, job_id: str, number: int, metadata: Mapping[str, str]) -> bytes:
    row = link.one(_METADATA, job_id=job_id, number=number)
    known = orjson.loads(row[0]) if row is not None and row[0] is not None else {}
    return packed({**known, **metadata})
