"""What is known in memory of one native job, and what that looks like from outside."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from executors import docker_containers as containers
from executors.docker_client import Image
from executors.docker_logs import LogSink
from weft import submissions
from weft.folders import AttemptFolder
from weft.model import Handle, JsonObject, Kind, StepResult, Submission
from weft.ports import Failure, Observation, Phase

NAME = "docker"
UNSEEN = Observation(phase=Phase.UNSEEN)
_NOTES = "docker.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a later process needs beside the Submission: every step's image, resolved once."""

    images: tuple[Image, ...]
    host: str

    def save(self, folder: Path) -> None:
        """Write this into the attempt's control folder, whole or not at all."""
        control = AttemptFolder(folder).control
        control.mkdir(parents=True, exist_ok=True)
        temporary = control / f".{_NOTES}"
        temporary.write_bytes(orjson.dumps(self))
        temporary.replace(control / _NOTES)

    @classmethod
    def load(cls, folder: Path) -> Notes | None:
        """Read what ``save`` wrote; None when nothing is there."""
        try:
            document = orjson.loads((AttemptFolder(folder).control / _NOTES).read_bytes())
        except FileNotFoundError:
            return None
        return cls(images=tuple(Image(**image) for image in document["images"]), host=document["host"])


def fed_mark(folder: Path, index: int) -> Path:
    """Return the file that says that the Engine has all of step ``index``'s stdin."""
    return AttemptFolder(folder).control / f"stdin-{index}.fed"


@dataclass(slots=True)
class StepView:
    """One step's container."""

    container: str
    index: int
    started_at: float | None = None
    #: The container has stopped.
    died: bool = False
    #: Its output came to an end.
    drained: bool = False
    #: The Engine may have died meanwhile: the end of the output is no evidence that all of it came.
    suspect: bool = False
    #: Somebody other than us sent it a signal, or the Engine may have died with it.
    disturbed: bool = False
    #: A sweep saw it dead and not drained.
    overdue: bool = False
    #: Names the connection that carries the output now.
    capture: object | None = None

    def compare(self, state: str) -> None:
        """Take in what a list says of the container."""
        if state in ("running", "paused", "restarting"):
            if self.drained:  # its output was cut off: read it anew
                self.drained, self.capture, self.suspect = False, None, True
            return
        if self.died and not self.drained:
            if self.overdue:  # its output does not end: read it from the Engine's own copy
                self.drained = self.suspect = True
            self.overdue = True
        self.died = True

    sinks: dict[int, LogSink] = field(default_factory=dict)
    result: StepResult | None = None


@dataclass(slots=True)
class DockerJob:
    """One native job: its containers so far, one a step.

    ``turn`` is held by whoever takes it forward (it lasts as long as a container takes to start); the other fields
    are changed under the executor's own short lock.
    """

    work: Submission
    handle: Handle
    notes: Notes
    #: How many containers of it a process before this one made.
    found: int = 0
    steps: list[StepView] = field(default_factory=list)
    failure: Failure | None = None
    ended: bool = False
    gone: bool = False
    cancelled: bool = False
    turn: threading.RLock = field(default_factory=threading.RLock)

    @property
    def last(self) -> StepView | None:
        """The newest step."""
        return self.steps[-1] if self.steps else None

    @property
    def is_over(self) -> bool:
        """Nothing will happen any more."""
        return self.ended or self.gone or self.cancelled

    @property
    def is_complete(self) -> bool:
        """The last step that will run has its result."""
        if self.last is None or self.last.result is None:
            return False
        index = len(self.steps) - 1
        stops = self.last.result.exit_code != 0 and not self.work.steps[index].ignore_error
        return stops or index == len(self.work.steps) - 1

    def observation(self) -> Observation:
        """Say what is known now."""
        if self.gone:
            return UNSEEN
        phase = Phase.ENDED if self.ended else Phase.RUNNING if self.steps else Phase.WAITING
        return Observation(
            phase=phase,
            steps=tuple(step.result or StepResult(started_at=step.started_at) for step in self.steps),
            failure=self.failure,
            metadata=self._metadata(),
            messages=tuple(self._messages()),
        )

    def _metadata(self) -> dict[str, str]:
        names = dict.fromkeys(
            f"{step.image}@{image.digest}" if "@" not in step.image else step.image
            for step, image in zip(self.work.steps, self.notes.images, strict=True)
        )
        return {"host": self.notes.host, "image_digest": ", ".join(names)}

    def _messages(self) -> list[str]:
        return [
            f"step {index}: only the end of {'stdout' if stream == 1 else 'stderr'} is kept"
            for index, step in enumerate(self.steps)
            for stream, sink in step.sinks.items()
            if sink.dropped
        ]


def handle_of(key: str) -> Handle:
    """Return the handle of the native job ``key``."""
    return Handle(executor=NAME, native_id=key)


def adopted_job(key: str, listed: Sequence[JsonObject]) -> DockerJob:
    """Take over the job whose containers an earlier process made, from its folder's notes."""
    folder = Path(listed[0]["Labels"][containers.FOLDER])
    work, notes = submissions.load(folder), Notes.load(folder)
    if work is not None and notes is not None:
        return DockerJob(work, handle_of(key), notes, found=len(listed))
    work = Submission(key=key, job_id="", attempt=0, kind=Kind.TASK, steps=(), folder=folder)
    failure = Failure(reason="the job's folder is gone", retry=True)
    return DockerJob(work, handle_of(key), Notes(images=(), host=""), len(listed), failure=failure, ended=True)
