"""What Slurm's words for the state of a job mean to weft: one literal table, and the readers of its plain output. Pure.

``squeue`` and ``sacct`` share the words (https://slurm.schedmd.com/job_state_codes.html,
https://slurm.schedmd.com/squeue.html, section JOB STATE CODES; https://slurm.schedmd.com/sacct.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft.errors import UnknownNativeState
from weft.ports import Failure, Phase

#: squeue -o: one line a job. The name comes last, because only it could hold the separator.
SQUEUE_FORMAT = "%i|%T|%r|%N|%j"
#: sacct -P -o: the same of jobs that the queue has forgotten.
SACCT_FORMAT = "JobIDRaw,State,Reason,NodeList,JobName"

#: What a job that has not come to its end is doing.
_GOING_ON: Mapping[str, Phase] = {
    "PENDING": Phase.WAITING,
    "CONFIGURING": Phase.WAITING,
    "REQUEUED": Phase.WAITING,
    "REQUEUE_FED": Phase.WAITING,
    "REQUEUE_HOLD": Phase.WAITING,
    "RESV_DEL_HOLD": Phase.WAITING,
    "SPECIAL_EXIT": Phase.WAITING,
    "POWER_UP_NODE": Phase.WAITING,
    "RUNNING": Phase.RUNNING,
    "COMPLETING": Phase.RUNNING,
    "STAGE_OUT": Phase.RUNNING,
    "SUSPENDED": Phase.RUNNING,
    "STOPPED": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "RESIZING": Phase.RUNNING,
    "EXPEDITING": Phase.RUNNING,
    "UPDATE_DB": Phase.RUNNING,
}

#: Why a job has ended for a reason that is not its own exit code; None where the exit code is all there is to say.
_ENDED: Mapping[str, Failure | None] = {
    "COMPLETED": None,
    "FAILED": None,
    "OUT_OF_MEMORY": None,
    "TIMEOUT": Failure(reason="stopped by Slurm: the time limit of the job is used up"),
    "DEADLINE": Failure(reason="stopped by Slurm: the job could not end before its deadline"),
    "CANCELLED": Failure(reason="the job was cancelled in Slurm"),
    "REVOKED": Failure(reason="Slurm revoked the job: another cluster of the federation took it", retry=True),
    "PREEMPTED": Failure(reason="preempted: Slurm gave the nodes to another job", retry=True),
    "NODE_FAIL": Failure(reason="the node that the job ran on failed", retry=True),
    "BOOT_FAIL": Failure(reason="the node that the job was to run on did not boot", retry=True),
    "LAUNCH_FAILED": Failure(reason="Slurm could not launch the job on its node", retry=True),
    "RECONFIG_FAIL": Failure(reason="the node that the job was to run on could not be prepared", retry=True),
}

#: Reasons of waiting that are everyday business (https://slurm.schedmd.com/job_reason_codes.html); others are told.
_EVERYDAY = frozenset({"None", "", "Priority", "Resources", "BeginTime", "Cleaning", "Prolog"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job as Slurm tells of it."""

    job_id: str
    #: The word alone: "CANCELLED by 1000" has become "CANCELLED".
    state: str
    reason: str
    node: str
    name: str

    @property
    def has_ended(self) -> bool:
        """Tell whether Slurm is done with it. :raises UnknownNativeState: see ``phase_of``."""
        return phase_of(self.state) is Phase.ENDED

    @property
    def may_run(self) -> bool:
        """Tell whether it may still run or come to run; of a word that weft does not know, it may."""
        return self.state not in _ENDED

    @property
    def complaint(self) -> str | None:
        """Why it waits, where that is worth a line in the job's log."""
        if self.reason in _EVERYDAY or phase_of(self.state) is not Phase.WAITING:
            return None
        return f"Slurm keeps the job waiting: {self.reason}"


def phase_of(state: str) -> Phase:
    """Return what the word means.

    :raises UnknownNativeState: Slurm has learnt a new word.
    """
    if state in _ENDED:
        return Phase.ENDED
    if state not in _GOING_ON:
        raise UnknownNativeState(f"Slurm says {state!r} of a job, a word that weft does not know")
    return _GOING_ON[state]


def failure_of(state: str) -> Failure | None:
    """Return why a job with this last state ended, beside its exit codes."""
    return _ENDED[state]


def rows(text: str) -> Iterator[Row]:
    """Read the lines of ``SQUEUE_FORMAT`` or ``SACCT_FORMAT``; a line of another form is left out."""
    for line in text.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5:
            job_id, state, reason, node, name = fields
            word = state.partition(" ")[0].rstrip("+")
            yield Row(job_id=job_id, state=word, reason=reason, node=node, name=name)
