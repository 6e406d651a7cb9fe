"""The eight operations of WES: translate in, ask the store, translate out. Knows nothing of any web framework."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import zip_longest

from weft import submissions
from weft.auth.policy.resource import Action, of_run
from weft.authority import OPEN, Authority, Ruling
from weft.callbacks.asked import Callbacks
from weft.clock import Clock, NewId
from weft.config import Settings
from weft.errors import Conflict, Forbidden, InvalidRequest, NotFound, WeftError
from weft.feasibility import Anything, Feasibility
from weft.folders import Folders
from weft.http.request import Request
from weft.limits import Admission
from weft.model import Attempt, Job, JsonObject, Kind, NewJob, Principal, Run, run_to_json
from weft.parameters import engine_parameter
from weft.ports import Engine
from weft.resumption import PARAMETER as RESUME_FROM
from weft.resumption import resumed_run
from weft.staging import datasets
from weft.staging.guard import GuardedClient
from weft.staging.trs import Registries
from weft.states import STORED, State
from weft.store.store import Filters, Store
from wes_service import matching, service_info, translate
from wes_service.attachments import Intake, Limits
from wes_service.engines.parameters import OUTPUT_URL
from wes_service.forms import Fields, Readable, read_body
from wes_service.references import CheckUrl, check_reference
from wes_service.translate import Links
from wes_service.wire import parse
from wes_service.workfolder import WorkFolder

_PAGE = 100
_LARGEST_PAGE = 1000
_LONGEST_KEY = 255
_SILENT_LEASES = 3
_LIVE = STORED - {state for state in State if state.terminal} - {State.CANCELING}


class WesApi:
    """WES 1.1.0 over the store."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        engines: Mapping[str, Engine],
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
        self.engines = tuple(engines.values())
        self.check_url = check_url
        self.schemes = schemes
        self.clock = clock
        self.new_id = new_id
        self.admission = admission
        self.authority = authority
        self.feasible = feasible or Anything()
        self.folders = Folders(settings.data)
        client = GuardedClient(settings.fetch)
        self.callbacks = Callbacks(settings.callbacks, client.check)
        self.registries = Registries(settings.trs, client)
        self.limits = Limits(part_bytes=settings.max_attachment_bytes, total_bytes=settings.max_attachment_bytes)

    # -- service -----------------------------------------------------------------------------------------------

    def get_service_info(self, request: Request) -> JsonObject:
        """Give ``ServiceInfo``; the counts are those of the caller's own runs."""
        counts = self.store.counts(Kind.RUN, request.principal.name)
        return service_info.document(self.settings, self.engines, self.schemes(), counts, version=version("weft"))

    # -- create ------------------------------------------------------------------------------------------------

    def run_workflow(self, request: Request, stream: Readable) -> JsonObject:
        """Store a run with its attachments and give ``RunId``; nothing is left of a run that is refused.

        :param stream: the body as it comes from the client.
        :raises InvalidRequest: names the field and the remedy.
        :raises Conflict: the idempotency key belongs to a different request.
        :raises TooMany: the caller's part of the queue is full.
        :raises Unavailable: the whole queue is.
        """
        _no_engine(request.principal)
        self.admission.admit(request.principal)
        key = _checked_key(request.headers.get("idempotency-key"))
        callbacks = self.callbacks.asked(request.headers, request.principal)
        now = self.clock()
        run_id = self.new_id(now)
        intake = Intake(folder=self.folders.work(run_id), limits=self.limits)
        try:
            content_type = request.headers.get("content-type", "")
            fields = read_body(content_type, stream, intake, most_text=self.settings.max_body_bytes)
            run = self._understood(fields, intake.names)
            ruling = self.authority.admit(
                request.principal, Kind.RUN, lambda: of_run(run), job_id=run_id, request_id=request.id
            )
            self._check_resumption(run, request.principal, ruling.project)
            intake.seal()
            self.authority.record(ruling.entry)
            new = _new_job(run_id, run, request.principal, now, key, fields.unknown, ruling)
            job = self.store.create(replace(new, callbacks=callbacks))
        except BaseException:
            self._discard(intake, run_id)
            raise
        if job.id != run_id:
            intake.discard()
            if job.document != run_to_json(run):
                raise Conflict("the Idempotency-Key was sent before with a different request", field="Idempotency-Key")
        return {"run_id": job.id}

    def _discard(self, intake: Intake, run_id: str) -> None:
        """Remove the attachments of a run that was refused; not where it may be stored all the same."""
        try:
            stored = self.store.get(run_id) is not None
        except WeftError:
            return
        if not stored:
            intake.discard()

    def _understood(self, fields: Fields, attached: Sequence[str]) -> Run:
        form = parse(fields.values)
        match = matching.choose(form, self.engines)
        check_reference(
            form.workflow_url,
            match.workflow_type,
            attached=bool(attached),
            check_url=self.check_url,
            registries=self.registries,
        )
        info = match.engine.info
        run = Run(
            workflow_type=match.workflow_type,
            workflow_type_version=match.workflow_type_version,
            workflow_url=form.workflow_url,
            workflow_params=form.workflow_params,
            workflow_engine=info.name,
            workflow_engine_version=info.version,
            workflow_engine_parameters=form.workflow_engine_parameters,
            tags=form.tags,
        )
        elsewhere = self._takers_of_runs()
        match.engine.validate(replace(run, workflow_engine_parameters=_for_engines(run, elsewhere)))
        if not elsewhere:
            self._check_datasets(run)
            self._check_destination(run)
        self.feasible.check(Kind.RUN, run_to_json(run))
        return run

    def _takers_of_runs(self) -> list[JsonObject]:
        """Return what the workers can do that pass runs on whole, to where their engines and their data are."""
        since = self.clock() - _SILENT_LEASES * self.settings.lease_seconds
        return [worker.capabilities for worker in self.store.workers(since=since) if worker.capabilities.get("runs")]

    def _check_datasets(self, run: Run) -> None:
        for url in datasets.named(run.workflow_params):
            try:
                self.check_url(url, writing=False)
            except Forbidden as error:
                message = f"workflow_params: {error.message}"
                raise Forbidden(message, field="workflow_params", remedy=error.remedy) from error

    def _check_resumption(self, run: Run, principal: Principal, project: str | None) -> None:
        """Refuse to resume what is not the caller's and of the project, what still runs or what another engine left.

        :raises InvalidRequest: says which.
        """
        earlier_id = resumed_run(run.workflow_engine_parameters)
        if earlier_id is None:
            return
        shown = earlier_id[:100]
        earlier = self.store.get(earlier_id)
        if self._takers_of_runs():
            problem = "runs here go to other sites, where none can be resumed"
        elif earlier is None or earlier.kind is not Kind.RUN or earlier.owner != principal.name:
            problem = f"there is no run {shown} of yours"
        elif earlier.project != project:
            problem = f"run {shown} is of another project"
        elif not earlier.state.terminal:
            problem = f"run {shown} is {earlier.state.value}"
        elif earlier.run.workflow_engine != run.workflow_engine:
            problem = f"run {shown} was one of {earlier.run.workflow_engine}"
        else:
            return
        field = f"workflow_engine_parameters.{RESUME_FROM}"
        remedy = f"name an ended run of yours, of the same project and of {run.workflow_engine}"
        raise InvalidRequest(f"{RESUME_FROM}: {problem}", field=field, remedy=remedy)

    def _check_destination(self, run: Run) -> None:
        """Refuse outputs that could never be stored where the run asks for.

        :raises InvalidRequest: malformed, or no scheme that is served here.
        :raises Forbidden: not allowed by this server's settings.
        """
        url = engine_parameter(run.workflow_engine_parameters, OUTPUT_URL)
        if url is None:
            return
        try:
            self.check_url(url, writing=True)
        except (InvalidRequest, Forbidden) as error:
            field = "workflow_engine_parameters.output_url"
            raise type(error)(error.message, field=field, remedy=error.remedy) from error

    # -- read --------------------------------------------------------------------------------------------------

    def list_runs(
        self,
        request: Request,
        page_size: int | None = None,
        page_token: str | None = None,
        state: str | None = None,
        tag_key: Sequence[str] = (),
        tag_value: Sequence[str] = (),
    ) -> JsonObject:
        """Give ``RunListResponse``: the caller's runs, newest first."""
        reach = self.authority.reach(request.principal)
        filters = Filters(
            owner=reach.owner, projects=reach.projects, state=_state(state), tags=_tags(tag_key, tag_value)
        )
        page = self.store.page(Kind.RUN, filters, _size(page_size), page_token or None)
        return {
            "runs": [translate.run_summary(job) for job in page.jobs],
            "next_page_token": page.next_token or "",
        }

    def get_run_status(self, request: Request, run_id: str) -> JsonObject:
        """Give ``RunStatus``."""
        return translate.run_status(self.run(request.principal, run_id))

    def get_run_log(self, request: Request, run_id: str) -> JsonObject:
        """Give ``RunLog`` with the newest tasks in ``task_logs``."""
        job = self.run(request.principal, run_id)
        self.authority.record(self.authority.act("run.read_log", request.principal, request.id, job=run_id))
        links = Links(request.base_url)
        work = WorkFolder(self.folders.work(run_id))
        return translate.run_log(
            job,
            links=links,
            attempts=self.attempts(job),
            events=self.store.events(run_id),
            command=self._command(job),
            task_logs=self._page_of_tasks(request, job, _PAGE, None)["task_logs"],
            is_file=lambda path: work.size(path) is not None,
        )

    def list_tasks(
        self, request: Request, run_id: str, page_size: int | None = None, page_token: str | None = None
    ) -> JsonObject:
        """Give ``TaskListResponse``: the run's tasks, newest first."""
        run = self.run(request.principal, run_id)
        return self._page_of_tasks(request, run, _size(page_size), page_token or None)

    def get_task(self, request: Request, run_id: str, task_id: str) -> JsonObject:
        """Give ``TaskLog``."""
        job = self.task(request.principal, run_id, task_id)
        links = Links(request.base_url)
        events = self.store.events(task_id)
        return translate.task_log(job, run_id, links=links, attempts=self.attempts(job), events=events)

    def _page_of_tasks(self, request: Request, run: Job, size: int, token: str | None) -> JsonObject:
        links = Links(request.base_url)
        page = self.store.page(Kind.TASK, Filters(owner=run.owner, parent=run.id), size, token)
        ids = [job.id for job in page.jobs]
        attempts, events = self.store.attempts(ids), self.store.events_of(ids)
        return {
            "task_logs": [
                translate.task_log(job, run.id, links=links, attempts=attempts[job.id], events=events[job.id])
                for job in page.jobs
            ],
            "next_page_token": page.next_token or "",
        }

    def _command(self, job: Job) -> tuple[str, ...]:
        """Return the engine's command as it was submitted; empty before that."""
        work = submissions.load(self.folders.attempt(job.id, job.attempt).root) if job.attempt else None
        return work.steps[0].command if work is not None and work.steps else ()

    # -- cancel ------------------------------------------------------------------------------------------------

    def cancel_run(self, request: Request, run_id: str) -> JsonObject:
        """Ask for the end of the engine and of every task of the run; nothing changes for a run that has ended."""
        _no_engine(request.principal)
        job = self.run(request.principal, run_id, Action.CANCEL)
        self.authority.record(self.authority.act("run.cancel", request.principal, request.id, job=run_id))
        if not job.state.terminal:
            now = self.clock()
            by = "its owner" if job.owner == request.principal.name else "another who may"
            self.store.request_cancel(run_id, now=now, message=f"cancelled by {by}")
            for task_id in self.store.children(run_id, _LIVE):
                self.store.request_cancel(task_id, now=now, message="cancelled with its run")
        return {"run_id": run_id}

    # -- shared with the files of a run --------------------------------------------------------------------------

    def run(self, principal: Principal, run_id: str, action: Action = Action.READ) -> Job:
        """Return a run that the caller sees, and may do this to.

        :raises NotFound: there is none; a run of somebody else is none, unless it is shared.
        :raises Forbidden: they see it, and no more.
        """
        job = self.store.get(run_id)
        if job is None or job.kind is not Kind.RUN or not self.authority.sees(principal, job.owner, job.project):
            raise NotFound(f"there is no run {run_id[:100]}", field="run_id")
        self.authority.check(principal, action, job.owner, job.project)
        return job

    def task(self, principal: Principal, run_id: str, task_id: str) -> Job:
        """Return a task of the caller's run.

        :raises NotFound: there is no such run, or the run has no such task.
        """
        self.run(principal, run_id)
        job = self.store.get(task_id)
        if job is None or job.kind is not Kind.TASK or job.parent != run_id:
            raise NotFound(f"run {run_id} has no task {task_id[:100]}", field="task_id")
        return job

    def attempts(self, job: Job) -> tuple[Attempt, ...]:
        """Return the attempts at one job, oldest first."""
        return self.store.attempts([job.id])[job.id]


