"""The ports: what weft asks of an executor, a stager and an engine. Data in, data out, no backend's name.

Each class behind a port is found by entry point (``weft.executors``, ``weft.stagers``, ``weft.engines``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from weft.model import FileType, Handle, JsonObject, Run, Step, StepResult, StoredOutput, Submission


class Phase(StrEnum):
    """What a backend says about a native job."""

    UNSEEN = "UNSEEN"  # the backend knows nothing of it: never success
    WAITING = "WAITING"  # accepted, not started
    RUNNING = "RUNNING"  # a step has started
    ENDED = "ENDED"  # no step runs any more and none will


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job failed for a reason that is not a step's exit code; ``retry`` when another attempt may help."""

    reason: str
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a backend says about a handle now; absence is ``UNSEEN``, never success.

    ``steps`` has one entry for each step that has started, in order. ENDED without ``failure`` means that the
    exit codes in ``steps`` are all the evidence there is to judge by.
    """

    phase: Phase
    steps: tuple[StepResult, ...] = ()
    failure: Failure | None = None
    #: For ``tesTaskLog.metadata``: host, image digest, …
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Lines for the job's system log, such as "the image was not used". Repeating them is harmless.
    messages: tuple[str, ...] = ()
    #: What an executor that ``stages`` has stored, once the job ended.
    outputs: tuple[StoredOutput, ...] = ()
    #: ``inputs`` and ``outputs`` -> path -> the type that such an executor found.
    types: Mapping[str, Mapping[str, FileType]] = field(default_factory=dict)
    #: The output object of a run that was handed over whole.
    run_outputs: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an executor can do, as data, so that nobody asks for its name."""

    name: str
    #: Moves inputs and outputs by itself: the worker stages nothing, and hands over the job's whole document.
    stages: bool = False
    #: Takes whole runs too, with their workflow files; elsewhere an engine of this site runs them.
    runs: bool = False
    #: Steps see the worker's file system: a folder can be mounted live at any path.
    shared_filesystem: bool = True
    #: The image of a step is really used.
    uses_image: bool = True
    #: Tells by ``wake`` when something happened, so it need not be polled.
    wakes: bool = False
    #: Keys of ``backend_parameters`` that it understands, in lower case.
    backend_parameters: frozenset[str] = frozenset()
    #: The most that one job can ask for; None where it cannot be told.
    cpu_cores: int | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    #: How many jobs it takes at once; None for no limit.
    slots: int | None = None
    #: The one user that steps run as, where weft is root and may not choose; what they see must be theirs.
    run_as: int | None = None
    #: Users by number that a task may choose with ``backend_parameters.user``.
    users: frozenset[int] = frozenset()
    #: Handles in one ``observe`` call.
    observe_batch: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether a part can be used now, and what to do if not. For ``weft check`` and ``executor = "auto"``."""

    usable: bool
    detail: str
    remedy: str | None = None


class Executor(Protocol):
    """A backend that runs jobs. Every call may be repeated; none blocks longer than the backend's own time-out."""

    @property
    def capabilities(self) -> Capabilities:
        """What this executor can do."""
        ...

    def check(self) -> Health:
        """Tell whether the backend answers. Never raises."""
        ...

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Begin to listen to the backend; ``wake`` may be called from any thread. May be called twice."""
        ...

    def stop(self) -> None:
        """Stop listening. Native jobs go on. May be called twice."""
        ...

    def submit(self, work: Submission) -> Handle:
        """Start the native job named ``work.key`` and return its handle.

        :raises ExecutorRefused: it will never run as it is (no such image, …): SYSTEM_ERROR, in these words.
        :raises Unavailable: the backend does not answer now: the worker tries again later.
        """
        ...

    def find(self, key: str) -> Handle | None:
        """Return the native job of this key if a worker that died has already submitted it."""
        ...

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Say what became of all ``handles``, by one native call. A handle left out counts as UNSEEN.

        :raises Unavailable: the backend does not answer now; nothing is known, nothing changes.
        """
        ...

    def cancel(self, handle: Handle) -> None:
        """Stop the native job and its children now; returns when nothing runs any more. Idempotent."""
        ...

    def forget(self, handle: Handle) -> None:
        """Remove what is left of the native job. Logs in the job's folder stay. Idempotent."""
        ...

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return (key, handle) of every native job that bears this installation's label, for the sweep of orphans."""
        ...


