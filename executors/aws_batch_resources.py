"""Turn what a task asks for into what AWS Batch can give. Pure.

Batch places a job by the sum of its containers: the task's steps and, before and after them, staging. On Fargate that
sum must be one of the pairs of cores and memory that Fargate sells, so it is rounded up, and the steps get the rest.
https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from weft.errors import ExecutorRefused
from weft.model import Resources
from weft.sections.backends import AwsBatchSettings

_MIB = 1 << 20
_GIB = 1 << 30
#: Cores (in 1/1024) -> the memory in MiB that may go with them.
_FARGATE: Mapping[int, Sequence[int]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
    32768: (61440, 122880, 249856),
}
_EC2_SMALLEST_MIB = 4
#: What Fargate's disk holds when nothing is said, and the least and most that may be said, in GiB.
_DISK_FREE, _DISK_LEAST, _DISK_MOST = 20, 21, 200
#: Staging: cores in 1/1024 and MiB of memory. EC2 counts whole cores.
_STAGING_FARGATE, _STAGING_EC2 = (256, 512), (1024, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one container gets: cores in 1/1024, memory in MiB, GPUs."""

    cpu: int
    memory: int
    gpus: int = 0

    def requirements(self) -> list[dict[str, str]]:
        """Return it as Batch's ``resourceRequirements``."""
        cores = f"{self.cpu / 1024:g}"
        found = [{"type": "VCPU", "value": cores}, {"type": "MEMORY", "value": str(self.memory)}]
        return [*found, {"type": "GPU", "value": str(self.gpus)}] if self.gpus else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a job gets, and what is to be said of it."""

    step: Share
    staging: Share
    #: Fargate's disk in GiB, where it is more than comes with every job.
    disk_gib: int | None = None
    messages: tuple[str, ...] = ()


def limits(settings: AwsBatchSettings) -> tuple[int | None, int | None, int | None]:
    """Return the most cores, bytes of memory and bytes of disk that one task can be given."""
    on_fargate = settings.platform == "FARGATE"
    cores = settings.max_cpus or (32 if on_fargate else None)
    memory = 249_856 * _MIB - 2 * _STAGING_FARGATE[1] * _MIB if on_fargate else None
    wanted = None if settings.max_ram_gb is None else int(settings.max_ram_gb * 10**9)
    return cores, wanted or memory, _DISK_MOST * _GIB if on_fargate else None


def size(asked: Resources, steps: int, settings: AwsBatchSettings) -> Size:
    """Decide what a job with so many steps gets.

    :raises ExecutorRefused: more than there is, or not to be had here.
    """
    cores = asked.cpu_cores or settings.default_cpus
    memory = math.ceil((asked.ram_bytes or settings.default_ram_gb * 10**9) / _MIB)
    gpus = _gpus(asked, settings)
    if settings.platform == "FARGATE":
        return _on_fargate(cores, memory, gpus, asked, steps)
    said = ("disk_gb was not reserved: on EC2 the disk is what the instances have",) if asked.disk_bytes else ()
    cpu, least = _STAGING_EC2
    return Size(
        step=Share(cpu=cores * 1024, memory=max(memory, _EC2_SMALLEST_MIB), gpus=gpus),
        staging=Share(cpu=cpu, memory=least),
        messages=said,
    )


def _on_fargate(cores: int, memory: int, gpus: int, asked: Resources, steps: int) -> Size:
    if gpus:
        raise ExecutorRefused(
            "backend_parameters.gpus: Fargate has no GPUs", remedy="a queue on EC2, aws_batch.platform = EC2"
        )
    cpu, staging = _STAGING_FARGATE
    needed_cpu, needed_memory = steps * cores * 1024 + 2 * cpu, steps * memory + 2 * staging
    pair = next(((c, m) for c, m in _pairs() if c >= needed_cpu and m >= needed_memory), None)
    if pair is None:
        raise ExecutorRefused(
            f"{steps} steps of {cores} cores and {memory} MiB each, with staging, are more than Fargate gives one job "
            "(32 cores, 244 GiB)",
            remedy="fewer steps in one task, or a queue on EC2",
        )
    share = Share(cpu=(pair[0] - 2 * cpu) // steps, memory=(pair[1] - 2 * staging) // steps)
    said = (
        f"Fargate: asked for {cores} cores and {memory} MiB a step; the job, with staging, is rounded up to "
        f"{pair[0] / 1024:g} cores and {pair[1]} MiB, a step gets {share.cpu / 1024:g} cores and {share.memory} MiB",
    )
    return Size(step=share, staging=Share(cpu=cpu, memory=staging), disk_gib=_disk(asked), messages=said)


def _pairs() -> Iterator[tuple[int, int]]:
    """Give Fargate's pairs, the cheapest first: cores cost about nine times as much as a GiB."""
    found = [(cpu, memory) for cpu, sizes in _FARGATE.items() for memory in sizes]
    return iter(sorted(found, key=lambda pair: (9 * pair[0] + pair[1], pair)))


def _disk(asked: Resources) -> int | None:
    if asked.disk_bytes is None:
        return None
    wanted = math.ceil(asked.disk_bytes / _GIB)
    if wanted > _DISK_MOST:
        raise ExecutorRefused(
            f"disk_gb: {wanted} GiB are more than Fargate's {_DISK_MOST} GiB", remedy="a queue on EC2"
        )
    return max(wanted, _DISK_LEAST) if wanted > _DISK_FREE else None


def _gpus(asked: Resources, settings: AwsBatchSettings) -> int:
    given = asked.backend_parameters.get("gpus", "0")
    if not (given.isdecimal() and int(given) <= settings.max_gpus):
        raise ExecutorRefused(
            f"backend_parameters.gpus: {given!r} is not a number of GPUs that this site allows",
            remedy=f"a whole number up to {settings.max_gpus}",
        )
    return int(given)
