"""What a TES task's document says, as an ``Observation``. Pure; nothing that a server says is taken on trust."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from weft.model import JsonObject, StepResult, StoredOutput
from weft.ports import Failure, Observation, Phase

_PHASES = {
    "QUEUED": Phase.WAITING,
    "INITIALIZING": Phase.WAITING,
    "UNKNOWN": Phase.WAITING,
    "RUNNING": Phase.RUNNING,
    "PAUSED": Phase.RUNNING,
    "CANCELING": Phase.RUNNING,
    "COMPLETE": Phase.ENDED,
    "EXECUTOR_ERROR": Phase.ENDED,
    "SYSTEM_ERROR": Phase.ENDED,
    "CANCELED": Phase.ENDED,
    "PREEMPTED": Phase.ENDED,
}
#: How much of a server's words is passed on.
_MOST_LINES = 100
_LONGEST_LINE = 4000
_MOST_METADATA = 50


def phase(state: object) -> Phase:
    """Return what a state means; a word that TES does not have means that nothing is known yet."""
    return _PHASES.get(str(state), Phase.WAITING)


def observation(task: Mapping[str, Any]) -> Observation:
    """Say what a task in the FULL view has come to."""
    state = str(task.get("state"))
    now = phase(state)
    log = last_log(task)
    steps = _steps(task, log, now)
    lines = [str(line)[:_LONGEST_LINE] for line in log.get("system_logs") or ()]
    return Observation(
        phase=now,
        steps=steps,
        failure=_failure(state, steps, lines) if now is Phase.ENDED else None,
        metadata=_metadata(log),
        messages=tuple(lines[-_MOST_LINES:]),
        outputs=tuple(_outputs(log)) if now is Phase.ENDED else (),
    )


def last_log(task: Mapping[str, Any]) -> JsonObject:
    """Return the log of the last attempt that has steps, else of the last one."""
    logs = [log for log in task.get("logs") or () if isinstance(log, dict)]
    with_steps = [log for log in logs if log.get("logs")]
    return (with_steps or logs or [{}])[-1]


def step_logs(task: Mapping[str, Any]) -> list[JsonObject]:
    """Return the logs of the last attempt's steps."""
    return [step if isinstance(step, dict) else {} for step in last_log(task).get("logs") or ()]


def _steps(task: Mapping[str, Any], log: JsonObject, now: Phase) -> tuple[StepResult, ...]:
    given = [step if isinstance(step, dict) else {} for step in log.get("logs") or ()]
    if now is Phase.RUNNING and not given:
        given = [{}]
    if task.get("state") == "COMPLETE":  # every step ended well, even where the server does not say it of each
        given += [{}] * (len(task.get("executors") or ()) - len(given))
        return tuple(_step(step, ended=True, unsaid=0) for step in given)
    return tuple(_step(step, ended=now is Phase.ENDED, unsaid=None) for step in given)


def _step(step: JsonObject, *, ended: bool, unsaid: int | None) -> StepResult:
    code = step.get("exit_code")
    said = isinstance(code, int) and (ended or bool(step.get("end_time")))  # some servers say 0 of what still runs
    return StepResult(
        started_at=_time(step.get("start_time")),
        ended_at=_time(step.get("end_time")),
        exit_code=code if said else unsaid,
    )


def _failure(state: str, steps: tuple[StepResult, ...], lines: list[str]) -> Failure | None:
    if state == "COMPLETE" or (state == "EXECUTOR_ERROR" and any(step.exit_code for step in steps)):
        return None
    last = f": {lines[-1]}" if lines else ""
    if state == "EXECUTOR_ERROR":
        return Failure(reason=f"the TES server says that a step failed, and gives no exit code{last}")
    return Failure(reason=f"the TES server says {state}{last}", retry=state == "PREEMPTED")


def _outputs(log: JsonObject) -> list[StoredOutput]:
    found = []
    for item in log.get("outputs") or ():
        if isinstance(item, dict) and isinstance(item.get("url"), str) and isinstance(item.get("path"), str):
            size = str(item.get("size_bytes") or "0")
            size_bytes = int(size) if size.isascii() and size.isdecimal() else 0
            found.append(StoredOutput(url=item["url"], path=item["path"], size_bytes=size_bytes))
    return found


def _metadata(log: JsonObject) -> dict[str, str]:
    given = log.get("metadata")
    items = given.items() if isinstance(given, dict) else ()
    return {str(name): str(value)[:_LONGEST_LINE] for name, value in list(items)[:_MOST_METADATA]}


def _time(text: object) -> float | None:
    """Read RFC 3339; a time without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
