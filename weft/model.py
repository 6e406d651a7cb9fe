"""What weft talks about: Job, Task, Run, Step and their parts. Frozen data, no behaviour of the outside world.

A ``Task`` is what came by TES and a ``Run`` what came by WES. Their JSON form (``task_to_json``,
``run_to_json``) is the document of the wire in canonical form: known fields only, no nulls. The store keeps that
document, so an answer can be made of it without translating again.

Times are seconds since the epoch (UTC, float); sizes are bytes; container paths are strings in POSIX form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from weft.states import State

JsonObject = dict[str, Any]


class Kind(StrEnum):
    """How a job came: by TES or by WES."""

    TASK = "task"
    RUN = "run"


class FileType(StrEnum):
    """``tesFileType``."""

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command in one container image (``tesExecutor``)."""

    image: str
    command: tuple[str, ...]
    workdir: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ignore_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """``tesInput``: ``content`` that is not empty wins over ``url``; empty ``content`` alone is an empty file."""

    path: str
    url: str | None = None
    content: str | None = None
    type: FileType = FileType.FILE
    name: str | None = None
    description: str | None = None
    streamable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """``tesOutput``: ``path`` may hold POSIX wildcards when ``path_prefix`` is given."""

    path: str
    url: str
    path_prefix: str | None = None
    type: FileType = FileType.FILE
    name: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """``tesResources``; what is None was not asked for. GB on the wire are 10**9 bytes."""

    cpu_cores: int | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    preemptible: bool | None = None
    zones: tuple[str, ...] | None = None
    backend_parameters: Mapping[str, str] = field(default_factory=dict)
    backend_parameters_strict: bool | None = None

    def in_binary(self) -> Resources:
        """Read the gigabytes as 2**30 bytes each, for a site that counts so."""
        return replace(self, ram_gb=_binary(self.ram_gb), disk_gb=_binary(self.disk_gb))

    @property
    def ram_bytes(self) -> int | None:
        """Bytes of memory asked for, rounded up."""
        return None if self.ram_gb is None else -int(-self.ram_gb * 10**9 // 1)

    @property
    def disk_bytes(self) -> int | None:
        """Bytes of disk asked for, rounded up."""
        return None if self.disk_gb is None else -int(-self.disk_gb * 10**9 // 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a TES client asked for."""

    steps: tuple[Step, ...]
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    volumes: tuple[str, ...] = ()
    resources: Resources | None = None
    name: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a WES client asked for (``RunRequest``); the attachments lie in the job's folder under ``work/``."""

    workflow_type: str
    workflow_type_version: str
    workflow_url: str
    workflow_params: JsonObject = field(default_factory=dict)
    workflow_engine: str
    workflow_engine_version: str
    workflow_engine_parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """Where a job runs: the executor's name and the id that the backend gave."""

    executor: str
    native_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What became of one step; ``exit_code`` and ``ended_at`` are None while it runs."""

    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    #: In words, where the number alone does not say it: "killed: out of memory, limit 64 MB".
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """One file that was stored (``tesOutputFileLog``)."""

    url: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a job (``tesTaskLog``)."""

    job_id: str
    number: int
    handle: Handle | None = None
    started_at: float | None = None
    ended_at: float | None = None
    steps: tuple[StepResult, ...] = ()
    outputs: tuple[StoredOutput, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The end of what one step wrote: at most ``Settings.log_tail_bytes`` of each stream."""

    attempt: int
    step: int
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A move, or (without ``target``) a line of the job's system log."""

    job_id: str
    attempt: int
    at: float
    source: State | None = None
    target: State | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The durable unit: one row of the store."""

    id: str
    kind: Kind
    state: State
    owner: str
    document: JsonObject
    created_at: float
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The run that this task is a step of.
    parent: str | None = None
    #: 1 for the first try; 0 before a worker claimed it.
    attempt: int = 0
    max_attempts: int = 1
    priority: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    lease_owner: str | None = None
    lease_until: float | None = None
    handle: Handle | None = None
    #: A run's outputs as its engine gave them, once it ended.
    outputs: JsonObject | None = None
    #: The site's project whose members share it.
    project: str | None = None
    #: What the decision to accept it stood on, as ``weft.auth.policy.grounds`` writes it; no token.
    grounds: bytes | None = None

    @property
    def key(self) -> str:
        """Names the native job of this attempt: the same key never starts two."""
        return f"{self.id}-{self.attempt}"

    @property
    def task(self) -> Task:
        """The task in this job's document; only for ``Kind.TASK``."""
        return task_from_json(self.document)

    @property
    def run(self) -> Run:
        """The run request in this job's document; only for ``Kind.RUN``."""
        return run_from_json(self.document)


class Place(StrEnum):
    """Whose a callback is."""

    CLIENT = "client"
    SITE = "site"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A URL that is told when a job ends."""

    place: Place
    url: str
    #: Signs what is sent (``weft.callbacks.signature``); None for the site's own, whose secret is in the settings.
    secret: str | None = field(default=None, repr=False)
    #: Whether it is also told when the job begins to run.
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one URL that has not been taken yet."""

    #: Tells repetitions of the same message.
    id: str
    job_id: str
    place: Place
    kind: Kind
    state: State
    attempt: int
    #: When the job moved to ``state``.
    at: float
    url: str
    secret: str | None = field(default=None, repr=False)
    #: How often it was claimed to be sent, this time included.
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a service hands to ``store.create``."""

    id: str
    kind: Kind
    owner: str
    document: JsonObject
    created_at: float
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    max_attempts: int = 1
    priority: int = 0
    idempotency_key: str | None = None
    project: str | None = None
    grounds: bytes | None = None
    #: Lines for the system log, such as a backend parameter that was dropped.
    messages: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visa:
    """One checked GA4GH visa: the claims of ``ga4gh_visa_v1`` that a decision needs, and never the token."""

    issuer: str
    subject: str
    type: str
    value: str
    source: str
    by: str | None
    asserted: float
    expires_at: float
    #: SHA-256 of the signed visa in hex, for the audit record.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: (issuer, subject), roles, and for an engine the run that its token is bound to."""

    issuer: str
    subject: str
    roles: frozenset[str] = frozenset()
    run: str | None = None
    #: As the token's issuer names them; the site's policy says which projects they are.
    groups: frozenset[str] = frozenset()
    visas: tuple[Visa, ...] = ()
    #: When the credential that was shown ends, in seconds since the epoch.
    expires_at: float | None = None
    #: What the credential is limited to (``tes:read``, …); None: all that the principal may.
    scopes: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """One string for the store's ``owner`` column."""
        return f"{self.issuer}|{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host path that a step sees at a container path."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """All that an executor needs to run one attempt of one job, and nothing more."""

    key: str
    job_id: str
    attempt: int
    kind: Kind
    steps: tuple[Step, ...]
    #: The attempt's own folder; see ``weft.folders``.
    folder: Path
    #: Parents before children.
    mounts: tuple[Mount, ...] = ()
    resources: Resources = field(default_factory=Resources)
    #: The user and group that steps run as, where weft may choose it; files in ``folder`` belong to them.
    uid: int | None = None
    gid: int | None = None
    #: The job's whole document, for an executor that moves inputs and outputs by itself (``capabilities.stages``).
    document: JsonObject | None = None


def without_nulls(document: Mapping[str, Any]) -> JsonObject:
    """Copy ``document`` without the keys whose value is None."""
    return {key: value for key, value in document.items() if value is not None}


def task_to_json(task: Task) -> JsonObject:
    """Give the canonical TES document of ``task``: no nulls, ``type`` filled in, empty optional lists left out."""
    return without_nulls(
        {
            "name": task.name,
            "description": task.description,
            "inputs": [_input_to_json(item) for item in task.inputs] or None,
            "outputs": [_output_to_json(item) for item in task.outputs] or None,
            "resources": None if task.resources is None else _resources_to_json(task.resources),
            "executors": [_step_to_json(step) for step in task.steps],
            "volumes": list(task.volumes) or None,
            "tags": dict(task.tags) or None,
        }
    )


def task_from_json(document: Mapping[str, Any]) -> Task:
    """Read what ``task_to_json`` wrote."""
    resources = document.get("resources")
    return Task(
        name=document.get("name"),
        description=document.get("description"),
        inputs=tuple(Input(**{**item, "type": FileType(item["type"])}) for item in document.get("inputs", ())),
        outputs=tuple(Output(**{**item, "type": FileType(item["type"])}) for item in document.get("outputs", ())),
        resources=None if resources is None else _resources_from_json(resources),
        steps=tuple(Step(**{**step, "command": tuple(step["command"])}) for step in document["executors"]),
        volumes=tuple(document.get("volumes", ())),
        tags=document.get("tags", {}),
    )


def run_to_json(run: Run) -> JsonObject:
    """Give the canonical ``RunRequest`` document of ``run``."""
    return {
        "workflow_type": run.workflow_type,
        "workflow_type_version": run.workflow_type_version,
        "workflow_url": run.workflow_url,
        "workflow_params": run.workflow_params,
        "workflow_engine": run.workflow_engine,
        "workflow_engine_version": run.workflow_engine_version,
        "workflow_engine_parameters": dict(run.workflow_engine_parameters),
        "tags": dict(run.tags),
    }


def run_from_json(document: Mapping[str, Any]) -> Run:
    """Read what ``run_to_json`` wrote."""
    return Run(**document)


def _binary(gigabytes: float | None) -> float | None:
    return None if gigabytes is None else gigabytes * 2**30 / 10**9


def _input_to_json(item: Input) -> JsonObject:
    return without_nulls(
        {
            "name": item.name,
            "description": item.description,
            "url": item.url,
            "path": item.path,
            "type": item.type.value,
            "content": item.content,
            "streamable": item.streamable,
        }
    )


def _output_to_json(item: Output) -> JsonObject:
    return without_nulls(
        {
            "name": item.name,
            "description": item.description,
            "url": item.url,
            "path": item.path,
            "path_prefix": item.path_prefix,
            "type": item.type.value,
        }
    )


def _step_to_json(step: Step) -> JsonObject:
    return without_nulls(
        {
            "image": step.image,
            "command": list(step.command),
            "workdir": step.workdir,
            "stdin": step.stdin,
            "stdout": step.stdout,
            "stderr": step.stderr,
            "env": dict(step.env) or None,
            "ignore_error": step.ignore_error or None,
        }
    )


def _resources_to_json(resources: Resources) -> JsonObject:
    return without_nulls(
        {
            "cpu_cores": resources.cpu_cores,
            "preemptible": resources.preemptible,
            "ram_gb": resources.ram_gb,
            "disk_gb": resources.disk_gb,
            "zones": None if resources.zones is None else list(resources.zones),
            "backend_parameters": dict(resources.backend_parameters) or None,
            "backend_parameters_strict": resources.backend_parameters_strict,
        }
    )


def _resources_from_json(document: Mapping[str, Any]) -> Resources:
    zones = document.get("zones")
    return Resources(**{**document, "zones": None if zones is None else tuple(zones)})
