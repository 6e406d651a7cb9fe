"""The law: the eleven states of a job and the only legal moves between them.

TES 1.1.0 (``tesState``) and WES 1.1.0 (``State``) share the same eleven words, so a task and a run obey one
table. The store's conditional update, the chart in ``docs/states.md`` and the tests derive from ``MOVES``.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a job, in the words of TES and WES."""

    UNKNOWN = "UNKNOWN"  # never stored: the answer of a server that cannot tell
    QUEUED = "QUEUED"  # on disk, waiting for a worker (first time, or for its next attempt)
    INITIALIZING = "INITIALIZING"  # a worker holds the lease and stages inputs
    RUNNING = "RUNNING"  # the executor has it
    PAUSED = "PAUSED"  # never stored: no executor of weft pauses
    COMPLETE = "COMPLETE"  # every step that counts ended with 0 and every output is stored
    EXECUTOR_ERROR = "EXECUTOR_ERROR"  # the user's program failed
    SYSTEM_ERROR = "SYSTEM_ERROR"  # anything else failed
    CANCELED = "CANCELED"  # cancelled, and nothing native is left
    PREEMPTED = "PREEMPTED"  # never rested in: a preempted job goes back to QUEUED or ends in SYSTEM_ERROR
    CANCELING = "CANCELING"  # cancel was asked for; the native job is being removed

    @property
    def terminal(self) -> bool:
        """Whether no move leads out of this state."""
        return self in TERMINAL


TERMINAL: frozenset[State] = frozenset({State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELED})

#: Source -> the targets that a job may move to, each with the cause that is written on the chart.
MOVES: dict[State, dict[State, str]] = {
    State.QUEUED: {
        State.INITIALIZING: "a worker claimed it",
        State.CANCELED: "cancelled before it was claimed",
        State.SYSTEM_ERROR: "refused at its start",
    },
    State.INITIALIZING: {
        State.RUNNING: "the executor has it",
        State.QUEUED: "the attempt failed and another one is left",
        State.SYSTEM_ERROR: "staging or submitting failed",
        State.CANCELING: "cancel was asked for",
    },
    State.RUNNING: {
        State.COMPLETE: "all steps succeeded and all outputs are stored",
        State.EXECUTOR_ERROR: "a step failed",
        State.SYSTEM_ERROR: "something other than a step failed",
        State.QUEUED: "preempted or lost, and another attempt is left",
        State.CANCELING: "cancel was asked for",
    },
    State.CANCELING: {
        State.CANCELED: "nothing native is left",
        State.SYSTEM_ERROR: "the native job could not be removed",
    },
}

#: The states in which a job can rest in the database.
STORED: frozenset[State] = frozenset(MOVES) | TERMINAL
#: The states in which a worker must hold a lease on the job.
DRIVEN: frozenset[State] = frozenset({State.INITIALIZING, State.RUNNING, State.CANCELING})


def sources_of(target: State) -> frozenset[State]:
    """Return the states from which ``target`` may be reached."""
    return frozenset(source for source, targets in MOVES.items() if target in targets)


def is_legal(source: State, target: State) -> bool:
    """Tell whether the law has a move from ``source`` to ``target``."""
    return target in MOVES.get(source, {})
