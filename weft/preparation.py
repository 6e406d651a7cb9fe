"""What a kind of job supplies to its drive: how it becomes a submission, and how its results are collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from weft.errors import StagingFailed
from weft.folders import AttemptFolder
from weft.model import FileType, Job, JsonObject, StoredOutput, Submission

#: ``inputs`` and ``outputs`` -> path -> type.
Types = Mapping[str, Mapping[str, FileType]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An attempt whose inputs are in place."""

    work: Submission
    messages: tuple[str, ...] = ()
    #: Path of each input -> its type as it was found.
    types: Mapping[str, FileType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What an attempt left behind that is kept."""

    outputs: tuple[StoredOutput, ...] = ()
    run_outputs: JsonObject | None = None
    messages: tuple[str, ...] = ()
    #: Path of each output whose type was not what the task said -> its type as it was found.
    types: Mapping[str, FileType] = field(default_factory=dict)


class PartlyCollected(StagingFailed):
    """Not every output could be stored; ``collected`` is what could be."""

    def __init__(self, message: str, collected: Collected) -> None:
        """Keep what was stored all the same."""
        super().__init__(message)
        self.collected = collected


class Preparation(Protocol):
    """How a kind of job becomes a submission, and how its results are collected; one for tasks and one for runs."""

    def prepare(self, job: Job, folder: AttemptFolder) -> Prepared:
        """Stage everything in; raises ``StagingFailed``, ``InvalidRequest``, ``Unavailable``."""
        ...

    def collect(self, job: Job, work: Submission, *, best_effort: bool) -> Collected:
        """Store everything that was asked for; raises ``PartlyCollected`` unless ``best_effort``."""
        ...

    def close(self, job: Job) -> None:
        """Give back what the attempt held (tokens, children). Idempotent."""
        ...
