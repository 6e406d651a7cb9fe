"""From jobs to the documents of WES. Pure: what is known goes in, what the client sees comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from weft.model import Attempt, Event, Job, JsonObject, StepResult, without_nulls
from weft.states import State

WES = "/ga4gh/wes/v1"
TES = "/ga4gh/tes/v1"
MASK = "***"
#: The classes of the objects that stand for files in CWL.
CWL_FILES = ("File", "Directory")
_SECRET = re.compile(
    r"passw|passphrase|secret|credential|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|token(?![a-z])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Links:
    """Absolute URLs below ``origin``, the URL under which the client reaches this server, without a trailing slash."""

    origin: str

    def run(self, run_id: str) -> str:
        """Return the URL of a run."""
        return f"{self.origin}{WES}/runs/{quote(run_id, safe='')}"

    def log(self, run_id: str, stream: str) -> str:
        """Return the URL of the engine's ``stdout`` or ``stderr``."""
        return f"{self.run(run_id)}/{stream}"

    def tasks(self, run_id: str) -> str:
        """Return the URL of the list of a run's tasks."""
        return f"{self.run(run_id)}/tasks"

    def task_log(self, run_id: str, task_id: str, stream: str) -> str:
        """Return the URL of a task's ``stdout`` or ``stderr``."""
        return f"{self.tasks(run_id)}/{quote(task_id, safe='')}/{stream}"

    def output(self, run_id: str, path: str) -> str:
        """Return the URL of a file in a run's work folder."""
        return f"{self.run(run_id)}/outputs/{quote(path)}"

    def tes(self, task_id: str) -> str:
        """Return the URL of a task in TES."""
        return f"{self.origin}{TES}/tasks/{quote(task_id, safe='')}"


def wes_time(seconds: float | None) -> str | None:
    """Write a time as WES does: UTC, whole seconds, a literal Z."""
    return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_status(job: Job) -> JsonObject:
    """Give ``RunStatus``."""
    return {"run_id": job.id, "state": job.state.value}


def run_summary(job: Job) -> JsonObject:
    """Give ``RunSummary``."""
    times = {"start_time": wes_time(job.started_at), "end_time": wes_time(job.ended_at)}
    return {**run_status(job), **without_nulls(times), "tags": dict(job.tags)}


def run_log(
    job: Job,
    *,
    links: Links,
    attempts: Sequence[Attempt],
    events: Sequence[Event],
    command: Sequence[str],
    task_logs: Sequence[JsonObject],
    is_file: Callable[[str], bool],
) -> JsonObject:
    """Give ``RunLog``.

    :param command: the argument list of the engine; empty before it has one.
    :param is_file: tells whether a path below the run's work folder is a file that can be fetched.
    """
    step = _last_step(attempts)
    log: JsonObject = {
        "name": job.name or job.id,
        "cmd": list(command),
        "start_time": wes_time(job.started_at),
        "end_time": wes_time(job.ended_at),
        "stdout": links.log(job.id, "stdout"),
        "stderr": links.log(job.id, "stderr"),
        "exit_code": None if step is None else step.exit_code,
        "system_logs": messages(events),
    }
    return {
        "run_id": job.id,
        "request": redacted(job.document),
        "state": job.state.value,
        "run_log": without_nulls(log),
        "task_logs_url": links.tasks(job.id),
        "task_logs": list(task_logs),
        "outputs": {} if job.outputs is None else with_urls(job.outputs, job.id, links, is_file),
    }


def task_log(
    job: Job, run_id: str, *, links: Links, attempts: Sequence[Attempt], events: Sequence[Event]
) -> JsonObject:
    """Give ``TaskLog`` of a TES task: the command, the times and the exit code are those of ``shown_step``."""
    index = shown_step(job, attempts)
    result = _result(attempts, index)
    log: JsonObject = {
        "id": job.id,
        "name": job.name or job.id,
        "cmd": list(job.document["executors"][index]["command"]),
        "start_time": wes_time(job.started_at),
        "end_time": wes_time(job.ended_at),
        "stdout": links.task_log(run_id, job.id, "stdout"),
        "stderr": links.task_log(run_id, job.id, "stderr"),
        "exit_code": None if result is None else result.exit_code,
        "system_logs": messages(events),
        "tes_uri": links.tes(job.id),
    }
    return without_nulls(log)


def shown_step(job: Job, attempts: Sequence[Attempt]) -> int:
    """Return the index of the step that stands for a task: the last that has started, else the last there is."""
    started = len(attempts[-1].steps) if attempts else 0
    steps = len(job.document["executors"])
    return min(started, steps) - 1 if started else steps - 1


def messages(events: Sequence[Event]) -> list[str]:
    """Return the lines of a job's system log, each with its time."""
    return [f"{wes_time(event.at)} {event.message}" for event in events if event.message]


def service_counts(counts: Mapping[State, int]) -> dict[str, int]:
    """Give ``system_state_counts``: every state is there."""
    return {state.value: counts.get(state, 0) for state in State}


def redacted(value: Any) -> Any:
    """Copy a document with the values masked whose key looks like that of a secret, however deep."""
    if isinstance(value, dict):
        return {key: MASK if _SECRET.search(key) and _masks(item) else redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return value


def _masks(item: Any) -> bool:
    return item not in (None, "", True, False)


def with_urls(value: Any, run_id: str, links: Links, is_file: Callable[[str], bool]) -> Any:
    """Copy an output object with every string that is the path of a file turned into its URL.

    In a File or Directory object of CWL that is its ``location`` alone: a ``basename`` is no path.
    """
    if isinstance(value, dict):
        if value.get("class") in CWL_FILES and isinstance(value.get("location"), str):
            inner = {key: _inner_urls(item, run_id, links, is_file) for key, item in value.items()}
            return {**inner, "location": links.output(run_id, plain_path(value["location"]))}
        return {key: with_urls(item, run_id, links, is_file) for key, item in value.items()}
    if isinstance(value, list):
        return [with_urls(item, run_id, links, is_file) for item in value]
    if isinstance(value, str) and is_file(value):
        return links.output(run_id, plain_path(value))
    return value


def _inner_urls(value: Any, run_id: str, links: Links, is_file: Callable[[str], bool]) -> Any:
    """Turn only what is nested in a CWL file object: ``secondaryFiles`` and ``listing``."""
    return with_urls(value, run_id, links, is_file) if isinstance(value, list) else value


def strings_in(value: Any) -> list[str]:
    """Return all strings among the values of a document, however deep."""
    if isinstance(value, dict):
        if value.get("class") in CWL_FILES and isinstance(value.get("location"), str):
            inner = (item for item in value.values() if isinstance(item, list))
            return [value["location"], *(text for item in inner for text in strings_in(item))]
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


def plain_path(path: str) -> str:
    """Return a relative path without a leading ``./``."""
    while path.startswith("./"):
        path = path[2:]
    return path


def name_of(workflow_url: str) -> str:
    """Return the name under which a run is listed: its workflow's URL, without the query that may hold a secret."""
    parts = urlsplit(workflow_url)
    return parts._replace(query="").geturl() if parts.scheme in ("http", "https") else workflow_url


def _last_step(attempts: Sequence[Attempt]) -> StepResult | None:
    return attempts[-1].steps[-1] if attempts and attempts[-1].steps else None


def _result(attempts: Sequence[Attempt], index: int) -> StepResult | None:
    return attempts[-1].steps[index] if attempts and index < len(attempts[-1].steps) else None
