"""Say why a run failed: which of its tasks, with which exit code, and the last words on stderr. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from weft.model import Attempt, Job, Tail

#: How much of the end of a stderr is repeated.
MOST_LINES = 5
MOST_CHARACTERS = 1000


def of_task(task: Job, attempts: Sequence[Attempt], tails: Sequence[Tail]) -> str:
    """Describe a task that failed, by its last attempt."""
    last = attempts[-1] if attempts else None
    codes = [(index, step.exit_code) for index, step in enumerate(last.steps) if step.exit_code] if last else []
    sentence = f"task {task.id} ({task.name or 'without a name'}) ended in {task.state}"
    if last is None or not codes:
        return sentence
    index, code = codes[-1]
    stderr = "".join(tail.stderr for tail in tails if (tail.attempt, tail.step) == (last.number, index))
    return f"{sentence} with exit code {code}{_ending(stderr)}"


def of_engine(stderr: str) -> str:
    """Describe an engine that failed although none of its tasks did."""
    return f"the engine failed and none of its tasks did{_ending(stderr)}"


def _ending(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()][-MOST_LINES:]
    text = "\n".join(lines)[-MOST_CHARACTERS:]
    return f"; its stderr ends:\n{text}" if text else ""
