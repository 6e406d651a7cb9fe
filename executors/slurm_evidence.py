"""Say what became of a job from what its own files and Slurm say of it. Pure.

The exit file that the supervisor wrote comes first; Slurm is heard where the file is missing, or says that the job was
killed: then Slurm knows by whom. What nobody knows is UNSEEN, never success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from executors.slurm_files import Notes
from executors.slurm_states import Row, failure_of, phase_of
from weft.model import StepResult
from weft.ports import Failure, Observation, Phase

UNSEEN = Observation(phase=Phase.UNSEEN)
_KILLED = 137  # 128 + SIGKILL
_CANCELLED = Failure(reason="the job was cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a job's own files say."""

    notes: Notes
    status: Mapping[str, Any] | None = None
    claim: Mapping[str, str] | None = None
    cancelled: bool = False
    gone: bool = False
    #: What the job script complained of.
    complaint: str = ""

    @property
    def job_id(self) -> str | None:
        """The Slurm job whose word counts: the one that runs the steps."""
        return self.notes.job_id if self.claim is None else self.claim["job_id"]

    @property
    def is_over(self) -> bool:
        """The supervisor has left its exit file."""
        return self.status is not None and bool(self.status["over"])

    @property
    def is_enough(self) -> bool:
        """Nothing that Slurm could say would change the verdict."""
        return self.gone or (self.is_over and (self.cancelled or not self._was_killed))

    @property
    def steps(self) -> tuple[StepResult, ...]:
        """What is known of the steps."""
        return () if self.status is None else tuple(StepResult(**step) for step in self.status["steps"])

    @property
    def _was_killed(self) -> bool:
        """Something ended from outside: Slurm may know why."""
        steps = self.steps
        return self.failure is not None or (bool(steps) and (steps[-1].exit_code or 0) > 128)

    @property
    def failure(self) -> Failure | None:
        """Why the supervisor itself says that the job failed."""
        said = None if self.status is None else self.status.get("failure")
        return None if said is None else Failure(**said)


def by_files(evidence: Evidence) -> Observation:
    """Say what the files alone say: how the job ended where that is beyond doubt, else that it runs or waits."""
    if not evidence.is_enough:
        return _observation(evidence, Phase.WAITING if evidence.status is None else Phase.RUNNING)
    failure = _CANCELLED if evidence.cancelled and (not evidence.is_over or evidence.failure) else evidence.failure
    return _observation(evidence, Phase.ENDED, failure=failure)


def by_slurm(evidence: Evidence, row: Row | None, *, overdue: bool) -> Observation:
    """Say what Slurm adds; ``row`` is None when neither the queue nor the accounting knows the job.

    ``overdue``: Slurm said long ago that the job ended, and its exit file should have been seen by now.

    :raises UnknownNativeState: Slurm uses a word that weft does not know.
    """
    if row is None:
        return _observation(evidence, Phase.ENDED, failure=evidence.failure) if evidence.is_over else UNSEEN
    if phase_of(row.state) is not Phase.ENDED:
        seen = by_files(evidence)
        return seen if row.complaint is None else replace(seen, messages=(*seen.messages, row.complaint))
    failure = failure_of(row.state)
    if row.state == "OUT_OF_MEMORY":
        return _out_of_memory(evidence)
    if failure is not None:
        said = _CANCELLED if evidence.cancelled else replace(failure, reason=_in_full(failure.reason, row, evidence))
        return _observation(evidence, Phase.ENDED, failure=said)
    if evidence.is_over:
        return _observation(evidence, Phase.ENDED, failure=evidence.failure)
    return _without_exit_file(evidence, row) if overdue else by_files(evidence)


def _in_full(reason: str, row: Row, evidence: Evidence) -> str:
    if row.state == "TIMEOUT":
        return f"{reason}; the limit was {evidence.notes.time}"
    return f"{reason} ({row.node})" if row.node and "node" in reason else reason


def _out_of_memory(evidence: Evidence) -> Observation:
    reason = f"killed: out of memory, the limit was {evidence.notes.memory}"
    steps: Sequence[StepResult] = evidence.steps
    if not steps:
        return _observation(evidence, Phase.ENDED, failure=Failure(reason=reason))
    last = steps[-1]
    if last.exit_code == 0:
        return _observation(evidence, Phase.ENDED)
    known = replace(last, exit_code=_KILLED if last.exit_code is None else last.exit_code, reason=reason)
    return replace(_observation(evidence, Phase.ENDED), steps=(*steps[:-1], known))


def _without_exit_file(evidence: Evidence, row: Row) -> Observation:
    said = f": {evidence.complaint}" if evidence.complaint else ""
    reason = f"Slurm says {row.state} of job {row.job_id}, but the job left no exit file{said}"
    return _observation(evidence, Phase.ENDED, failure=Failure(reason=reason, retry=True))


def _observation(evidence: Evidence, phase: Phase, failure: Failure | None = None) -> Observation:
    metadata = {} if evidence.status is None else dict(evidence.status["metadata"])
    if evidence.job_id is not None:
        metadata["slurm_job_id"] = evidence.job_id
    if evidence.claim is not None:
        metadata["host"] = evidence.claim["node"]
    messages = () if evidence.status is None else tuple(evidence.status["messages"])
    return Observation(phase=phase, steps=evidence.steps, failure=failure, metadata=metadata, messages=messages)