def _for_engines(run: Run, elsewhere: Sequence[JsonObject]) -> dict[str, str]:
    """Leave out what is said to an executor that takes whole runs."""
    known = {name for item in elsewhere for name in item["backend_parameters"]}
    return {name: value for name, value in run.workflow_engine_parameters.items() if name not in known}


def _new_job(
    run_id: str,
    run: Run,
    principal: Principal,
    now: float,
    key: str | None,
    unknown: Sequence[str],
    ruling: Ruling,
) -> NewJob:
    return NewJob(
        id=run_id,
        kind=Kind.RUN,
        owner=principal.name,
        document=run_to_json(run),
        created_at=now,
        name=translate.name_of(run.workflow_url),
        tags=run.tags,
        idempotency_key=key,
        project=ruling.project,
        grounds=ruling.grounds,
        messages=[f"the field {name[:100]!r} is not one of WES 1.1.0: ignored" for name in unknown[:20]],
    )


def _no_engine(principal: Principal) -> None:
    if principal.run is not None:
        raise Forbidden("an engine's token cannot start or cancel runs", remedy="use the token of a person")


def _checked_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {_LONGEST_KEY} printable ASCII characters",
            field="Idempotency-Key",
            remedy="send a UUID",
        )
    return key


def _size(page_size: int | None) -> int:
    if page_size is None:
        return _PAGE
    if page_size <= 0:
        raise InvalidRequest("page_size must be at least 1", field="page_size", remedy=f"send 1 to {_LARGEST_PAGE}")
    return min(page_size, _LARGEST_PAGE)


def _state(state: str | None) -> State | None:
    if state is None:
        return None
    try:
        return State(state)
    except ValueError as error:
        remedy = f"use one of: {', '.join(State)}"
        raise InvalidRequest(f"state '{state[:50]}' is not a state", field="state", remedy=remedy) from error


def _tags(keys: Sequence[str], values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(values) > len(keys):
        raise InvalidRequest("more tag_value than tag_key", field="tag_value", remedy="name the tag by tag_key")
    return tuple(zip_longest(keys, values, fillvalue=""))
