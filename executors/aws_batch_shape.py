"""The shape of a job: a container that stages in, one for each step, one that stages out; as a job definition. Pure.

::

    stage-in  ->  step-0  ->  step-1  ->  ...  ->  stage-out      (each waits for the one before to end)

Nothing of a task's command, environment or URLs is in it: those are read inside, from the plan. So tasks that need
the same images, folders and resources share one definition, which is named by the hash of its content.

The conditions are COMPLETE throughout: a step decides by the evidence of the one before whether it runs, and
stage-out runs after a failed step too. Only stage-out is essential, so that its exit code is the job's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from executors.aws_batch_resources import Share, Size
from weft.config import Settings
from weft.errors import ExecutorRefused, InvalidRequest
from weft.folders import AttemptFolder
from weft.model import Task
from weft.sections.backends import AwsBatchSettings
from weft.staging.plan import plan
from weft.staging.stepfiles import RUN
from weft.staging.urls import scheme_of

STAGE_IN, STAGE_OUT = "stage-in", "stage-out"
#: ECS allows ten containers in a task.
MOST_STEPS = 8
#: The service's own limit of a definition.
_MOST_BYTES = 24 << 10
#: What ECS tells a container about the job's role and about itself; steps are started without it.
_HIDDEN = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "ECS_AGENT_URI",
)
_STOP_SECONDS = 2
#: Schemes whose files are on weft's own host.
_OF_HOST = frozenset({"", "file"})
#: The attempt's folder in the staging containers.
_JOB = Path("/job")
_TMP = "/tmp"  # noqa: S108
_SECRET = {"profile": True, "access_key_id": True, "secret_access_key": True}


def step_name(index: int) -> str:
    """Return the name of a step's container."""
    return f"step-{index}"


def check(task: Task) -> None:
    """Refuse what can never run on AWS Batch.

    :raises ExecutorRefused: names the field and the remedy.
    """
    if len(task.steps) > MOST_STEPS:
        raise ExecutorRefused(
            f"{len(task.steps)} executors, and AWS Batch runs at most {MOST_STEPS} in one job",
            remedy="fewer executors in one task",
        )
    urls = [(f"input {item.path}", item.url) for item in task.inputs if item.url and not item.content]
    urls += [(f"output {item.path}", item.url) for item in task.outputs]
    for what, url in urls:
        if url is not None and scheme_of(url) in _OF_HOST:
            raise ExecutorRefused(
                f"{what}: jobs on AWS Batch do not see the files of weft's host", remedy="store it in S3: s3://…"
            )


def folders(task: Task) -> tuple[str, ...]:
    """Return the folders that the steps share with staging, as they see them.

    :raises ExecutorRefused: a file directly below ``/``, or paths that contradict each other.
    """
    try:
        planned = plan(task, AttemptFolder(_JOB))
    except InvalidRequest as error:
        raise ExecutorRefused(error.message, remedy=error.remedy) from error
    if planned.files:
        raise ExecutorRefused(
            f"{planned.files[0]}: on AWS Batch a file cannot lie directly below '/'", remedy="a path in a folder"
        )
    return tuple(mount.target for mount in planned.mounts)


