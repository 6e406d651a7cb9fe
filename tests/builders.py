"""Small valid things for tests: say only what the test is about, as in ``a_job(state=State.RUNNING)``.

``a_job`` gives a Job that stands in no database; ``a_new_job`` is what a service hands to ``store.create``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from weft.clock import new_id
from weft.model import Job, Kind, NewJob, Run, Step, Task, run_to_json, task_to_json
from weft.states import DRIVEN, TERMINAL, State
from weft.store import jobs
from weft.store.link import Link
from weft.store.store import Store

#: 2026-01-01T00:00:00Z: the moment at which tests begin.
NOW = 1_767_225_600.0

_milliseconds = itertools.count()


def an_id() -> str:
    """Return a job id that sorts after all ids made before by this process."""
    return new_id(NOW + next(_milliseconds) / 1000)


def a_step(**changes: Any) -> Step:
    """Return a step that says hello."""
    return Step(**{"image": "busybox:latest", "command": ("echo", "hello"), **changes})


def a_task(**changes: Any) -> Task:
    """Return a task of one step."""
    return Task(**{"steps": (a_step(),), **changes})


def a_run(**changes: Any) -> Run:
    """Return a request to run a Snakefile."""
    fields: dict[str, Any] = {
        "workflow_type": "SMK",
        "workflow_type_version": "9",
        "workflow_url": "Snakefile",
        "workflow_engine": "snakemake",
        "workflow_engine_version": "9",
    }
    return Run(**{**fields, **changes})


def a_new_job(*, task: Task | None = None, run: Run | None = None, **changes: Any) -> NewJob:
    """Return a job that nobody stored yet: a task, or a run where ``run`` or ``kind`` says so."""
    return NewJob(**{**_request(task, run, changes.get("kind")), "id": an_id(), "created_at": NOW, **changes})


def a_job(*, task: Task | None = None, run: Run | None = None, **changes: Any) -> Job:
    """Return a job in any state, with the times, the attempt and the lease that its state asks for."""
    state = State(changes.get("state", State.QUEUED))
    fields: dict[str, Any] = {"id": an_id(), "state": state, "created_at": NOW}
    if state is not State.QUEUED:
        fields["attempt"] = 1
    if state in DRIVEN:
        fields |= {"lease_owner": "worker-1", "lease_until": NOW + 30}
    if state in (State.RUNNING, State.COMPLETE, State.EXECUTOR_ERROR):
        fields["started_at"] = NOW + 1
    if state in TERMINAL:
        fields["ended_at"] = NOW + 2
    return Job(**{**_request(task, run, changes.get("kind")), **fields, **changes})


def _request(task: Task | None, run: Run | None, kind: Kind | None) -> dict[str, Any]:
    """Return the fields that follow from what was asked for."""
    if run is not None or kind is Kind.RUN:
        run = run or a_run()
        return {"kind": Kind.RUN, "owner": "alice", "document": run_to_json(run), "tags": run.tags}
    task = task or a_task()
    document = task_to_json(task)
    return {"kind": Kind.TASK, "owner": "alice", "document": document, "name": task.name, "tags": task.tags}


#: The moves that lead to each state after a claim.
_PATHS: dict[State, tuple[State, ...]] = {
    State.INITIALIZING: (),
    State.RUNNING: (State.RUNNING,),
    State.CANCELING: (State.CANCELING,),
    State.COMPLETE: (State.RUNNING, State.COMPLETE),
    State.EXECUTOR_ERROR: (State.RUNNING, State.EXECUTOR_ERROR),
    State.SYSTEM_ERROR: (State.SYSTEM_ERROR,),
    State.CANCELED: (State.CANCELING, State.CANCELED),
}


def create_soon(store: Store, new: NewJob) -> Future[Job]:
    """Create a job without waiting for it; what is created at once is stored at once."""
    return store.writer.submit_each(_create_all, new, rings=True)


def _create_all(link: Link, news: Sequence[NewJob]) -> list[Job]:
    found = jobs.create_all(link, news)
    return [known or jobs.as_created(new) for new, known in zip(news, found, strict=True)]


def stored(store: Store, state: State = State.QUEUED, *, worker: str = "worker-1", **changes: Any) -> Job:
    """Create a job and drive it by legal moves to ``state``, leased by ``worker`` for 30 seconds from ``NOW``."""
    if state is State.QUEUED:
        return store.create(a_new_job(**changes))
    new = a_new_job(**{"priority": 1_000_000, **changes})  # so that the claim gets this one
    store.create(new)
    (job,) = store.claim(worker, [new.kind], 1, now=NOW, until=NOW + 30)
    assert job.id == new.id
    for target in _PATHS[state]:
        moved = store.move(job.id, [job.state], target, now=NOW + 1, lease_owner=worker)
        assert moved is not None
        job = moved
    return job
