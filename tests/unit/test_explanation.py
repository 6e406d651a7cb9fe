"""Why a run failed, in words."""

from __future__ import annotations

from tests.builders import a_job
from weft import explanation
from weft.model import Attempt, StepResult, Tail
from weft.states import State


def test_a_task_is_told_with_its_exit_code_and_the_end_of_its_stderr() -> None:
    task = a_job(state=State.EXECUTOR_ERROR, name="align")
    attempt = Attempt(job_id=task.id, number=1, steps=(StepResult(exit_code=0), StepResult(exit_code=7)))
    tails = (Tail(attempt=1, step=0, stderr="not this"), Tail(attempt=1, step=1, stderr="one\n\ntwo\n"))
    said = explanation.of_task(task, (attempt,), tails)
    assert said == f"task {task.id} (align) ended in EXECUTOR_ERROR with exit code 7; its stderr ends:\none\ntwo"


def test_only_the_last_lines_are_repeated() -> None:
    said = explanation.of_engine("\n".join(f"line {number}" for number in range(100)))
    assert said.endswith("\n".join(f"line {number}" for number in range(95, 100)))
    assert "line 94" not in said


def test_a_task_that_never_ran_is_told_without_a_code() -> None:
    task = a_job(state=State.SYSTEM_ERROR)
    assert explanation.of_task(task, (), ()) == f"task {task.id} (without a name) ended in SYSTEM_ERROR"
