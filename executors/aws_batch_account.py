"""Explain an account for ``weft check``: who asks, which queues take jobs, whether the storage can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from executors.aws_batch_client import AwsClient
from weft.errors import WeftError
from weft.ports import Health
from weft.sections.backends import AwsBatchSettings
from weft.staging.s3_objects import Objects

_PROBE = "check"
_POLICIES = "examples/aws-batch/README.md has the policies"


def examine(
    wanted: AwsBatchSettings, client: AwsClient, queues: Sequence[str], objects: Callable[[], Objects]
) -> Health:
    """Say what is in order, and of the first thing that is not, what to do. Never raises."""
    needed = {"queue": wanted.queue, "storage": wanted.storage, "image": wanted.image}
    missing = [f"aws_batch.{name}" for name, value in needed.items() if value is None]
    if missing:
        return Health(usable=False, detail=f"not set: {', '.join(missing)}", remedy="see docs/aws-batch.md")
    try:
        who = client.identity()
        found = [*_queues(client, queues)]
        _use_storage(objects())
    except WeftError as error:
        return Health(usable=False, detail=error.message, remedy=error.remedy or _POLICIES)
    problems = [words for words, good in found if not good]
    if problems:
        return Health(usable=False, detail="; ".join(problems), remedy="see the queue in AWS Batch")
    said = "; ".join(words for words, _ in found)
    role = wanted.job_role or "none: staging has only what its host has"
    return Health(
        usable=True,
        detail=f"as {who}; {said}; {wanted.storage} can be read and written; jobs on {wanted.platform}, role {role}",
    )


def _queues(client: AwsClient, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Give each queue in words, and whether it takes jobs."""
    queues = {queue["jobQueueName"]: queue for queue in client.queues(names)}
    for name in names:
        queue = queues.get(name.rpartition("/")[2])
        if queue is None:
            yield f"there is no job queue {name}", False
            continue
        if queue["state"] != "ENABLED" or queue.get("status", "VALID") != "VALID":
            why = queue.get("statusReason") or f"{queue['state']}, {queue.get('status')}"
            yield f"queue {name} takes no jobs: {why}", False
            continue
        order = sorted(queue["computeEnvironmentOrder"], key=lambda one: one["order"])
        yield from _environments(client, name, [one["computeEnvironment"] for one in order])


def _environments(client: AwsClient, queue: str, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    usable, said = False, []
    for found in client.environments(names):
        good = found["state"] == "ENABLED" and found.get("status", "VALID") == "VALID"
        usable = usable or good
        resources = found.get("computeResources", {})
        kind = resources.get("type", "unmanaged")
        most = f", at most {resources['maxvCpus']} vCPUs" if "maxvCpus" in resources else ""
        why = "" if good else f", not usable: {found.get('statusReason') or found['state']}"
        said.append(f"{found['computeEnvironmentName']} ({kind}{most}{why})")
    yield f"queue {queue} on {', '.join(said) or 'no compute environment'}", usable


def _use_storage(objects: Objects) -> None:
    """Write, read and delete one small object."""
    objects.put(_PROBE, b"weft")
    objects.get(_PROBE)
    objects.delete([_PROBE])
