"""What AWS Batch says of a job, as an observation: phases, evidence of steps, reasons in words. Pure.

The truth, in this order: the outcome that stage-out wrote to S3; the exit codes and reasons of the containers; the
job's own reason. A job that ended without an outcome never looks like success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from executors.aws_batch_shape import STAGE_IN, STAGE_OUT, step_name
from weft.model import JsonObject, StepResult
from weft.ports import Failure, Observation, Phase
from weft.staging.handover import Outcome

_WAITING = frozenset({"SUBMITTED", "PENDING", "RUNNABLE", "STARTING"})
_ENDED = frozenset({"SUCCEEDED", "FAILED"})
#: Beginnings of ``statusReason`` of a job that cannot be placed.
#: https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html
_STUCK = {
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": "no instance of the queue is large enough for this job",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": "the job needs more vCPUs than its compute environments allow",
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": "the compute environment's service role lacks a permission",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": "Batch does not support how the instances are set up",
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": "AWS has no free instances of these types in this place now",
    "ACTION_REQUIRED": "somebody must act on the queue",
}
_PLACE_LOST = (
    "Host EC2",
    "Host terminated",
    "Your Spot Task was interrupted",
    "SpotInterruption",
    "Timeout waiting for network interface",
)
_KILLED = 137


def has_ended(job: Mapping[str, Any]) -> bool:
    """Tell whether nothing of the job runs any more."""
    return job["status"] in _ENDED


def while_it_lives(job: Mapping[str, Any], *, now: float, patience: float) -> Observation:
    """Say what a job that has not ended does."""
    if job["status"] in _WAITING:
        return Observation(phase=Phase.WAITING, messages=_waits(job, now=now, patience=patience))
    exits = [_exit_code(container) for container in _steps(job)]
    begun = _seconds(job.get("startedAt"))
    done = [StepResult(started_at=begun, exit_code=code) for code in _before_none(exits)]
    running = [StepResult(started_at=begun)] if len(done) < len(exits) else []
    return Observation(phase=Phase.RUNNING, steps=(*done, *running), metadata=metadata(job))


def after_its_end(job: Mapping[str, Any], outcome: Outcome | None, staging_said: str) -> Observation:
    """Say what became of a job.

    :param staging_said: the end of stage-in's log, for where there is no outcome.
    """
    if outcome is None:
        return Observation(phase=Phase.ENDED, failure=_failure(job, staging_said), metadata=metadata(job))
    containers = _steps(job)
    steps = tuple(
        _explained(step, containers[index] if index < len(containers) else {})
        for index, step in enumerate(outcome.steps)
    )
    failure = _failed(outcome) or _unstarted(steps, containers)
    return Observation(
        phase=Phase.ENDED,
        steps=steps,
        failure=failure,
        outputs=outcome.outputs,
        messages=outcome.messages,
        metadata=metadata(job),
        types=outcome.types or {},
    )


def metadata(job: Mapping[str, Any]) -> dict[str, str]:
    """Return what the task's log says of where it ran."""
    properties = _properties(job)
    found = {
        "aws_batch_job": job["jobId"],
        "aws_batch_queue": str(job.get("jobQueue", "")).rpartition("/")[2],
        "ecs_task": str(properties.get("taskArn", "")).rpartition("/")[2],
    }
    return {name: value for name, value in found.items() if value}


def streams(job: Mapping[str, Any]) -> dict[str, str]:
    """Return container name -> log stream, of the containers that have one."""
    containers = _properties(job).get("containers", ())
    return {one["name"]: one["logStreamName"] for one in containers if one.get("logStreamName")}


def _waits(job: Mapping[str, Any], *, now: float, patience: float) -> tuple[str, ...]:
    reason = str(job.get("statusReason") or "")
    for start, words in _STUCK.items():
        if reason.startswith(start):
            return (f"waiting in {_queue(job)}: {words} ({reason})",)
    since = _seconds(job.get("createdAt"))
    if job["status"] == "RUNNABLE" and since is not None and now - since > patience:
        return (
            f"waiting in {_queue(job)} for longer than {patience:g} s for {_needs(job)}"
            + (f": {reason}" if reason else ": no compute environment of the queue has that much free"),
        )
    return ()