@runtime_checkable
class UsesStore(Protocol):
    """An executor whose native jobs are rows of weft's own store; it is given the store before it is used."""

    def attach(self, store: Any) -> None:
        """Use this ``weft.store.store.Store``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file below a DIRECTORY URL: its path relative to the URL, in POSIX form, and its size where known."""

    path: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of the host that ``file://`` URLs and bare paths may name; a ``writable`` one is mounted at its path."""

    path: Path
    writable: bool = False


class Stager(Protocol):
    """Moves bytes between a URL of its schemes and a local path. A class that derives from this gets the defaults."""

    @property
    def schemes(self) -> frozenset[str]:
        """URL schemes in lower case; "" for a bare path."""
        ...

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse, before a job is accepted, a URL that can never work here. No network.

        :raises InvalidRequest: malformed, or not possible for this scheme (400).
        :raises Forbidden: not allowed by this server's settings (403).
        """
        ...

    def download(self, url: str, target: Path) -> None:
        """Write the object at ``url`` to ``target``, complete or not at all.

        :raises StagingFailed: with the URL (without its query) and the reason.
        """
        ...

    def list(self, url: str) -> Iterable[Entry]:
        """List all files below the directory ``url``, however deep.

        :raises StagingFailed: as above, also where the scheme cannot list.
        """
        ...

    def upload(self, source: Path, url: str) -> None:
        """Store the file ``source`` at ``url``, complete or not at all; a repeated call replaces it.

        :raises StagingFailed: as above.
        """
        ...

    def kind(self, url: str) -> FileType | None:
        """Tell whether ``url`` is a file or a directory; None where it cannot be told cheaply."""
        ...

    def join(self, url: str, relative: str) -> str:
        """Return the URL of the file at ``relative`` below the directory ``url``, escaped as the scheme wants it."""
        return f"{url.rstrip('/')}/{relative}"

    def local(self, url: str) -> Path | None:
        """Return the host's own path of what ``url`` names, links followed, where a step may see it in place.

        :raises StagingFailed: it should be on this host and is not there.
        """
        return None

    def with_roots(self, roots: Sequence[Root]) -> Stager:
        """Return a stager that may also name what lies in these folders; itself where that means nothing."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParameter:
    """One entry of ``default_workflow_engine_parameters``."""

    name: str
    type: str
    default_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What service-info says of an engine."""

    name: str
    version: str
    #: Workflow type in canonical case -> versions.
    workflow_types: Mapping[str, tuple[str, ...]]
    #: Other spellings of the types, in lower case, -> canonical type.
    aliases: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[EngineParameter, ...] = ()


class Engine(Protocol):
    """A workflow language's runner. It runs as a step of its own, never inside weft's processes."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is; raises nothing. An engine that is not installed is not found at all."""
        ...

    def validate(self, run: Run) -> None:
        """Refuse engine parameters or types that this engine does not take.

        :raises InvalidRequest: names the field and lists what is supported.
        """
        ...

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        """Return the command that runs the workflow in folder ``work``.

        The command reads its run-scoped token from ``token_file`` and speaks TES to ``tes_url`` (``http://…`` or
        ``unix:///path/of/socket``). It writes its output object as JSON to ``outcome`` before it ends.
        """
        ...

    def outputs(self, outcome: Path) -> JsonObject:
        """Read the output object; values that are files are given as paths relative to the work folder."""
        ...
