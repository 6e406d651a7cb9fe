"""Parts that fail for a while: the Docker Engine, a worker that stands still, a full disk. Jobs wait; none is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.crash.fire import Fire
from tests.live import LiveWeft
from tests.testbeds import docker_engine as testbed


def shell(script: str) -> dict[str, Any]:
    return {"executors": [{"image": "busybox", "command": ["sh", "-c", script]}]}


def system_log(server: LiveWeft, task_id: str) -> str:
    return "".join(line for attempt in server.task(task_id)["logs"] for line in attempt["system_logs"])


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_jobs_wait_while_the_docker_engine_is_away(kindle: Callable[..., Fire]) -> None:
    missing = testbed.missing_tools()
    if missing:
        pytest.skip(missing)
    with testbed.private_engine("--live-restore") as engine:
        testbed.add_stand_ins(engine.host)
        server = kindle("docker", engine.host).server
        running = server.create(shell("echo before; sleep 4; echo after"))
        doomed = server.create(shell("sleep 1000"))
        for task_id in (running, doomed):
            server.wait(task_id, until={"RUNNING"})
        engine.stop()
        waiting = server.create(shell("echo here"))
        server.cancel(doomed)
        eventually(lambda: "waiting: " in system_log(server, waiting))
        states = [server.task(task_id)["state"] for task_id in (running, doomed, waiting)]
        assert states == ["RUNNING", "CANCELING", "INITIALIZING"]
        engine.start()
        ended = [server.wait(task_id) for task_id in (running, doomed, waiting)]
        assert [task["state"] for task in ended] == ["COMPLETE", "CANCELED", "COMPLETE"]
        assert ended[0]["logs"][0]["logs"][0]["stdout"] == "before\nafter\n"
        assert ended[2]["logs"][0]["logs"][0]["stdout"] == "here\n"
        server.assert_nothing_is_left()
        server.end()
        server.env.pop("WEFT_DOCKER__HOST")


def test_a_server_starts_while_its_docker_engine_is_away(kindle: Callable[..., Fire], tmp_path: Path) -> None:
    server = kindle("docker", f"unix://{tmp_path}/none.sock").server
    waiting = server.create(shell("echo here"))
    eventually(lambda: "waiting: " in system_log(server, waiting))
    server.cancel(waiting)
    server.env.pop("WEFT_DOCKER__HOST")  # nothing can have been left there


def test_two_workers_share_the_load_and_one_that_stood_still_is_fenced_off(kindle: Callable[..., Fire]) -> None:
    fire = kindle("process", workers=2)
    fire.light()
    for worker in fire.workers:
        time.sleep(0.5 * fire.dice.random())  # a random moment of the load
        worker.pause()
        time.sleep(3)  # longer than its lease
        worker.go_on()
        time.sleep(0.5)
    fire.end()
    fire.settle()
    fire.assert_the_promise()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a disk of its own of 24 MB."""
    folder = tmp_path / "data"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "weft-test", folder], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_new_jobs_and_loses_none(small_disk: Path, kindle: Callable[..., Fire]) -> None:
    server = kindle("process").server
    before = server.create(shell("echo before"))
    running = server.create(shell("sleep 4; echo after"))
    server.wait(before)
    server.wait(running, until={"RUNNING"})
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 12))
        except OSError:
            pass
    accepted, refused = [], []
    for number in range(200):
        answer = requests.post(f"{server.tes}/tasks", json={"name": "x" * 4000, **shell(f"echo {number}")}, timeout=30)
        assert answer.status_code in (200, 503), answer.text
        (accepted if answer.status_code == 200 else refused).append(answer)
        if len(refused) > 3:
            break
    assert refused
    assert "msg" in refused[-1].json()
    assert server.task(before)["state"] == "COMPLETE"
    time.sleep(3)  # what runs ends while there is no room to say so
    ballast.unlink()
    assert server.wait(running)["logs"][0]["logs"][0]["stdout"] == "after\n"
    assert server.wait(server.create(shell("echo again")))["state"] == "COMPLETE"
    for answer in accepted:
        task = server.wait(answer.json()["id"])
        assert task["state"] == "COMPLETE", task
    server.assert_nothing_is_left()
