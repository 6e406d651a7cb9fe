"""The five operations of TES: translate in, ask the store, translate out. Knows no web framework.

Parameters come in as the spec names them, already checked against it; documents go out. ``tes_service.app`` ties
this to the spec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from itertools import zip_longest
from typing import Any, Protocol

from tes_service import rules, service_info, translate
from tes_service.fleet import FleetView, read_resources
from tes_service.wire import parse
from weft.clock import Clock, NewId
from weft.config import Settings
from weft.errors import Conflict, InvalidRequest, NotFound
from weft.folders import Folders
from weft.http.request import Request
from weft.model import Job, JsonObject, Kind, NewJob, Principal, Task, task_to_json
from weft.ports import Root
from weft.states import State
from weft.store.store import Filters, Store

_PAGE = 256
_LONGEST_KEY = 255
_SILENT_LEASES = 3


class CheckUrl(Protocol):
    """Refuses a URL that can never work here (``Stagers.check_url``)."""

    def __call__(self, url: str, *, writing: bool, roots: Sequence[Root] = ()) -> None:
        """Raise ``InvalidRequest`` or ``Forbidden``, or do nothing."""
        ...


class TesApi:
    """TES 1.1.0 over the store."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        check_url: CheckUrl,
        schemes: Callable[[], Collection[str]],
        clock: Clock,
        new_id: NewId,
    ) -> None:
        """Keep the collaborators; ``schemes`` gives those of the URLs that weft can stage."""
        self.store = store
        self.settings = settings
        self.check_url = check_url
        self.schemes = schemes
        self.clock = clock
        self.new_id = new_id
        self.folders = Folders(settings.data)
        self.fleet = FleetView(store, clock, silent_seconds=_SILENT_LEASES * settings.lease_seconds)

    def get_service_info(self) -> JsonObject:
        """Give ``tesServiceInfo``."""
        return service_info.document(
            self.settings,
            schemes=self.schemes(),
            backend_parameters=self.fleet.now().backend_parameters,
            version=version("weft"),
        )

    def list_tasks(
        self,
        request: Request,
        name_prefix: str | None = None,
        state: str | None = None,
        tag_key: Sequence[str] = (),
        tag_value: Sequence[str] = (),
        page_size: int = _PAGE,
        page_token: str | None = None,
        view: str = "MINIMAL",
    ) -> JsonObject:
        """Give a page of the caller's tasks, newest first.

        :raises InvalidRequest: a forged page token, or tags that do not go together.
        """
        filters = Filters(
            owner=request.principal.name,
            parent=request.principal.run,
            state=_state(state),
            name_prefix=_plain(name_prefix, "name_prefix") or None,
            tags=_tags(tag_key, tag_value),
        )
        page = self.store.page(Kind.TASK, filters, page_size, page_token or None)
        document: JsonObject = {"tasks": self._views(page.jobs, view)}
        if page.next_token is not None:
            document["next_page_token"] = page.next_token
        return document

    def create_task(self, body: Any, request: Request) -> JsonObject:
        """Store a task; 200 means that it is on disk.

        :raises InvalidRequest: names the member that is wrong and the remedy.
        :raises Forbidden: a URL that this server's settings do not allow.
        :raises Conflict: the ``Idempotency-Key`` came before, with another task.
        """
        task, messages = self._understood(body, request.principal)
        now = self.clock()
        new = NewJob(
            id=self.new_id(now),
            kind=Kind.TASK,
            owner=request.principal.name,
            document=task_to_json(task),
            created_at=now,
            name=task.name,
            tags=task.tags,
            parent=request.principal.run,
            idempotency_key=_key(request),
            messages=messages,
        )
        job = self.store.create(new)
        if job.id != new.id and job.document != new.document:
            raise Conflict("the Idempotency-Key came before with another task", field="Idempotency-Key")
        return {"id": job.id}

    def get_task(self, id: str, request: Request, view: str = "MINIMAL") -> JsonObject:
        """Give a task in one of the three views.

        :raises NotFound: the caller has no such task.
        """
        if id == "service-info":  # toil-batch-system-tes asks here
            return self.get_service_info()
        return self._views((self._task(id, request.principal),), view)[0]

    def cancel_task(self, id: str, request: Request) -> JsonObject:
        """Ask for the end of a task; nothing changes for one that has ended (A5).

        :raises NotFound: the caller has no such task.
        """
        job = self._task(id, request.principal)
        if not job.state.terminal:
            self.store.request_cancel(job.id, now=self.clock(), message="cancelled by its owner")
        return {}

    def _understood(self, body: Any, principal: Principal) -> tuple[Task, list[str]]:
        wire = parse(body)
        roots = () if principal.run is None else (Root(self.folders.work(principal.run), writable=True),)
        task, messages = rules.read_task(
            wire,
            max_content=self.settings.max_content_bytes,
            check_url=lambda url, writing: self.check_url(url, writing=writing, roots=roots),
        )
        resources, notes = read_resources(wire.resources, self.fleet.now())
        return dataclasses.replace(task, resources=resources), [*messages, *notes]

    def _task(self, task_id: str, principal: Principal) -> Job:
        """Return one of the caller's tasks; for an engine, one of its run."""
        job = self.store.get(task_id) if task_id.isascii() and task_id.isalnum() else None
        if job is None or job.kind is not Kind.TASK or job.owner != principal.name:
            raise NotFound(f"there is no task {task_id[:100]!r}", field="id")
        if principal.run is not None and job.parent != principal.run:
            raise NotFound(f"there is no task {task_id[:100]!r} of this run", field="id")
        return job

    def _views(self, jobs: Sequence[Job], view: str) -> list[JsonObject]:
        if view == "MINIMAL":
            return [translate.minimal(job) for job in jobs]
        ids = [job.id for job in jobs]
        attempts = self.store.attempts(ids)
        if view == "BASIC":
            return [translate.basic(job, attempts.get(job.id, ())) for job in jobs]
        tails, events = self.store.tails_of(ids), self.store.events_of(ids)
        return [translate.full(job, attempts.get(job.id, ()), tails[job.id], events[job.id]) for job in jobs]


def _state(state: str | None) -> State | None:
    """Read the filter; UNKNOWN is none (A1)."""
    return None if state is None or state == State.UNKNOWN else State(state)


def _tags(keys: Sequence[str], values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair keys and values by their places (A30)."""
    if len(values) > len(keys):
        raise InvalidRequest(
            "there are more tag_value than tag_key", field="tag_value", remedy="name the tag of each value by tag_key"
        )
    for text in (*keys, *values):
        _plain(text, "tag_key")
    return tuple(zip_longest(keys, values, fillvalue=""))


def _plain(text: str | None, field: str) -> str | None:
    if text is not None and "\0" in text:
        raise InvalidRequest(f"{field} holds a NUL character", field=field, remedy="remove it")
    return text


def _key(request: Request) -> str | None:
    """Return the key that the store compares; an engine's keys are those of its run."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {_LONGEST_KEY} printable ASCII characters",
            field="Idempotency-Key",
            remedy="send a UUID",
        )
    return f"task:{request.principal.run or ''}:{key}"
