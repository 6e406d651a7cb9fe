"""What a task asks for, in the sizes that AWS Batch has."""

from __future__ import annotations

import pytest

from executors.aws_batch_resources import size
from weft.errors import ExecutorRefused
from weft.model import Resources
from weft.sections.backends import AwsBatchSettings

FARGATE = AwsBatchSettings()
EC2 = AwsBatchSettings(platform="EC2", max_gpus=2)

#: https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html
PAIRS = {
    0.25: {512, 1024, 2048},
    0.5: set(range(1024, 4097, 1024)),
    1: set(range(2048, 8193, 1024)),
    2: set(range(4096, 16385, 1024)),
    4: set(range(8192, 30721, 1024)),
    8: set(range(16384, 61441, 4096)),
    16: set(range(32768, 122881, 8192)),
    32: {61440, 122880, 249856},
}


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("cores", "ram"), [(1, 0.5), (1, 6.0), (2, 1.0), (3, 20.0), (4, 8.0)])
def test_on_fargate_the_sum_is_a_pair_that_it_sells_and_no_step_gets_less_than_it_asked_for(
    steps: int, cores: int, ram: float
) -> None:
    given = size(Resources(cpu_cores=cores, ram_gb=ram), steps, FARGATE)
    spare_cpu, spare_memory = steps - 1, steps - 1  # what a division leaves over
    cpu = steps * given.step.cpu + 2 * given.staging.cpu
    memory = steps * given.step.memory + 2 * given.staging.memory
    assert any(
        0 <= pair_cpu * 1024 - cpu <= spare_cpu and any(0 <= size - memory <= spare_memory for size in sizes)
        for pair_cpu, sizes in PAIRS.items()
    )
    assert given.step.cpu >= cores * 1024
    assert given.step.memory * 2**20 >= ram * 10**9
    assert "rounded up" in given.messages[0]


def test_on_ec2_a_step_gets_what_it_asked_for_and_cores_are_whole() -> None:
    given = size(Resources(cpu_cores=3, ram_gb=1.0, backend_parameters={"gpus": "2"}), 1, EC2)
    assert given.step.requirements() == [
        {"type": "VCPU", "value": "3"},
        {"type": "MEMORY", "value": "954"},
        {"type": "GPU", "value": "2"},
    ]
    assert given.staging.requirements()[0] == {"type": "VCPU", "value": "1"}


@pytest.mark.parametrize(("asked", "gib"), [(None, None), (10.0, None), (21.5, 21), (100.0, 94)])
def test_a_disk_on_fargate(asked: float | None, gib: int | None) -> None:
    assert size(Resources(disk_gb=asked), 1, FARGATE).disk_gib == gib


def test_a_disk_on_ec2_is_said_not_to_be_reserved() -> None:
    assert "not reserved" in size(Resources(disk_gb=500.0), 1, EC2).messages[0]


@pytest.mark.parametrize(
    ("asked", "settings", "words"),
    [
        (Resources(cpu_cores=40), FARGATE, "more than Fargate gives"),
        (Resources(disk_gb=900.0), FARGATE, "more than Fargate's 200 GiB"),
        (Resources(backend_parameters={"gpus": "1"}), AwsBatchSettings(max_gpus=1), "Fargate has no GPUs"),
        (Resources(backend_parameters={"gpus": "3"}), EC2, "not a number of GPUs that this site allows"),
        (Resources(backend_parameters={"gpus": "many"}), EC2, "not a number of GPUs"),
    ],
)
def test_what_is_not_to_be_had_is_refused(asked: Resources, settings: AwsBatchSettings, words: str) -> None:
    with pytest.raises(ExecutorRefused, match=words):
        size(asked, 1, settings)
