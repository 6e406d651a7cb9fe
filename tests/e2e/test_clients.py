"""Real clients create, follow and cancel against a live server: py-tes 1.1.4, and ``wes-client`` of wes-service 5.0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import tes

from tests.live import LiveWeft
from tests.unit.spec_compare import REPOSITORY

_CALL = """
import json, sys
from wes_client import util
util.wf_info = lambda path: ("9", "SMK")  # it knows the types of .cwl, .wdl and .py alone
client = util.WESClient({"auth": {}, "proto": "http", "host": sys.argv[1]})
print(json.dumps(getattr(client, sys.argv[2])(*json.loads(sys.argv[3]))))
"""


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that can import ``wes_client``; its distribution has a ``wes_service`` too, so it is not ours."""
    named = os.environ.get("WEFT_WES_CLIENT_PYTHON")
    for candidate in (named, str(REPOSITORY / ".venv-clients" / "bin" / "python"), sys.executable):
        if candidate is not None and Path(candidate).exists():
            probe = [candidate, "-I", "-c", "import wes_client.util"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return candidate
    pytest.skip("wes-client (wes-service 5.0) is in none of WEFT_WES_CLIENT_PYTHON, .venv-clients and this environment")


def wes_client(python: str, weft: LiveWeft, folder: Path, method: str, *arguments: Any) -> dict[str, Any]:
    argv = [python, "-I", "-c", _CALL, weft.url.removeprefix("http://"), method, json.dumps(arguments)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_py_tes_creates_follows_and_cancels(weft: LiveWeft) -> None:
    client = tes.HTTPClient(weft.url)
    task = tes.Task(
        name="hello",
        inputs=[tes.Input(path="/in/word", content="hello")],
        outputs=[tes.Output(path="/out/word", url=f"file://{weft.files}/word")],
        executors=[tes.Executor(image="busybox", command=["cat", "/in/word"], stdout="/out/word")],
    )
    task_id = client.create_task(task)
    assert client.wait(task_id, timeout=30).state == "COMPLETE"
    seen = client.get_task(task_id, view="FULL")
    assert (seen.logs[0].logs[0].exit_code, seen.logs[0].logs[0].stdout) == (0, "hello")
    assert (weft.files / "word").read_text() == "hello"
    endless = client.create_task(tes.Task(executors=[tes.Executor(image="busybox", command=["sleep", "1000"])]))
    weft.wait(endless, until={"RUNNING"})
    assert client.get_task(endless, view="MINIMAL").state == "RUNNING"
    assert {item.id for item in client.list_tasks().tasks} >= {task_id, endless}
    client.cancel_task(endless)
    assert weft.wait(endless)["state"] == "CANCELED"


def test_wes_client_creates_follows_and_cancels(weft: LiveWeft, python: str, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "a.txt").write_text("attached\n")
    (tmp_path / "in.json").write_text('{"target": "x"}')
    workflow = tmp_path / "copy.smk"
    workflow.write_text('rule a:\n    output: config["target"]\n    shell: "cat inputs/a.txt > {output}"\n')
    arguments = (f"file://{workflow}", f"file://{tmp_path}/in.json", [f"file://{tmp_path}/inputs/a.txt"])
    run_id = wes_client(python, weft, tmp_path, "run", *arguments)["run_id"]
    assert weft.wait_run(run_id)["state"] == "COMPLETE"
    assert wes_client(python, weft, tmp_path, "get_run_status", run_id)["state"] == "COMPLETE"
    log = wes_client(python, weft, tmp_path, "get_run_log", run_id)
    assert requests.get(log["outputs"]["files"][0], timeout=30).text == "attached\n"
    assert "1 of 1 steps" in requests.get(log["run_log"]["stderr"], timeout=30).text

    workflow.write_text('rule a:\n    output: config["target"]\n    shell: "sleep 1000; touch {output}"\n')
    endless = wes_client(python, weft, tmp_path, "run", *arguments)["run_id"]
    weft.wait_run(endless, until={"RUNNING"})
    while not weft.run_log(endless)["task_logs"]:
        time.sleep(0.05)
    assert wes_client(python, weft, tmp_path, "cancel", endless) == {"run_id": endless}
    assert weft.wait_run(endless)["state"] == "CANCELED"