def _needs(job: Mapping[str, Any]) -> str:
    cores = memory = gpus = 0.0
    for container in _properties(job).get("containers", ()):
        needs = {item["type"]: float(item["value"]) for item in container.get("resourceRequirements", ())}
        cores, memory = cores + needs.get("VCPU", 0), memory + needs.get("MEMORY", 0)
        gpus += needs.get("GPU", 0)
    return f"{cores:g} vCPUs and {memory:g} MiB" + (f" and {gpus:g} GPUs" if gpus else "")


def _failed(outcome: Outcome) -> Failure | None:
    if outcome.failure is None:
        return None
    return Failure(reason=outcome.failure, retry=not outcome.steps)  # what could not be fetched may be there later


def _unstarted(steps: Sequence[StepResult], containers: Sequence[Mapping[str, Any]]) -> Failure | None:
    """Find a step that should have started and did not."""
    index = len(steps)
    if index >= len(containers) or any(step.exit_code != 0 for step in steps):
        return None
    reason = containers[index].get("reason")
    if reason:
        return Failure(reason=f"step {index} did not start: {_said(reason)}")
    if index == 0 or containers[index].get("exitCode") not in (None, 0):
        return Failure(
            reason=f"step {index} did not start (exit code {containers[index].get('exitCode')}): AWS Batch cannot "
            "replace an image's ENTRYPOINT, and this one does not run the command that it is given"
        )
    return None


def _explained(step: StepResult, container: Mapping[str, Any]) -> StepResult:
    """Add what only the container's end says: an exit code where the step's own program died with it, and why."""
    code = _exit_code(container) if step.exit_code is None else step.exit_code
    reason = str(container.get("reason") or "")
    if code == _KILLED and "OutOfMemory" in reason:
        return replace(step, exit_code=code, reason=f"killed: out of memory, the limit was {_memory(container)} MiB")
    return replace(step, exit_code=code, reason=_said(reason) if reason and code != 0 else None)


def _failure(job: Mapping[str, Any], staging_said: str) -> Failure:
    reason = str(job.get("statusReason") or "")
    if any(start in reason for start in _PLACE_LOST):
        return Failure(reason=f"the host was taken away: {reason}", retry=True)
    if job.get("isCancelled") or job.get("isTerminated") or reason.startswith("weft:"):
        return Failure(reason=f"the job was ended: {reason or 'by somebody in AWS'}")
    if "duration exceeded timeout" in reason:
        return Failure(reason=f"stopped by AWS Batch: {reason}")
    if staging_said:
        return Failure(reason=f"staging failed: {staging_said}", retry=True)
    for container in _properties(job).get("containers", ()):
        if container.get("reason"):
            return Failure(reason=f"{container['name']}: {_said(container['reason'])}", retry=_may_help(container))
    return Failure(reason=f"AWS Batch: {reason or 'the job failed'}, and staging left no outcome", retry=True)


def _may_help(container: Mapping[str, Any]) -> bool:
    return "CannotPull" not in str(container.get("reason")) and container["name"] in (STAGE_IN, STAGE_OUT)


def _said(reason: str) -> str:
    if reason.startswith("CannotPullContainerError"):
        return f"the image cannot be pulled ({reason})"
    if reason.startswith("OutOfMemory"):
        return f"out of memory ({reason})"
    return reason


def _memory(container: Mapping[str, Any]) -> str:
    needs = container.get("resourceRequirements", ())
    return next((item["value"] for item in needs if item["type"] == "MEMORY"), "unknown")


def _steps(job: Mapping[str, Any]) -> list[JsonObject]:
    named = {one["name"]: one for one in _properties(job).get("containers", ())}
    found: list[JsonObject] = []
    while (name := step_name(len(found))) in named:
        found.append(named[name])
    return found


def _properties(job: Mapping[str, Any]) -> JsonObject:
    tasks: list[JsonObject] = job.get("ecsProperties", {}).get("taskProperties", [])
    return tasks[0] if tasks else {}


def _exit_code(container: Mapping[str, Any]) -> int | None:
    code = container.get("exitCode")
    return None if code is None else int(code)


def _before_none(codes: Sequence[int | None]) -> list[int]:
    found: list[int] = []
    for code in codes:
        if code is None:
            break
        found.append(code)
    return found


def _queue(job: Mapping[str, Any]) -> str:
    return str(job.get("jobQueue", "")).rpartition("/")[2]


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000
