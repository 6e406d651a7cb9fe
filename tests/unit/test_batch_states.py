"""What AWS Batch says, in words."""

from __future__ import annotations

from typing import Any

import pytest

from executors.aws_batch_states import after_its_end, while_it_lives
from weft.model import Step, StepResult
from weft.ports import Phase
from weft.staging.handover import Outcome
from weft.states import State
from weft.verdict import judge

NOW = 1_800_000_000.0
NEEDS = [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "954"}]


def a_job(status: str, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    names = ["stage-in", *(f"step-{index}" for index in range(len(steps))), "stage-out"]
    containers = [{"name": name, "resourceRequirements": NEEDS} for name in names]
    for index, step in enumerate(steps):
        containers[1 + index] |= step
    return {
        "jobId": "j1",
        "jobQueue": "arn:aws:batch:r:1:job-queue/weft",
        "status": status,
        "createdAt": (NOW - 400) * 1000,
        "startedAt": (NOW - 100) * 1000,
        "ecsProperties": {"taskProperties": [{"containers": containers, "taskArn": "arn:aws:ecs:r:1:task/c/t1"}]},
        **fields,
    }


def ran(*codes: int | None) -> Outcome:
    return Outcome(native_job="j1", steps=tuple(StepResult(started_at=NOW, exit_code=code) for code in codes))


@pytest.mark.parametrize("status", ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING"])
def test_what_has_no_host_yet_waits(status: str) -> None:
    assert while_it_lives(a_job(status, {}), now=NOW, patience=1000).phase is Phase.WAITING


def test_a_job_that_waits_for_long_says_what_for() -> None:
    job = a_job("RUNNABLE", {})
    assert while_it_lives(job, now=NOW, patience=1000).messages == ()
    (said,) = while_it_lives(job, now=NOW, patience=300).messages
    assert said == (
        "waiting in weft for longer than 300 s for 6 vCPUs and 2862 MiB: "
        "no compute environment of the queue has that much free"
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource …", "no instance of the queue is large enough"),
        ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - …", "more vCPUs than its compute environments allow"),
        ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - …", "AWS has no free instances"),
    ],
)
def test_a_reason_that_batch_gives_is_said_at_once(reason: str, words: str) -> None:
    (said,) = while_it_lives(a_job("RUNNABLE", {}, statusReason=reason), now=NOW, patience=1e9).messages
    assert words in said
    assert reason in said


def test_a_running_job_shows_the_steps_that_ended_and_the_one_that_runs() -> None:
    seen = while_it_lives(a_job("RUNNING", {"exitCode": 0}, {}, {}), now=NOW, patience=1)
    assert [step.exit_code for step in seen.steps] == [0, None]


def test_a_step_that_was_killed_for_memory_says_its_limit() -> None:
    job = a_job("FAILED", {"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"})
    for outcome in (ran(137), ran(None)):  # the runner outlived its step, or not
        (step,) = after_its_end(job, outcome, "").steps
        assert (step.exit_code, step.reason) == (137, "killed: out of memory, the limit was 954 MiB")


@pytest.mark.parametrize(
    ("fields", "words", "retry"),
    [
        ({"statusReason": "Host EC2 (instance i-0f) terminated."}, "the host was taken away", True),
        ({"statusReason": "Your Spot Task was interrupted."}, "the host was taken away", True),
        ({"statusReason": "Job attempt duration exceeded timeout"}, "stopped by AWS Batch", False),
        ({"statusReason": "by hand", "isTerminated": True}, "the job was ended: by hand", False),
        ({"statusReason": "Essential container in task exited"}, "staging left no outcome", True),
    ],
)
def test_a_job_without_an_outcome_never_looks_like_success(fields: dict[str, Any], words: str, retry: bool) -> None:
    for status in ("SUCCEEDED", "FAILED"):
        seen = after_its_end(a_job(status, {"exitCode": 0}, **fields), None, "")
        verdict = judge((Step(image="x", command=("y",)),), seen)
        assert (verdict.state, verdict.retry) == (State.SYSTEM_ERROR, retry)
        assert words in str(verdict.message)


def test_an_image_that_cannot_be_pulled_is_no_reason_to_try_again() -> None:
    job = a_job("FAILED", {"reason": "CannotPullContainerError: none: not found"}, statusReason="Task failed to start")
    failure = after_its_end(job, None, "").failure
    assert failure is not None
    assert "step-0: the image cannot be pulled" in failure.reason
    assert not failure.retry


def test_what_staging_said_before_it_gave_up_is_the_reason() -> None:
    failure = after_its_end(a_job("FAILED", {"exitCode": 0}), None, "access denied (403) at s3://b/k").failure
    assert failure is not None
    assert failure.reason == "staging failed: access denied (403) at s3://b/k"


def test_an_entry_point_that_does_not_run_its_arguments_is_explained() -> None:
    failure = after_its_end(a_job("FAILED", {"exitCode": 2}), ran(), "").failure
    assert failure is not None
    assert "ENTRYPOINT" in failure.reason


def test_a_failed_step_explains_why_the_next_did_not_start() -> None:
    seen = after_its_end(a_job("FAILED", {"exitCode": 3}, {"exitCode": 0}), ran(3), "")
    assert seen.failure is None
    assert [step.exit_code for step in seen.steps] == [3]
