"""Rows and what they mean: from the columns of the database to the words of ``weft.model`` and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement
from sqlalchemy.sql import FromClause

from weft.errors import InvalidRequest
from weft.model import Attempt, Event, Handle, Job, JsonObject, Kind, StepResult, StoredOutput, Tail
from weft.states import State


class Row(NamedTuple):
    """A job as it stands in the database: ``document``, ``tags`` and ``outputs`` are JSON that nobody parsed yet."""

    id: str
    kind: str
    state: str
    owner: str
    document: bytes
    #: A task with ``inputs[].content``; without any, the BASIC view is the document's bytes and more.
    has_content: bool
    created_at: float
    name: str | None
    #: None where they are the document's own.
    tags: bytes | None
    parent: str | None
    attempt: int
    max_attempts: int
    priority: int
    started_at: float | None
    ended_at: float | None
    lease_owner: str | None
    lease_until: float | None
    executor: str | None
    native_id: str | None
    outputs: bytes | None
    project: str | None
    grounds: bytes | None

    @property
    def job(self) -> Job:
        """The job, parsed."""
        return self.job_with(orjson.loads(self.document))

    def job_with(self, document: JsonObject) -> Job:
        """Give the job to whoever has parsed its document already."""
        return Job(
            id=self.id,
            kind=Kind(self.kind),
            state=State(self.state),
            owner=self.owner,
            document=document,
            created_at=float(self.created_at),
            name=self.name,
            tags=document.get("tags", {}) if self.tags is None else orjson.loads(self.tags),
            parent=self.parent,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            priority=self.priority,
            started_at=_seconds(self.started_at),
            ended_at=_seconds(self.ended_at),
            lease_owner=self.lease_owner,
            lease_until=_seconds(self.lease_until),
            handle=_handle(self.executor, self.native_id),
            outputs=None if self.outputs is None else orjson.loads(self.outputs),
            project=self.project,
            grounds=self.grounds,
        )


class Brief(NamedTuple):
    """What says who may see a job, and how it stands."""

    id: str
    kind: str
    state: str
    owner: str
    parent: str | None
    project: str | None


def job_columns(table: FromClause, names: Iterable[str] = Row._fields) -> list[ColumnElement[Any]]:
    """Return the columns that make a ``Row``, or those that are named."""
    return [table.c[name] for name in names]


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Write a request's document.

    :raises InvalidRequest: it holds what JSON in UTF-8 with 64-bit integers cannot say.
    """
    try:
        return orjson.dumps(document)
    except TypeError as error:
        raise InvalidRequest(f"the document cannot be stored: {error}") from error


def has_content(document: Mapping[str, Any]) -> bool:
    """Tell whether a task carries the content of an input in itself."""
    return any("content" in item for item in document.get("inputs", ()))


def packed(value: object) -> bytes:
    """Write what weft itself found out as JSON; what UTF-8 cannot say is replaced, never refused."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, default=vars, ensure_ascii=False).encode("utf-8", "replace")


def clean(text: str | None) -> str | None:
    """Replace what a database cannot keep as text: halves of surrogate pairs (odd file names) and NUL."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def pack_steps(steps: tuple[StepResult, ...]) -> bytes:
    """Write step results."""
    return packed([_fields(step, ("started_at", "ended_at", "exit_code", "reason")) for step in steps])


def pack_outputs(outputs: tuple[StoredOutput, ...]) -> bytes:
    """Write the log of stored files."""
    return packed([_fields(output, ("url", "path", "size_bytes")) for output in outputs])


def to_attempt(row: tuple[Any, ...]) -> Attempt:
    """Read a row of ``attempts``."""
    job_id, number, started_at, ended_at, executor, native_id, steps, outputs, metadata = row
    return Attempt(
        job_id=job_id,
        number=number,
        handle=_handle(executor, native_id),
        started_at=started_at,
        ended_at=ended_at,
        steps=() if steps is None else tuple(StepResult(**item) for item in orjson.loads(steps)),
        outputs=() if outputs is None else tuple(StoredOutput(**item) for item in orjson.loads(outputs)),
        metadata={} if metadata is None else orjson.loads(metadata),
    )


def to_event(row: tuple[Any, ...]) -> Event:
    """Read a row of ``events``."""
    job_id, _seq, attempt, at, source, target, message = row
    return Event(
        job_id=job_id,
        attempt=attempt,
        at=at,
        source=None if source is None else State(source),
        target=None if target is None else State(target),
        message=message,
    )


def to_tail(row: tuple[Any, ...]) -> Tail:
    """Read a row of ``tails``."""
    _job_id, attempt, step, stdout, stderr = row
    return Tail(
        attempt=attempt, step=step, stdout=stdout.decode("utf-8", "replace"), stderr=stderr.decode("utf-8", "replace")
    )


def _seconds(at: float | None) -> float | None:
    """Return a float also where SQLite's RETURNING gives a whole number as an integer."""
    return None if at is None else float(at)


def _handle(executor: str | None, native_id: str | None) -> Handle | None:
    return None if executor is None or native_id is None else Handle(executor=executor, native_id=native_id)


def _fields(value: object, names: tuple[str, ...]) -> JsonObject:
    return {name: getattr(value, name) for name in names}
