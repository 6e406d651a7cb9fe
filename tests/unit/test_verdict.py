"""The verdict on an ended attempt."""

from __future__ import annotations

import pytest

from weft.model import Step, StepResult
from weft.ports import Failure, Observation, Phase
from weft.states import State
from weft.verdict import judge


def steps(*ignored: bool) -> tuple[Step, ...]:
    return tuple(Step(image="i", command=("c",), ignore_error=ignore) for ignore in ignored)


def ended(*codes: int | None, failure: Failure | None = None) -> Observation:
    return Observation(phase=Phase.ENDED, steps=tuple(StepResult(exit_code=code) for code in codes), failure=failure)


def test_all_zero_is_complete() -> None:
    assert judge(steps(False, False), ended(0, 0)).state is State.COMPLETE


def test_a_failing_step_is_an_executor_error_that_names_the_step_and_the_code() -> None:
    verdict = judge(steps(False, False), ended(0, 3))
    assert verdict.state is State.EXECUTOR_ERROR
    assert verdict.message == "step 1 ended with exit code 3"


def test_the_reason_of_a_step_is_said() -> None:
    seen = Observation(
        phase=Phase.ENDED, steps=(StepResult(exit_code=137, reason="killed: out of memory, limit 64 MB"),)
    )
    assert "out of memory, limit 64 MB" in str(judge(steps(False), seen).message)


def test_an_ignored_error_does_not_count() -> None:
    assert judge(steps(True, False), ended(1, 0)).state is State.COMPLETE


@pytest.mark.parametrize("codes", [(), (0,), (0, None)])
def test_missing_evidence_is_never_success(codes: tuple[int | None, ...]) -> None:
    verdict = judge(steps(False, False), ended(*codes))
    assert verdict.state is State.SYSTEM_ERROR
    assert verdict.retry


def test_a_failure_of_the_system_wins_over_exit_codes() -> None:
    verdict = judge(steps(False), ended(0, failure=Failure(reason="node lost", retry=True)))
    assert (verdict.state, verdict.message, verdict.retry) == (State.SYSTEM_ERROR, "node lost", True)
