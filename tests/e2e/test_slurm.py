"""A real ``weft serve`` in front of a real Slurm: nothing is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live import LiveWeft
from tests.testbeds import slurm_site
from tests.testbeds.slurm_site import SlurmSite

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "slurm.md"
SNAKEFILE = b"""
rule all:
    input: "both.txt"
rule one:
    output: "{name}.txt"
    shell: "echo {wildcards.name} $(id -u) > {output}"
rule both:
    input: "a.txt", "b.txt"
    output: "both.txt"
    shell: "cat {input} > {output}"
"""


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    missing = slurm_site.missing_tools()
    if missing:
        pytest.skip(missing)
    with slurm_site.private_site() as running:
        yield running


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the account of the jobs can reach, as on a file system that all nodes share."""
    folder = Path(tempfile.mkdtemp(prefix="weft-slurm-e2e-"))
    folder.chmod(0o755)
    (folder / "files").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(shared: Path, site: SlurmSite) -> Iterator[Callable[..., LiveWeft]]:
    """Starts servers whose tasks go to the cluster; all are stopped at the end, and have left nothing there."""
    started: list[LiveWeft] = []

    def start(**env: str) -> LiveWeft:
        own = {
            "WEFT_SLURM__CONF": str(site.conf),
            "WEFT_SLURM__USER": site.account.pw_name,
            "WEFT_SLURM__PYTHON": "/usr/bin/python3",
            "WEFT_LEASE_SECONDS": "2",
            "WEFT_ENGINE__WARM_IDLE_SECONDS": "20",
        }
        flags = ("--executor", "slurm", "--file-root", str(shared / "files"))
        started.append(LiveWeft(shared / "data", flags=flags, env=own | env).start())
        return started[-1]

    yield start
    for server in started:
        server.end()
    assert site.run("squeue", "-h", "-t", "PENDING,RUNNING") == ""


@pytest.fixture
def weft(start: Callable[..., LiveWeft]) -> LiveWeft:
    return start()


def a_task(script: str, **fields: Any) -> dict[str, Any]:
    return {"executors": [{"image": "alpine", "command": ["sh", "-c", script]}], **fields}


def native_id(task: dict[str, Any]) -> str:
    return str(task["logs"][-1]["metadata"]["slurm_job_id"])


def test_a_task_with_files_runs_as_a_slurm_job(weft: LiveWeft, shared: Path, site: SlurmSite) -> None:
    outputs = [{"path": "/out/y", "url": (shared / "files" / "y").as_uri()}]
    task = a_task("cat /in/x > /out/y; id -u", inputs=[{"path": "/in/x", "content": "hello\n"}], outputs=outputs)
    done = weft.wait(weft.create(task))
    assert done["state"] == "COMPLETE", done
    assert (shared / "files" / "y").read_text() == "hello\n"
    (log,) = done["logs"]
    assert log["logs"][0]["stdout"] == f"{site.account.pw_uid}\n"
    assert log["metadata"]["host"] in site.nodes
    assert any("not used" in line for line in log["system_logs"])
    said = site.run("squeue", "-h", "-t", "all", "-j", native_id(done), "-o", "%u %T %j")
    assert re.fullmatch(rf"{slurm_site.ACCOUNT} COMPLETED weft-[0-9a-f]{{8}}-{done['id']}-1\n", said)


def test_what_a_site_offers_is_in_service_info_and_the_rest_is_refused(start: Callable[..., LiveWeft]) -> None:
    weft = start(WEFT_SLURM__ALLOW='{"partition": ["short"]}')
    deadline = time.monotonic() + 20
    while True:
        info = requests.get(f"{weft.tes}/service-info", timeout=10).json()
        if {"partition", "time"} <= set(info["tesResources_backend_parameters"]):
            break
        assert time.monotonic() < deadline, info
        time.sleep(0.05)
    strict = {"backend_parameters": {"qos": "mine"}, "backend_parameters_strict": True}
    answer = requests.post(f"{weft.tes}/tasks", json=a_task("true", resources=strict), timeout=10)
    assert answer.status_code == 400
    other = weft.wait(weft.create(a_task("true", resources={"backend_parameters": {"partition": "debug"}})))
    assert other["state"] == "SYSTEM_ERROR"
    assert "'debug' is not allowed here; allowed: short" in " ".join(other["logs"][0]["system_logs"])


def test_a_cancelled_task_leaves_nothing_in_the_queue(weft: LiveWeft, site: SlurmSite) -> None:
    task_id = weft.create(a_task("echo begun; sleep 600"))
    weft.wait(task_id, until={"RUNNING"})
    weft.cancel(task_id)
    assert weft.wait(task_id)["state"] == "CANCELED"
    assert site.run("squeue", "-h", "-t", "PENDING,RUNNING") == ""


