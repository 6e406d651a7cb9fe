"""What a worker and a job far away say to one another through object storage: the plan one way, the outcome back. Pure.

::

    STORAGE/KEY/plan.json      the task and how to run it; written before the job is submitted
    STORAGE/KEY/claim.json     which native job took the plan: a second one of the same key runs nothing
    STORAGE/KEY/outcome.json   what became of the steps, what was stored, and the ends of the logs
    STORAGE/KEY/logs/0.stdout  a log that is too long for the outcome
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from weft.model import FileType, JsonObject, StepResult, StoredOutput, Task, task_from_json, task_to_json

PLAN, CLAIM, OUTCOME = "plan.json", "claim.json", "outcome.json"
#: A log longer than this lies beside the outcome.
LONGEST_LOG_INSIDE = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """All that the staging program needs beside its own settings."""

    key: str
    task: Task
    #: Who the steps run as.
    uid: int
    gid: int
    #: How much of the end of each log is kept, in bytes.
    max_log_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """One stream of one step: its end, or the name of the object that holds it."""

    step: int
    stream: str
    text: str = ""
    stored_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the staging program saw. ``failure`` is in words; steps that did not start are not in ``steps``."""

    #: The native job that ran, as the backend names it.
    native_job: str
    failure: str | None = None
    steps: tuple[StepResult, ...] = ()
    outputs: tuple[StoredOutput, ...] = ()
    messages: tuple[str, ...] = ()
    logs: tuple[StepLog, ...] = ()
    #: ``inputs`` and ``outputs`` -> path -> the type that was found.
    types: Mapping[str, Mapping[str, FileType]] | None = None


def write_plan(plan: JobPlan) -> bytes:
    """Give the plan as JSON."""
    return orjson.dumps(
        {
            "key": plan.key,
            "task": task_to_json(plan.task),
            "uid": plan.uid,
            "gid": plan.gid,
            "max_log_bytes": plan.max_log_bytes,
        }
    )


def read_plan(text: bytes) -> JobPlan:
    """Read what ``write_plan`` wrote."""
    document: JsonObject = orjson.loads(text)
    return JobPlan(**{**document, "task": task_from_json(document["task"])})


def write_outcome(outcome: Outcome) -> bytes:
    """Give the outcome as JSON."""
    return orjson.dumps(outcome, default=_plain)


def read_outcome(text: bytes) -> Outcome:
    """Read what ``write_outcome`` wrote.

    :raises ValueError: it is not an outcome.
    """
    document: JsonObject = orjson.loads(text)
    try:
        return Outcome(
            native_job=document["native_job"],
            failure=document["failure"],
            steps=tuple(StepResult(**step) for step in document["steps"]),
            outputs=tuple(StoredOutput(**item) for item in document["outputs"]),
            messages=tuple(document["messages"]),
            logs=tuple(StepLog(**log) for log in document["logs"]),
            types=_types(document["types"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an outcome: {error}") from error


def _types(document: Any) -> Mapping[str, Mapping[str, FileType]] | None:
    if document is None:
        return None
    return {side: {path: FileType(kind) for path, kind in found.items()} for side, found in document.items()}


def _plain(value: Any) -> Any:
    return dict(value)
