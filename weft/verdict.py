"""Judge an ended attempt by its evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.model import Step, StepResult
from weft.ports import Observation
from weft.states import State


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that the evidence asks for, why in words, and whether another attempt may help."""

    state: State
    message: str | None = None
    retry: bool = False


def judge(steps: Sequence[Step], observation: Observation) -> Verdict:
    """Decide what an ENDED observation means for a job of these steps.

    COMPLETE needs an exit code of 0 from every step that does not say ``ignore_error``, and some exit code from
    the others (TES 1.1.0, ``tesExecutor.ignore_error``; decision A23 in ``docs/tes.md``).
    """
    if observation.failure is not None:
        return Verdict(State.SYSTEM_ERROR, observation.failure.reason, observation.failure.retry)
    for index, step in enumerate(steps):
        result = observation.steps[index] if index < len(observation.steps) else None
        if result is None or result.exit_code is None:
            return Verdict(State.SYSTEM_ERROR, f"step {index} left no exit code", retry=True)
        if result.exit_code != 0 and not step.ignore_error:
            return Verdict(State.EXECUTOR_ERROR, describe_failure(index, result))
    return Verdict(State.COMPLETE)


def describe_failure(index: int, result: StepResult) -> str:
    """Say in words that a step failed: "step 1 ended with exit code 137: killed: out of memory, limit 64 MB"."""
    sentence = f"step {index} ended with exit code {result.exit_code}"
    return f"{sentence}: {result.reason}" if result.reason else sentence