def test_live_logs_are_seen_while_a_task_runs(weft: LiveWeft) -> None:
    task_id = weft.create(a_task("echo early; sleep 600"))
    weft.wait(task_id, until={"RUNNING"})
    deadline = time.monotonic() + 20
    while not any(log["logs"] and log["logs"][0].get("stdout") == "early\n" for log in weft.task(task_id)["logs"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    weft.cancel(task_id)
    weft.wait(task_id)


def test_while_the_controller_is_away_tasks_wait_and_nothing_fails(
    start: Callable[..., LiveWeft], site: SlurmSite, shared: Path
) -> None:
    weft = start(WEFT_SLURM__TIMEOUT_SECONDS="1")
    script = "while [ ! -e /go/now ]; do sleep 0.1; done"
    folder = shared / "files" / "go"
    folder.mkdir()
    inputs = [{"path": "/go", "url": folder.as_uri(), "type": "DIRECTORY"}]
    running = weft.create(a_task(script, inputs=inputs))
    weft.wait(running, until={"RUNNING"})
    site.stop_controller()
    try:
        waiting = weft.create(a_task("true"))
        deadline = time.monotonic() + 20
        while not any("waiting: sbatch" in line for log in weft.task(waiting)["logs"] for line in log["system_logs"]):
            assert time.monotonic() < deadline, weft.task(waiting)
            time.sleep(0.05)
        (folder / "now").touch()
        assert weft.wait(running)["state"] == "COMPLETE"
        assert weft.task(waiting, "MINIMAL")["state"] not in {"SYSTEM_ERROR", "COMPLETE"}
    finally:
        site.start_controller()
    assert weft.wait(waiting)["state"] == "COMPLETE"


def test_a_task_whose_node_failed_is_tried_again(weft: LiveWeft, site: SlurmSite, shared: Path) -> None:
    script = "while :; do sleep 0.1; done"
    retried = {"backend_parameters": {"max_retries": "1"}}
    task_id = weft.create(a_task(script, resources=retried))
    first = weft.wait(task_id, until={"RUNNING"})
    deadline = time.monotonic() + 20
    while "host" not in first["logs"][0].get("metadata", {}):
        assert time.monotonic() < deadline
        first = weft.task(task_id)
    node = first["logs"][0]["metadata"]["host"]
    site.run("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=test")
    try:
        while len((task := weft.task(task_id))["logs"]) < 2 or task["state"] != "RUNNING":
            assert time.monotonic() < deadline + 20
            time.sleep(0.05)
    finally:
        site.run("scontrol", "update", f"nodename={node}", "state=RESUME")
    weft.cancel(task_id)
    assert weft.wait(task_id)["state"] == "CANCELED"


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_of_many_jobs_loses_none_and_runs_none_twice(
    weft: LiveWeft, shared: Path, site: SlurmSite
) -> None:
    count = shared / "files" / "count"
    count.mkdir()
    count.chmod(0o777)
    ids = []
    for number in range(60):
        # Each try makes a file of its own name, so that two tries would be seen.
        outputs = [{"path": "/out/tries", "url": (count / str(number)).as_uri()}]
        ids.append(weft.create(a_task("sleep 0.2; echo x >> /out/tries", outputs=outputs)))
    for _ in range(2):
        time.sleep(0.7)  # not to order a race: to die at some point in the middle
        weft.kill()
        weft.start()
    states = {weft.wait(task_id, seconds=90)["state"] for task_id in ids}
    assert states == {"COMPLETE"}
    assert {path.read_text() for path in count.iterdir()} == {"x\n"}
    native = [native_id(weft.task(task_id)) for task_id in ids]
    assert len(set(native)) == len(ids)
    told = site.run("squeue", "-h", "-t", "all", "-o", "%i %j").split()
    for task_id, job in zip(ids, native, strict=True):
        assert [told[place - 1] for place, word in enumerate(told) if f"-{task_id}-" in word] == [job]


def test_the_steps_of_a_workflow_are_slurm_jobs(weft: LiveWeft, site: SlurmSite) -> None:
    form = {
        "workflow_type": "SMK",
        "workflow_type_version": "9",
        "workflow_url": "Snakefile",
        "workflow_params": "{}",
    }
    run_id = weft.submit_run(form, {"Snakefile": SNAKEFILE})
    assert weft.wait_run(run_id)["state"] == "COMPLETE", weft.log()
    uid = site.account.pw_uid
    assert (weft.data / "jobs" / run_id / "work" / "both.txt").read_text() == f"a {uid}\nb {uid}\n"
    tasks = requests.get(f"{weft.tes}/tasks", params={"view": "FULL"}, timeout=10).json()["tasks"]
    assert len({native_id(task) for task in tasks}) == 3


def blocks(language: str) -> list[str]:
    return re.findall(rf"^<!-- test on a cluster -->\n```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_page_takes_an_administrator_from_nothing_to_a_running_task(shared: Path, site: SlurmSite) -> None:
    (toml,) = blocks("toml")
    real = {
        "/etc/slurm/slurm.conf": str(site.conf),
        "/shared/weft": str(shared / "data"),
        "/shared/projects": str(shared / "files"),
        '"weft"': f'"{site.account.pw_name}"',
        '"--partition=batch", "--account=lab"': '"--partition=debug"',
        '["batch", "long"]': '["debug", "short"]',
    }
    for shown, here in real.items():
        assert shown in toml, f"docs/slurm.md no longer says {shown}"
        toml = toml.replace(shown, here)
    settings = shared / "weft.toml"
    settings.write_text(f"{toml}\n", encoding="utf-8")
    env = {"WEFT_CONFIG": str(settings), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = LiveWeft(shared / "data", env=env).start()
    try:
        env["WEFT_SERVER"] = server.url
        for block in blocks("console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    argv = ["bash", "-c", line[2:]]
                    done = subprocess.run(
                        argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
                    )
                    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}\n{server.log()}"
                    printed = done.stdout
                else:
                    wanted = ".*".join(re.escape(part) for part in line.split("…"))
                    assert re.search(f"^{wanted}$", printed, re.M), f"{line!r} is not in {printed!r}"
    finally:
        server.end()
