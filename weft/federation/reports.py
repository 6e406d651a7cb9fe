"""What a node says of an assignment: made of the site's own job, read by the hub as an observation. Pure.

A report is a JSON object: ``key``, ``seq`` (it counts upwards, so that an older one is told from a newer), ``stage``
(``taken`` or ``ended``), ``phase``, and where they are known ``steps``, ``outputs``, ``run_outputs``, ``metadata``,
``messages``, ``failure`` and ``tails``. Times are seconds since the epoch on the hub's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from weft.errors import InvalidRequest
from weft.model import Attempt, Event, Job, JsonObject, StepResult, StoredOutput, Tail, without_nulls
from weft.ports import Failure, Observation, Phase
from weft.states import State
from weft.store.assignments import Stage

_PHASES = {State.QUEUED: Phase.WAITING, State.INITIALIZING: Phase.WAITING}
_MOST_MESSAGES = 100
_LONGEST_MESSAGE = 4000
_STAGES = {"taken": Stage.TAKEN, "ended": Stage.ENDED}


def of_job(
    job: Job,
    attempts: Sequence[Attempt],
    events: Sequence[Event],
    tails: Sequence[Tail],
    *,
    offset: float,
) -> JsonObject:
    """Say how a job of this site stands.

    :param offset: what to add to this site's times to have the hub's, in seconds.
    """
    last = attempts[-1] if attempts else None
    phase = Phase.ENDED if job.state.terminal else _PHASES.get(job.state, Phase.RUNNING)
    failure = _failure(job.state, events)
    return without_nulls(
        {
            "stage": (Stage.ENDED if phase is Phase.ENDED else Stage.TAKEN).value,
            "phase": phase.value,
            "steps": [] if last is None else [asdict(_shifted(step, offset)) for step in last.steps],
            "outputs": [] if last is None else [asdict(output) for output in last.outputs],
            "run_outputs": job.outputs,
            "metadata": {} if last is None else dict(last.metadata),
            "messages": [event.message for event in events if event.message][-_MOST_MESSAGES:],
            "failure": None if failure is None else asdict(failure),
            "tails": [
                {"step": tail.step, "stdout": tail.stdout, "stderr": tail.stderr}
                for tail in tails
                if last is not None and tail.attempt == last.number
            ],
        }
    )


def of_refusal(reason: str, *, retry: bool = False) -> JsonObject:
    """Say that this site has not run it, and why."""
    failure = asdict(Failure(reason=reason, retry=retry))
    return {"stage": Stage.ENDED.value, "phase": Phase.ENDED.value, "failure": failure}


def checked(report: object) -> tuple[str, int, Stage, JsonObject]:
    """Read key, number and stage of a report that a node sent.

    :raises InvalidRequest: it is not a report.
    """
    if not isinstance(report, dict):
        raise InvalidRequest("a report is a JSON object", field="reports")
    key, seq, stage = report.get("key"), report.get("seq"), _STAGES.get(str(report.get("stage")))
    if not isinstance(key, str) or not isinstance(seq, int) or stage is None:
        raise InvalidRequest("a report needs key, seq and stage", field="reports", remedy="see openapi/nodes.yaml")
    try:
        to_observation(report, node="")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"the report on {key[:100]} cannot be read: {error}", field="reports") from error
    return key, seq, stage, report


def to_observation(report: Mapping[str, Any], *, node: str) -> Observation:
    """Read a report as the hub's worker sees it; its messages are marked as the node's."""
    failure = report.get("failure")
    return Observation(
        phase=Phase(report["phase"]),
        steps=tuple(StepResult(**step) for step in report.get("steps", ())),
        failure=None if failure is None else Failure(reason=f"{node}: {failure['reason']}", retry=failure["retry"]),
        metadata={"node": node} | {str(name): str(value) for name, value in report.get("metadata", {}).items()},
        messages=tuple(f"{node}: {str(line)[:_LONGEST_MESSAGE]}" for line in report.get("messages", ())),
        outputs=tuple(StoredOutput(**output) for output in report.get("outputs", ())),
        run_outputs=report.get("run_outputs"),
    )


def tails_of(report: Mapping[str, Any]) -> tuple[tuple[int, str, str], ...]:
    """Return (step, stdout, stderr) of the logs in a report."""
    return tuple((int(tail["step"]), str(tail["stdout"]), str(tail["stderr"])) for tail in report.get("tails", ()))


def _failure(state: State, events: Sequence[Event]) -> Failure | None:
    said = next((event.message for event in reversed(events) if event.target is state and event.message), None)
    if state is State.SYSTEM_ERROR:
        return Failure(reason=said or "the job failed without a word", retry=True)
    if state is State.CANCELED:
        return Failure(reason=said or "the job was cancelled at the node")
    return None


def _shifted(step: StepResult, offset: float) -> StepResult:
    return replace(
        step,
        started_at=None if step.started_at is None else step.started_at + offset,
        ended_at=None if step.ended_at is None else step.ended_at + offset,
    )
