"""What became of a job, by its own files first and by Slurm's word after them."""

from __future__ import annotations

from typing import Any

import pytest

from executors.slurm_evidence import UNSEEN, Evidence, by_files, by_slurm
from executors.slurm_files import Notes
from executors.slurm_states import Row
from weft.errors import UnknownNativeState
from weft.ports import Phase

STOPPED = {"reason": "the supervisor of this job was told to stop (SIGTERM)", "retry": True}
NOTES = Notes(at=1.0, job_id="7", memory="64 MiB", time="5 min")


def status(*codes: int | None, over: bool = True, **more: Any) -> dict[str, Any]:
    steps = [{"started_at": 1.0, "ended_at": 2.0, "exit_code": code, "reason": None} for code in codes]
    return {"over": over, "steps": steps, "messages": ["said"], "metadata": {"sandbox": "none"}, **more}


def evidence(found: dict[str, Any] | None = None, **more: Any) -> Evidence:
    return Evidence(notes=NOTES, status=found, **more)


def row(state: str, reason: str = "None") -> Row:
    return Row(job_id="7", state=state, reason=reason, node="n1", name="weft-x-1")


@pytest.mark.parametrize("codes", [(0,), (3,), (0, 4)])
def test_an_exit_file_is_enough(codes: tuple[int, ...]) -> None:
    found = evidence(status(*codes), claim={"job_id": "7", "node": "n1"})
    assert found.is_enough
    seen = by_files(found)
    assert (seen.phase, [step.exit_code for step in seen.steps], seen.failure) == (Phase.ENDED, list(codes), None)
    assert seen.metadata == {"sandbox": "none", "slurm_job_id": "7", "host": "n1"}
    assert seen.messages == ("said",)


def test_a_job_that_nobody_knows_is_unseen_and_never_success() -> None:
    for found in (evidence(), evidence(status(0, over=False)), evidence(status(over=False))):
        assert by_slurm(found, None, overdue=True) == UNSEEN


def test_an_exit_file_counts_although_slurm_has_forgotten_the_job() -> None:
    seen = by_slurm(evidence(status(None, failure=STOPPED)), None, overdue=False)
    assert (seen.phase, seen.failure is not None and seen.failure.reason) == (Phase.ENDED, STOPPED["reason"])


def test_who_was_killed_waits_for_slurm_to_say_by_whom() -> None:
    for found in (evidence(status(137)), evidence(status(143, failure=STOPPED))):
        assert not found.is_enough
        assert by_files(found).phase is Phase.RUNNING
        assert by_slurm(found, row("COMPLETING"), overdue=False).phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("state", "reason", "retry"),
    [
        ("TIMEOUT", "stopped by Slurm: the time limit of the job is used up; the limit was 5 min", False),
        ("PREEMPTED", "preempted: Slurm gave the nodes to another job (n1)", True),
        ("NODE_FAIL", "the node that the job ran on failed (n1)", True),
        ("CANCELLED", "the job was cancelled in Slurm", False),
    ],
)
def test_slurm_says_why_a_job_was_stopped(state: str, reason: str, retry: bool) -> None:
    for found in (evidence(), evidence(status(143, failure=STOPPED)), evidence(status(None, over=False))):
        failure = by_slurm(found, row(state), overdue=False).failure
        assert failure is not None
        assert (failure.reason, failure.retry) == (reason, retry)


def test_out_of_memory_is_said_of_the_step_with_the_limit() -> None:
    for found in (evidence(status(0, 137)), evidence(status(0, None, over=False))):
        seen = by_slurm(found, row("OUT_OF_MEMORY"), overdue=False)
        assert (seen.phase, seen.failure, seen.steps[0].reason) == (Phase.ENDED, None, None)
        assert (seen.steps[1].exit_code, seen.steps[1].reason) == (137, "killed: out of memory, the limit was 64 MiB")


def test_out_of_memory_before_any_step_is_a_failure() -> None:
    failure = by_slurm(evidence(), row("OUT_OF_MEMORY"), overdue=False).failure
    assert failure is not None
    assert "64 MiB" in failure.reason


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_without_an_exit_file_slurms_word_is_no_success_and_waits_for_the_file_first(state: str) -> None:
    found = evidence(complaint="no such file")
    assert by_slurm(found, row(state), overdue=False).phase is Phase.WAITING
    failure = by_slurm(found, row(state), overdue=True).failure
    assert failure is not None
    assert failure.retry
    assert failure.reason == f"Slurm says {state} of job 7, but the job left no exit file: no such file"


def test_a_cancelled_job_was_cancelled_whatever_slurm_says() -> None:
    for found in (evidence(gone=True, cancelled=True), evidence(status(143, failure=STOPPED), cancelled=True)):
        assert found.is_enough
        failure = by_files(found).failure
        assert failure is not None
        assert (failure.reason, failure.retry) == ("the job was cancelled", False)
    for state in ("PREEMPTED", "CANCELLED"):
        failure = by_slurm(evidence(cancelled=True), row(state), overdue=False).failure
        assert failure is not None
        assert not failure.retry


def test_a_job_that_ended_before_its_cancel_keeps_its_exit_code() -> None:
    seen = by_files(evidence(status(6), cancelled=True))
    assert (seen.phase, seen.steps[0].exit_code, seen.failure) == (Phase.ENDED, 6, None)


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(UnknownNativeState):
        by_slurm(evidence(status(None, over=False)), row("BEWILDERED"), overdue=False)


def test_the_job_that_claimed_the_folder_is_the_one_whose_word_counts() -> None:
    assert evidence(claim={"job_id": "9", "node": "n2"}).job_id == "9"
    assert evidence().job_id == "7"
