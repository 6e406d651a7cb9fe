"""From a stored job to the three views of TES. Pure; documents are new, and nothing in them is null.

MINIMAL is ``id`` and ``state``. BASIC is everything but four members: the content of inputs, the captured stdout and
stderr, and the system log. FULL is everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from weft.model import Attempt, Event, Job, JsonObject, StepResult, Tail, without_nulls


def basic(job: Job, attempts: Sequence[Attempt]) -> JsonObject:
    """Give the BASIC view."""
    return _view(job, without_content(job.document), basic_logs(attempts))


def without_content(document: JsonObject) -> JsonObject:
    """Copy a task's document without the content of its inputs."""
    if "inputs" not in document:
        return document
    inputs = [{key: value for key, value in item.items() if key != "content"} for item in document["inputs"]]
    return {**document, "inputs": inputs}


def basic_logs(attempts: Sequence[Attempt]) -> list[JsonObject]:
    """Give the ``logs`` of the BASIC view."""
    return [_log(attempt, _ended_steps(attempt)) for attempt in attempts]


def full(job: Job, attempts: Sequence[Attempt], tails: Sequence[Tail], events: Sequence[Event]) -> JsonObject:
    """Give the FULL view."""
    by_place = {(tail.attempt, tail.step): tail for tail in tails}
    lines = _lines(events, [attempt.number for attempt in attempts])
    logs = [
        {**_log(attempt, _all_steps(attempt, by_place)), "system_logs": lines.pop(attempt.number, [])}
        for attempt in attempts
    ]
    if lines:  # it never came to an attempt, and there is something to say all the same
        logs.append({"logs": [], "outputs": [], "system_logs": [line for rest in lines.values() for line in rest]})
    return _view(job, job.document, logs)


@lru_cache(maxsize=8192)
def time_text(seconds: float) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond; lists are asked for again and again, so it remembers."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _view(job: Job, document: JsonObject, logs: list[JsonObject]) -> JsonObject:
    return {
        "id": job.id,
        "state": job.state.value,
        **document,
        "logs": logs,
        "creation_time": time_text(job.created_at),
    }


def _log(attempt: Attempt, steps: list[JsonObject]) -> JsonObject:
    return without_nulls(
        {
            "logs": steps,
            "metadata": {**_where(attempt), **attempt.metadata} or None,
            "start_time": _optional_time(attempt.started_at),
            "end_time": _optional_time(attempt.ended_at),
            "outputs": [
                {"url": item.url, "path": item.path, "size_bytes": str(item.size_bytes)} for item in attempt.outputs
            ],
        }
    )


def _where(attempt: Attempt) -> dict[str, str]:
    """Name the executor that has, or had, the attempt."""
    return {} if attempt.handle is None else {"executor": attempt.handle.executor}


def _ended_steps(attempt: Attempt) -> list[JsonObject]:
    """Give the steps that have an exit code (A22)."""
    return [_step(result, None) for result in attempt.steps if result.exit_code is not None]


def _all_steps(attempt: Attempt, tails: Mapping[tuple[int, int], Tail]) -> list[JsonObject]:
    """Give every step that has begun or written something; one that runs has no exit code yet."""
    written = [step + 1 for number, step in tails if number == attempt.number]
    results = [*attempt.steps, *([StepResult()] * (max(written, default=0) - len(attempt.steps)))]
    return [_step(result, tails.get((attempt.number, step), _SILENT)) for step, result in enumerate(results)]


_SILENT = Tail(attempt=0, step=0)


def _step(result: StepResult, tail: Tail | None) -> JsonObject:
    return without_nulls(
        {
            "start_time": _optional_time(result.started_at),
            "end_time": _optional_time(result.ended_at),
            "stdout": None if tail is None else tail.stdout,
            "stderr": None if tail is None else tail.stderr,
            "exit_code": result.exit_code,
        }
    )


def _lines(events: Sequence[Event], attempts: Sequence[int]) -> dict[int, list[str]]:
    """Give the system log of each attempt; what was said before the first one belongs to it."""
    first = attempts[0] if attempts else 0
    lines: dict[int, list[str]] = {}
    for event in events:
        if event.message is not None:
            number = event.attempt if event.attempt in attempts else first
            lines.setdefault(number, []).append(f"{time_text(event.at)} {event.message}")
    return lines


def _optional_time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)