def definition(task: Task, size: Size, settings: Settings) -> tuple[str, dict[str, Any]]:
    """Return the name and the body of the definition for a task.

    :raises ExecutorRefused: what the service would not take.
    """
    wanted = settings.aws_batch
    shared = folders(task)
    volumes = {"weft": "/weft"} | ({} if _TMP in shared else {"tmp": _TMP})
    staged = {f"folder-{number}": f"/job/mounts{path}" for number, path in enumerate(shared)}
    seen = {f"folder-{number}": path for number, path in enumerate(shared)}
    containers = [_staging(STAGE_IN, None, volumes | staged, size.staging, wanted)]
    for index, step in enumerate(task.steps):
        before = STAGE_IN if index == 0 else step_name(index - 1)
        containers.append(_step(index, step.image, before, volumes | seen, size.step, wanted))
    last = step_name(len(task.steps) - 1)
    containers.append(_staging(STAGE_OUT, last, volumes | staged, size.staging, wanted))
    properties: dict[str, Any] = {
        "containers": containers,
        "volumes": [{"name": name} for name in (*volumes, *staged)],
    }
    optional = {
        "taskRoleArn": wanted.job_role,
        "executionRoleArn": wanted.execution_role,
        "ephemeralStorage": None if size.disk_gib is None else {"sizeInGiB": size.disk_gib},
        "networkConfiguration": _network(wanted),
    }
    properties |= {name: value for name, value in optional.items() if value is not None}
    body = {
        "type": "container",
        "platformCapabilities": [wanted.platform],
        "ecsProperties": {"taskProperties": [properties]},
        "retryStrategy": {"attempts": 1},  # weft makes the attempts
        "propagateTags": True,
        "tags": {"weft": "definition"},
    }
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    if len(text) > _MOST_BYTES:
        raise ExecutorRefused(
            f"the job's definition is {len(text)} bytes, and AWS Batch takes {_MOST_BYTES}",
            remedy="fewer folders or fewer executors in one task",
        )
    return f"weft-{hashlib.sha256(text).hexdigest()[:32]}", body


def overrides(job_url: str, settings: Settings) -> dict[str, Any]:
    """Return what is a single job's own: where its plan is, and how staging reaches storage; never a secret."""
    s3 = settings.s3.model_dump(
        mode="json",
        exclude_none=True,
        exclude_defaults=True,
        exclude={**_SECRET, "buckets": {"__all__": set(_SECRET)}},
    )
    if settings.s3.region is None and settings.aws_batch.region is not None:
        s3["region"] = settings.aws_batch.region
    fetch = settings.fetch.model_dump(mode="json", exclude_defaults=True)
    variables = {
        "WEFT_JOB": job_url,
        "WEFT_S3": orjson.dumps(s3).decode(),
        "WEFT_FETCH": orjson.dumps(fetch).decode(),
    }
    environment = [{"name": name, "value": value} for name, value in variables.items()]
    containers = [{"name": name, "environment": environment} for name in (STAGE_IN, STAGE_OUT)]
    return {"taskProperties": [{"containers": containers}]}


def _staging(
    name: str, after: str | None, mounts: Mapping[str, str], share: Share, settings: AwsBatchSettings
) -> dict[str, Any]:
    """Describe a container of weft's own image. It is root there, to give files to the steps' user and read theirs."""
    if settings.image is None:
        raise ExecutorRefused("aws_batch.image is not set", remedy="build the target staging of weft's Dockerfile")
    return {
        **_container(name, settings.image, after, mounts, share, settings),
        "command": ["in" if name == STAGE_IN else "out"],
        "essential": name == STAGE_OUT,
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True},  # so that it ends at SIGTERM from its first moment on
        "user": "0:0",
    }


def _step(
    index: int, image: str, after: str, mounts: Mapping[str, str], share: Share, settings: AwsBatchSettings
) -> dict[str, Any]:
    # No init process here: its environment, which steps could read, would still name the role's credentials.
    without = [word for name in _HIDDEN for word in ("-u", name)]
    return {
        **_container(step_name(index), image, after, mounts, share, settings),
        "command": ["/weft/busybox", "env", *without, "/weft/busybox", "sh", RUN, str(index)],
        "essential": False,
        "readonlyRootFilesystem": settings.read_only_root,
        "user": settings.user,
    }


def _container(
    name: str, image: str, after: str | None, mounts: Mapping[str, str], share: Share, settings: AwsBatchSettings
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "image": image,
        "privileged": False,
        "stopTimeout": _STOP_SECONDS,
        "mountPoints": [{"sourceVolume": volume, "containerPath": path} for volume, path in mounts.items()],
        "resourceRequirements": share.requirements(),
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": settings.log_group, "awslogs-stream-prefix": "weft"},
        },
    }
    if after is not None:
        found["dependsOn"] = [{"containerName": after, "condition": "COMPLETE"}]
    return found


def _network(settings: AwsBatchSettings) -> Mapping[str, str] | None:
    if settings.platform != "FARGATE":
        return None
    return {"assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED"}
