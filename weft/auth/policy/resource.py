"""What an action is about: a job that is asked for, or one that is there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from weft import parameters
from weft.model import Kind, Run, Task


class Action(StrEnum):
    """What a principal wants to do."""

    CREATE = "create"
    START = "start"
    READ = "read"
    CANCEL = "cancel"
    DELETE = "delete"
    READ_AUDIT = "read the audit record"


class Named(NamedTuple):
    """A value of a request, and the member that it stands in."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A job, as far as the policy looks at it.

    For CREATE and START: what is asked for, and in ``project`` the project that it belongs to or (CREATE) that its
    tags name. For READ, CANCEL and DELETE: ``owner`` and ``project`` alone.
    """

    kind: Kind = Kind.TASK
    owner: str | None = None
    project: str | None = None
    images: tuple[Named, ...] = ()
    reads: tuple[Named, ...] = ()
    writes: tuple[Named, ...] = ()
    #: URLs in a run's parameters: its engine may read them, or only pass them on.
    mentions: tuple[Named, ...] = ()
    cores: int | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    seconds: float | None = None
    backend_parameters: Mapping[str, str] = field(default_factory=dict)

    def within(self, project: str | None) -> Resource:
        """Return the same, in a project that is not what the tags say."""
        return replace(self, project=project)


#: The tag that names a job's project; 5S-TES writes it so.
TAGS = ("Project", "project")


def of_task(task: Task) -> Resource:
    """Say what a task asks for."""
    resources = task.resources
    given = {} if resources is None else resources.backend_parameters
    return Resource(
        kind=Kind.TASK,
        project=project_tag(task.tags),
        images=tuple([Named(f"executors[{place}].image", step.image) for place, step in enumerate(task.steps)]),
        reads=tuple(
            [
                Named(f"inputs[{place}].url", item.url)
                for place, item in enumerate(task.inputs)
                if item.url is not None and not item.content
            ]
        ),
        writes=tuple([Named(f"outputs[{place}].url", item.url) for place, item in enumerate(task.outputs)]),
        cores=None if resources is None else resources.cpu_cores,
        ram_gb=None if resources is None else resources.ram_gb,
        disk_gb=None if resources is None else resources.disk_gb,
        seconds=parameters.time_limit({"resources": {"backend_parameters": given}}) if given else None,
        backend_parameters=given,
    )


def of_run(run: Run) -> Resource:
    """Say what a run asks for; its images, inputs and outputs come as tasks of their own."""
    remote = (Named("workflow_url", run.workflow_url),) if "://" in run.workflow_url else ()
    return Resource(
        kind=Kind.RUN,
        project=project_tag(run.tags),
        reads=remote,
        mentions=tuple(_urls("workflow_params", run.workflow_params)),
    )


def project_tag(tags: Mapping[str, str]) -> str | None:
    """Return the project that tags name, if any."""
    return next((tags[key] for key in TAGS if tags.get(key)), None)


def _urls(field_: str, value: Any) -> Iterator[Named]:
    if isinstance(value, str):
        if "://" in value or value.startswith("/"):
            yield Named(field_, value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _urls(f"{field_}.{key}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _urls(f"{field_}[{place}]", inner)
