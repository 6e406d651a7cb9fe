"""The five operations of TES: translate in, ask the store, translate out. Knows no web framework.

Parameters come in as the spec names them, already checked against it; documents go out. ``tes_service.app`` ties
this to the spec.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from tes_service import answers, rules, service_info
from tes_service.fleet import FleetView, read_resources
from tes_service.wire import parse
from weft import parameters, retention
from weft.audit.entry import Entry
from weft.auth.policy.resource import Action, of_task
from weft.authority import OPEN, Authority
from weft.callbacks.asked import Callbacks
from weft.clock import Clock, NewId
from weft.config import Settings
from weft.errors import Conflict, InvalidRequest, NotFound
from weft.feasibility import Anything, Feasibility
from weft.folders import Folders
from weft.http.request import Request
from weft.limits import Admission
from weft.model import Job, JsonObject, Kind, NewJob, Principal, Task, task_to_json
from weft.ports import Root
from weft.staging.guard import GuardedClient
from weft.states import State
from weft.store.store import Brief, Filters, Row, Store

R = TypeVar("R", Row, Brief)
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
        admission: Admission,
        authority: Authority = OPEN,
        feasible: Feasibility | None = None,
    ) -> None:
        """Keep the collaborators.

        :param schemes: gives those of the URLs that weft can stage.
        :param feasible: refuses what is well formed and could never run; without it nothing is.
        """
        self.store = store
        self.settings = settings
        self.check_url = check_url
        self.schemes = schemes
        self.clock = clock
        self.new_id = new_id
        self.admission = admission
        self.authority = authority
        self.feasible = feasible or Anything()
        self.folders = Folders(settings.data)
        self.callbacks = Callbacks(settings.callbacks, GuardedClient(settings.fetch).check)
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
    ) -> bytes:
        """Give a page of the caller's tasks, newest first.

        :raises InvalidRequest: a forged page token, or tags that do not go together.
        """
        reach = self.authority.reach(request.principal)
        filters = Filters(
            owner=reach.owner,
            projects=reach.projects,
            parent=request.principal.run,
            state=_state(state),
            name_prefix=_plain(name_prefix, "name_prefix") or None,
            tags=_tags(tag_key, tag_value),
        )
        if view == "FULL":
            self.authority.record(self.authority.act("task.read_logs", request.principal, request.id, object="list"))
        return answers.page(self.store, filters, page_size, page_token or None, view)

    async def list_tasks_soon(
        self, request: Request, page_size: int = _PAGE, view: str = "MINIMAL", **filters: Any
    ) -> bytes:
        """``list_tasks`` for the event loop, which reads short pages itself and leaves long ones to a thread."""
        if view != "FULL" and page_size <= _PAGE:
            return self.list_tasks(request, page_size=page_size, view=view, **filters)
        return await asyncio.to_thread(self.list_tasks, request, page_size=page_size, view=view, **filters)

    def create_task(self, body: Any, request: Request) -> JsonObject:
        """Store a task; 200 means that it is on disk.

        :raises InvalidRequest: names the member that is wrong and the remedy.
        :raises Forbidden: what this server's settings or its policy do not allow.
        :raises Conflict: the ``Idempotency-Key`` came before, with another task.
        :raises TooMany: the caller's part of the queue is full.
        :raises Unavailable: the whole queue is.
        """
        new, entry = self._new_job(body, request)
        self.authority.record(entry)
        return _created(new, self.store.create(new))

    async def create_task_soon(self, body: Any, request: Request) -> JsonObject:
        """``create_task`` for the event loop, which answers others while the task comes to disk."""
        new, entry = self._new_job(body, request)
        await self.authority.record_soon(entry)
        return _created(new, await self.store.create_soon(new))

    def _new_job(self, body: Any, request: Request) -> tuple[NewJob, Entry | None]:
        """Return the job to be stored, and what is recorded before that."""
        task, messages = self._understood(body, request.principal)
        chosen = {} if task.resources is None else task.resources.backend_parameters
        document = task_to_json(task)
        self.feasible.check(Kind.TASK, document)
        now = self.clock()
        task_id = self.new_id(now)
        ruling = self.authority.admit(
            request.principal, Kind.TASK, lambda: of_task(task), job_id=task_id, request_id=request.id
        )
        self.admission.admit(request.principal)
        new = NewJob(
            id=task_id,
            kind=Kind.TASK,
            owner=request.principal.name,
            document=document,
            created_at=now,
            name=task.name,
            tags=task.tags,
            parent=request.principal.run,
            max_attempts=parameters.attempts(chosen),
            priority=parameters.priority(chosen),
            idempotency_key=_key(request),
            project=ruling.project,
            grounds=ruling.grounds,
            messages=messages,
            callbacks=self.callbacks.asked(request.headers, request.principal),
        )
        return new, ruling.entry

    def get_task(self, id: str, request: Request, view: str = "MINIMAL") -> JsonObject | bytes:
        """Give a task in one of the three views.

        :raises NotFound: the caller has no such task.
        """
        if id == "service-info":  # toil-batch-system-tes asks here
            return self.get_service_info()
        if view == "MINIMAL":
            return answers.minimal(id, self._task(id, request.principal, self.store.brief).state)
        row = self._task(id, request.principal, self.store.row)
        if view == "FULL":
            self.authority.record(self.authority.act("task.read_logs", request.principal, request.id, job=row.id))
        return answers.one(self.store, row, view)

    async def get_task_soon(self, id: str, request: Request, view: str = "MINIMAL") -> JsonObject | bytes:
        """``get_task`` for the event loop, which waits for no disk: a FULL view is recorded."""
        if view == "FULL" and self.authority.journal is not None:
            return await asyncio.to_thread(self.get_task, id, request, view)
        return self.get_task(id, request, view)

    def cancel_task(self, id: str, request: Request) -> JsonObject:
        """Ask for the end of a task; nothing changes for one that has ended (A5).

        :raises NotFound: the caller has no such task.
        """
        row = self._task(id, request.principal, self.store.brief, Action.CANCEL)
        self.authority.record(self.authority.act("task.cancel", request.principal, request.id, job=row.id))
        if not State(row.state).terminal:
            by = "its owner" if row.owner == request.principal.name else "another who may"
            self.store.request_cancel(row.id, now=self.clock(), message=f"cancelled by {by}")
        return {}

    def delete_task(self, id: str, request: Request) -> JsonObject:
        """Remove a task that has ended, with the files that weft keeps of it; its stored outputs stay.

        :raises NotFound: the caller has no such task.
        :raises Conflict: it has not ended, or belongs to a run.
        """
        row = self._task(id, request.principal, self.store.brief, Action.DELETE)
        if row.parent is not None:
            raise Conflict("the task belongs to a workflow run", field="id", remedy="it is removed with the run")
        self.authority.record(self.authority.act("task.delete", request.principal, request.id, job=row.id))
        if not retention.remove(self.store, self.folders, row.id):
            raise Conflict(f"the task is {row.state}", field="id", remedy="cancel it, and wait for its end")
        return {}

    def _understood(self, body: Any, principal: Principal) -> tuple[Task, list[str]]:
        wire = parse(body)
        fleet = self.fleet.now()
        roots = () if principal.run is None else (Root(self.folders.work(principal.run), writable=True),)
        resources, notes = read_resources(
            wire.resources,
            fleet,
            binary=self.settings.binary_gigabytes,
            bounds=parameters.Bounds(
                retries=self.settings.max_retries, priority=self.admission.limits_of(principal).priority
            ),
        )
        task, messages = rules.read_task(
            wire,
            resources,
            max_content=self.settings.max_content_bytes,
            check_url=lambda url, writing: (
                None if fleet.stages_elsewhere else self.check_url(url, writing=writing, roots=roots)
            ),
        )
        return task, [*messages, *notes]

    def _task(
        self, task_id: str, principal: Principal, read: Callable[[str], R | None], action: Action = Action.READ
    ) -> R:
        """Return what ``read`` gives of a task that the caller sees, and may do this to; for an engine, one of its run.

        :raises NotFound: there is none, or none that they see.
        :raises Forbidden: they see it, and no more.
        """
        row = read(task_id) if task_id.isascii() and task_id.isalnum() else None
        if row is None or row.kind != Kind.TASK or not self.authority.sees(principal, row.owner, row.project):
            raise NotFound(f"there is no task {task_id[:100]!r}", field="id")
        if principal.run is not None and row.parent != principal.run:
            raise NotFound(f"there is no task {task_id[:100]!r} of this run", field="id")
        self.authority.check(principal, action, row.owner, row.project)
        return row


def _created(new: NewJob, known: Job | None) -> JsonObject:
    """Answer a create, which may have found the job that its key made before.

    :raises Conflict: the key of ``new`` belongs to a job that is another one.
    """
    if known is None or known.id == new.id:
        return {"id": new.id}
    if _as_sent(known.document) != _as_sent(new.document):
        raise Conflict("the Idempotency-Key came before with another task", field="Idempotency-Key")
    return {"id": known.id}


def _as_sent(document: JsonObject) -> JsonObject:
    """Leave out what staging may have corrected since (A33)."""
    untyped = {
        part: [{key: value for key, value in item.items() if key != "type"} for item in document.get(part, ())]
        for part in ("inputs", "outputs")
    }
    return {**document, **untyped}


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
