"""Gigabytes, time limits and retries."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tes_service.fleet import Fleet, read_resources
from tes_service.wire import WireResources
from tests.builders import a_job, a_task
from tests.tes.conftest import Bench, system_log
from weft import parameters
from weft.errors import InvalidRequest
from weft.folders import Folders
from weft.model import Resources
from weft.prepare import TaskPreparation
from weft.staging.stagers import Stagers


@pytest.mark.parametrize(("asked", "size"), [(1.0, 10**9), (0.5, 5 * 10**8), (1e-9, 1), (1.0000000001, 10**9 + 1)])
def test_a_gigabyte_is_a_billion_bytes_rounded_up(asked: float, size: int) -> None:
    assert Resources(ram_gb=asked).ram_bytes == size
    assert Resources(disk_gb=asked).disk_bytes == size


def test_a_site_may_count_in_powers_of_two(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    preparation = TaskPreparation(stagers=Stagers({}), folders=folders, binary_gigabytes=True)
    job = a_job(task=a_task(resources=Resources(ram_gb=2.0, disk_gb=1.0, cpu_cores=3)), attempt=1)
    given = preparation.prepare(job, folders.attempt(job.id, 1)).work.resources
    assert given.ram_bytes is not None
    assert given.disk_bytes is not None
    assert 0 <= given.ram_bytes - 2 * 2**30 <= 1
    assert 0 <= given.disk_bytes - 2**30 <= 1
    assert given.cpu_cores == 3


def test_a_site_that_counts_in_powers_of_two_refuses_by_them() -> None:
    fleet = Fleet(({"ram_bytes": 10**9},))
    read_resources(WireResources(ram_gb=1.0), fleet)
    with pytest.raises(InvalidRequest, match="ram_gb"):
        read_resources(WireResources(ram_gb=1.0), fleet, binary=True)


def test_a_time_limit_that_a_task_asks_for_ends_it_in_words(bench: Bench) -> None:
    began = time.monotonic()
    task = bench.run("sleep 60", resources={"backend_parameters": {"TIME_LIMIT": "0.5"}})
    assert time.monotonic() - began < 20
    assert task["state"] == "SYSTEM_ERROR"
    assert "the time limit of 0.5 s is used up" in system_log(task)
    assert task["resources"]["backend_parameters"] == {"time_limit": "0.5"}


def test_a_task_inside_its_time_limit_is_left_alone(bench: Bench) -> None:
    assert bench.run("sleep 1.2", resources={"backend_parameters": {"time_limit": "30"}})["state"] == "COMPLETE"


def test_what_the_system_failed_at_is_tried_again_as_often_as_asked(bench: Bench) -> None:
    missing = bench.files / "comes-later"
    task = bench.run(
        "cat /in/file",
        inputs=[{"url": missing.as_uri(), "path": "/in/file"}],
        resources={"backend_parameters": {"max_retries": "1"}},
    )
    assert task["state"] == "SYSTEM_ERROR"
    assert len(task["logs"]) == 2
    assert all("comes-later" in " ".join(attempt["system_logs"]) for attempt in task["logs"])


def test_a_retry_can_succeed(bench: Bench) -> None:
    late = bench.files / "late"
    document = {
        "executors": [{"image": "busybox", "command": ["cat", "/in/file"]}],
        "inputs": [{"url": late.as_uri(), "path": "/in/file"}],
        "resources": {"backend_parameters": {"max_retries": "5"}},
    }
    task_id = bench.server.create(document)
    deadline = time.monotonic() + 20
    while not bench.server.task(task_id)["logs"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    late.write_text("here\n")
    task = bench.server.wait(task_id)
    assert task["state"] == "COMPLETE"
    assert task["logs"][-1]["logs"][0]["stdout"] == "here\n"


def test_a_programs_own_failure_is_never_tried_again(bench: Bench) -> None:
    task = bench.run("exit 1", resources={"backend_parameters": {"max_retries": "3"}})
    assert task["state"] == "EXECUTOR_ERROR"
    assert len(task["logs"]) == 1


def test_service_info_lists_both_parameters(bench: Bench) -> None:
    info = requests.get(f"{bench.server.tes}/service-info", timeout=30).json()
    assert set(info["tesResources_backend_parameters"]) >= parameters.PARAMETERS


def test_a_priority_is_kept_for_the_queue(bench: Bench) -> None:
    task = bench.run("true", resources={"backend_parameters": {"Priority": "-7"}})
    assert task["resources"]["backend_parameters"] == {"priority": "-7"}
    with closing(sqlite3.connect(bench.server.data / "weft.db")) as database:
        (kept,) = database.execute("SELECT priority FROM jobs WHERE id = ?", [task["id"]]).fetchone()
    assert kept == -7
    document = {
        "executors": [{"image": "busybox", "command": ["true"]}],
        "resources": {"backend_parameters": {"priority": "11"}, "backend_parameters_strict": True},
    }
    refused = requests.post(f"{bench.server.tes}/tasks", json=document, timeout=30)
    assert refused.status_code == 400
    assert "a whole number from -10 to 10" in refused.json()["msg"]
