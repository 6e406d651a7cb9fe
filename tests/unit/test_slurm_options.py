"""What a task asks for becomes options of sbatch, within what the site allows."""

from __future__ import annotations

from typing import Any

import pytest

from executors.slurm_options import known_parameters, limits, minutes_of, options
from weft.errors import ExecutorRefused
from weft.model import Resources
from weft.sections.backends import SlurmSettings


def made(settings: SlurmSettings | None = None, /, **asked: Any) -> list[str]:
    return options(Resources(**asked), settings or SlurmSettings())


def chosen(settings: SlurmSettings, **parameters: str) -> list[str]:
    return made(settings, backend_parameters=parameters)[3:]


def test_a_task_that_asks_for_nothing_gets_one_core_and_the_sites_defaults() -> None:
    assert made() == ["--nodes=1", "--ntasks=1", "--cpus-per-task=1"]
    site = SlurmSettings(default_ram_gb=2.0, default_minutes=60, options=("--account=lab",))
    assert made(site) == ["--account=lab", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--mem=1908M", "--time=60"]


@pytest.mark.parametrize(("gigabytes", "mebibytes"), [(0.000001, 1), (1.048576, 1000), (1.048577, 1001), (8, 7630)])
def test_memory_is_rounded_up_to_mebibytes(gigabytes: float, mebibytes: int) -> None:
    assert f"--mem={mebibytes}M" in made(ram_gb=gigabytes)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("1", 1), ("90", 90), ("0:30", 1), ("2:00", 2), ("1:00:00", 60), ("1-0", 1440), ("1-2:30", 1590), ("0-0:0:1", 1)],
)
def test_time_limits_are_read_as_slurm_writes_them(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "-1", "1h", "1:2:3:4", "INFINITE", "1-", "٣", "1.5", "-", "00:00"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(ExecutorRefused, match="time"):
        minutes_of(text)


def test_wefts_own_time_limit_is_told_to_slurm_with_a_minute_to_spare() -> None:
    assert chosen(SlurmSettings(), time_limit="90") == ["--time=3"]
    assert chosen(SlurmSettings(), time_limit="90", time="7") == ["--time=7"]


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ({"cpu_cores": 5}, {"max_cpus": 4}),
        ({"ram_gb": 5}, {"max_ram_gb": 4}),
        ({"backend_parameters": {"time": "61"}}, {"max_minutes": 60}),
        ({"backend_parameters": {"gpus": "2"}}, {"max_gpus": 1}),
        ({"backend_parameters": {"gpus": "1"}}, {}),
    ],
)
def test_more_than_the_site_allows_is_refused(asked: dict[str, Any], limit: dict[str, Any]) -> None:
    with pytest.raises(ExecutorRefused, match="allows"):
        made(SlurmSettings(**limit), **asked)


def test_without_a_time_limit_the_task_gets_the_sites_maximum() -> None:
    assert made(SlurmSettings(max_minutes=60))[3:] == ["--time=60"]


def test_gpus_become_generic_resources() -> None:
    site = SlurmSettings(max_gpus=4)
    assert chosen(site, gpus="2") == ["--gres=gpu:2"]
    assert chosen(site, gpus="a100:1") == ["--gres=gpu:a100:1"]
    for wrong in ("0", "x", "1,gpu:9", "a100:", "--x"):
        with pytest.raises(ExecutorRefused):
            chosen(site, gpus=wrong)


def test_local_disk_is_asked_for_where_the_cluster_knows_it() -> None:
    assert made(disk_gb=1.0)[3:] == []
    assert made(SlurmSettings(request_tmp=True), disk_gb=1.0)[3:] == ["--tmp=954M"]


def test_only_what_the_site_lists_can_be_chosen() -> None:
    site = SlurmSettings(allow={"partition": ("short", "long"), "QOS": ("*",)})
    assert known_parameters(site) == {"time", "partition", "qos"}
    assert chosen(site, partition="long", QOS="normal", account="theirs") == ["--partition=long", "--qos=normal"]
    for name, value in (
        ("partition", "secret"),
        ("partition", "*"),
        ("qos", "a b"),
        ("qos", "x\n--uid=0"),
        ("qos", ""),
    ):
        with pytest.raises(ExecutorRefused, match="not allowed"):
            chosen(site, **{name: value})


def test_an_option_that_weft_does_not_offer_cannot_be_listed_by_mistake() -> None:
    site = SlurmSettings(allow={"uid": ("*",), "output": ("*",)})
    assert known_parameters(site) == {"time"}
    assert chosen(site, uid="0", output="/etc/passwd") == []


def test_limits_are_said_in_words() -> None:
    assert limits(["--mem=64M", "--time=5", "--nodes=1"]) == {"memory": "64 MiB", "time": "5 min"}
    assert limits([]) == {}
