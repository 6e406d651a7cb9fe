"""How a task and a run become submissions, and how their results are collected: the two ``Preparation``s."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from weft import explanation
from weft.clock import Clock
from weft.errors import ExecutorRefused, InvalidRequest
from weft.folders import AttemptFolder, Folders, log_path
from weft.model import Job, Kind, Mount, Principal, Resources, Step, Submission, task_to_json
from weft.ports import Engine, Root
from weft.preparation import Collected, PartlyCollected, Prepared
from weft.resumption import Resumption, resumed_run
from weft.staging import datasets
from weft.staging.collect import CollectFailed, collect
from weft.staging.ferry import Ferry
from weft.staging.parallel import in_words
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare
from weft.states import DRIVEN, State
from weft.store.store import Store
from weft.tails import read_tail
from weft.workspace import Sources

#: Jobs run as users of their own from this range, so that no two share files; nobody has an account there.
FIRST_UID = 600_100_000
UIDS = 99_999_999
_OUTCOME = "outcome.json"
#: Tasks that explain why their run failed, how many of them are told, and how much of a stderr is looked at.
_FAILED = (State.EXECUTOR_ERROR, State.SYSTEM_ERROR)
_MOST_REASONS = 5
_TAIL_BYTES = 10_000
#: A run that is handed over is judged by its engine's exit code, as one step that runs elsewhere.
_WHOLE_RUN = (Step(image="", command=()),)


def uid_of(job: Job, run_as: int | None = None) -> int | None:
    """Return the user that a job's steps run as; tasks of one run share the run's. None where weft is not root.

    ``run_as`` is the one user that an executor knows, if it is so.
    """
    if os.geteuid() != 0:
        return None
    if run_as is not None:
        return run_as
    return FIRST_UID + zlib.crc32((job.parent or job.id).encode()) % UIDS


def chosen_user(resources: Resources | None, users: Collection[int]) -> int | None:
    """Return the user that a task asks for by ``backend_parameters.user``; None for the one that weft gives it.

    :raises ExecutorRefused: it is not among ``users``.
    """
    asked = None if resources is None else resources.backend_parameters.get("user")
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdigit() and len(asked) < 11 and int(asked) in users):
        raise ExecutorRefused(
            f"backend parameter user: {asked[:20]!r} is none of the users that this site lets tasks choose"
        )
    return int(asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPreparation:
    """Stages a task's inputs in and its outputs out."""

    stagers: Stagers
    folders: Folders
    writable_inputs: bool = False
    binary_gigabytes: bool = False
    run_as: int | None = None
    #: Users that a task may choose.
    users: frozenset[int] = frozenset()

    def prepare(self, job: Job, folder: AttemptFolder) -> Prepared:
        """Make the attempt's folder with everything that the steps will see."""
        uid = chosen_user(job.task.resources, self.users) or uid_of(job, self.run_as)
        _fresh(folder)
        task = job.task
        asked = task.resources or Resources()
        stagers = self.stagers.for_project(job.project).with_roots(self._roots(job))
        staged = prepare(task, folder, stagers, uid=uid, gid=uid, writable_inputs=self.writable_inputs)
        work = Submission(
            key=job.key,
            job_id=job.id,
            attempt=job.attempt,
            kind=job.kind,
            steps=task.steps,
            folder=folder.root,
            mounts=staged.mounts,
            resources=asked.in_binary() if self.binary_gigabytes else asked,
            uid=uid,
            gid=uid,
        )
        return Prepared(work=work, messages=staged.messages, types=staged.types)

    def collect(self, job: Job, work: Submission, *, best_effort: bool) -> Collected:
        """Upload the outputs; what could be stored is told even where something is missing."""
        stagers = self.stagers.for_project(job.project).with_roots(self._roots(job))
        try:
            kept = collect(job.task, work.mounts, stagers, best_effort=best_effort)
        except CollectFailed as error:
            kept = error.collected
            stored = Collected(outputs=kept.stored, messages=kept.messages, types=kept.types)
            failure = PartlyCollected(error.message, stored)
            failure.may_pass = error.may_pass
            raise failure from error
        return Collected(outputs=kept.stored, messages=kept.messages, types=kept.types)

    def close(self, job: Job) -> None:
        """Nothing is held."""

    def _roots(self, job: Job) -> tuple[Root, ...]:
        return () if job.parent is None else (Root(self.folders.work(job.parent), writable=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPreparation:
    """Starts a run's engine with its one way out, and ends with it whatever it left behind."""

    store: Store
    folders: Folders
    engines: Mapping[str, Engine]
    sources: Sources
    stagers: Stagers
    tes_url: str
    clock: Clock
    #: As for tasks: they share the run's folder.
    run_as: int | None = None

    def prepare(self, job: Job, folder: AttemptFolder) -> Prepared:
        """Fetch a workflow that is named by URL, make the run-scoped token, and ask the engine for its command."""
        uid = uid_of(job, self.run_as)
        run = job.run
        engine = self.engines.get(run.workflow_engine)
        if engine is None:
            raise InvalidRequest(f"workflow engine {run.workflow_engine} is no longer installed here")
        _fresh(folder)
        workspace = self.folders.work(job.id)
        workspace.mkdir(parents=True, exist_ok=True)
        run = self.sources.fill(run, workspace)
        earlier = resumed_run(run.workflow_engine_parameters)
        if earlier is not None:
            Resumption(self.folders).bring(earlier, job.id)
        run = replace(run, workflow_params=datasets.brought(run.workflow_params, workspace, self.stagers))
        token_file = folder.control / "token"
        self.store.revoke_tokens(job.id)
        principal = Principal(issuer=_issuer(job.owner), subject=_subject(job.owner), run=job.id)
        _write_secret(token_file, self.store.create_token(principal, now=self.clock(), expires_at=None))
        folder.engine.mkdir()
        step = engine.step(run, workspace, folder.engine / _OUTCOME, self.tes_url, token_file)
        if uid is not None:
            for path in (workspace, *workspace.rglob("*"), folder.engine, *folder.engine.iterdir(), token_file):
                os.chown(path, uid, uid, follow_symlinks=False)
        work = Submission(
            key=job.key,
            job_id=job.id,
            attempt=job.attempt,
            kind=Kind.RUN,
            steps=(step,),
            folder=folder.root,
            mounts=tuple(Mount(source=path, target=str(path)) for path in (workspace, folder.engine)),
            uid=uid,
            gid=uid,
        )
        return Prepared(work=work)

    def collect(self, job: Job, work: Submission, *, best_effort: bool) -> Collected:
        """Read the engine's output object, and of a run that failed, say why."""
        engine = self.engines.get(job.run.workflow_engine)
        outcome = AttemptFolder(work.folder).engine / _OUTCOME
        return Collected(
            run_outputs=engine.outputs(outcome) if engine is not None and outcome.is_file() else None,
            messages=self._reasons(job, work) if best_effort else (),
        )

    def _reasons(self, job: Job, work: Submission) -> tuple[str, ...]:
        failed = self.store.children(job.id, _FAILED)[-_MOST_REASONS:]
        if not failed:
            stderr = read_tail(log_path(work.folder, work.mounts, work.steps, 0, "stderr"), _TAIL_BYTES)
            return (explanation.of_engine(stderr),)
        attempts, tails = self.store.attempts(failed), self.store.tails_of(failed)
        tasks = [task for task in map(self.store.get, failed) if task is not None]
        return tuple(explanation.of_task(task, attempts[task.id], tails[task.id]) for task in tasks)

    def close(self, job: Job) -> None:
        """End the token and every task that the engine left behind; the copies of datasets go."""
        self.store.revoke_tokens(job.id)
        datasets.remove(self.folders.work(job.id))
        for task_id in self.store.children(job.id, DRIVEN | {State.QUEUED}):
            self.store.request_cancel(task_id, now=self.clock(), message="cancelled: the run that it belongs to ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """For executors that move inputs and outputs by themselves: the job is passed on whole, and nothing is staged.

    The files of a task of a run, which lie in the run's folder here, travel by the ``ferry`` where there is one.
    """

    ferry: Ferry | None = None
    binary_gigabytes: bool = False

    def prepare(self, job: Job, folder: AttemptFolder) -> Prepared:
        """Make the attempt's folder, for the executor's notes and logs, and store what a run's task needs."""
        _fresh(folder)
        task = job.task if job.kind is Kind.TASK else None
        document = job.document
        if task is not None and job.parent is not None and self.ferry is not None:
            document = task_to_json(self.ferry.out(job.parent, task))
        asked = (task and task.resources) or Resources()
        work = Submission(
            key=job.key,
            job_id=job.id,
            attempt=job.attempt,
            kind=job.kind,
            steps=_WHOLE_RUN if task is None else task.steps,
            folder=folder.root,
            resources=asked.in_binary() if self.binary_gigabytes else asked,
            document=document,
        )
        return Prepared(work=work)

    def collect(self, job: Job, work: Submission, *, best_effort: bool) -> Collected:
        """Bring home what a run's task made; else nothing: what was stored stands in the executor's observation."""
        if job.kind is not Kind.TASK or job.parent is None or self.ferry is None:
            return Collected()
        missing = self.ferry.home(job.parent, job.task)
        if missing and not best_effort:
            raise PartlyCollected(in_words(missing), Collected())
        return Collected(messages=missing)

    def close(self, job: Job) -> None:
        """Nothing is held."""


def _fresh(folder: AttemptFolder) -> None:
    """Make the attempt's folder anew: what a worker that died staged by half is redone."""
    shutil.rmtree(folder.root, ignore_errors=True)
    for path in (folder.mounts, folder.logs, folder.control):
        path.mkdir(parents=True)
    folder.root.chmod(0o711)


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)


def _issuer(owner: str) -> str:
    return owner.partition("|")[0]


def _subject(owner: str) -> str:
    return owner.partition("|")[2]
