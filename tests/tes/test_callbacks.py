"""Callbacks of a real server to a real receiver, by TES and by WES, and after a death; docs/callbacks.md is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live import LiveWeft
from tests.tes.conftest import step, system_log
from tests.testbeds.receiver import Receiver

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SITE_SECRET = "whsec_" + "A" * 40


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def is_genuine(*arguments: Any) -> bool:
    """Run the function that the page shows."""
    names: dict[str, Any] = {}
    exec(block("python"), names)
    return bool(names["is_genuine"](*arguments))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().start()
    yield receiver
    receiver.stop()


@pytest.fixture
def server(tmp_path: Path, receiver: Receiver) -> Iterator[LiveWeft]:
    env = {"WEFT_FETCH__ALLOW_HOSTS": f'["{receiver.host}"]'}
    server = LiveWeft(tmp_path / "data", flags=("--executor", "process"), env=env)
    server.start()
    yield server
    server.end()


def create(server: LiveWeft, url: str, script: str = "true", **headers: str) -> requests.Response:
    sent = {"Weft-Callback": url, "Weft-Callback-Secret": SECRET, **headers}
    return requests.post(f"{server.tes}/tasks", json={"executors": [step(script)]}, headers=sent, timeout=30)


def test_the_end_of_a_task_is_told_again_until_it_is_taken(server: LiveWeft, receiver: Receiver) -> None:
    receiver.answers.append(503)
    task_id = create(server, receiver.url(), "exit 3").json()["id"]
    first, second = receiver.wait_for(2)
    assert first.document.items() >= {"id": task_id, "kind": "task", "state": "EXECUTOR_ERROR", "attempt": 1}.items()
    assert second.body == first.body
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    for taken in (first, second):
        assert is_genuine(taken.headers, taken.body, SECRET)
    assert not is_genuine(second.headers, second.body + b" ", SECRET)
    assert not is_genuine(second.headers, second.body, SECRET, lambda: time.time() + 600)
    assert server.task(task_id)["state"] == "EXECUTOR_ERROR"
    assert SECRET not in str(server.task(task_id)) + server.log()


def test_a_death_between_the_end_and_the_callback_loses_nothing(server: LiveWeft, receiver: Receiver) -> None:
    receiver.answers.append(500)
    task_id = create(server, receiver.url()).json()["id"]
    (first,) = receiver.wait_for(1)
    while "callback failed" not in server.log():  # from then on nobody holds a claim on it
        time.sleep(0.02)
    server.kill()
    server.start()
    second = receiver.wait_for(2, 90)[1]
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert second.document["id"] == task_id


def test_a_run_and_the_site_itself_are_told(tmp_path: Path, receiver: Receiver) -> None:
    env = {
        "WEFT_FETCH__ALLOW_HOSTS": f'["{receiver.host}"]',
        "WEFT_CALLBACKS__URL": receiver.url("/site"),
        "WEFT_CALLBACKS__SECRET": SITE_SECRET,
        "WEFT_CALLBACKS__RUNNING": "true",
    }
    server = LiveWeft(tmp_path / "data", flags=("--executor", "process"), env=env)
    server.start()
    try:
        form = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
        snakefile = b"rule all:\n    output: 'x'\n    shell: 'echo hello > {output}'\n"
        answer = requests.post(
            f"{server.wes}/runs",
            data=form,
            files=[("workflow_attachment", ("Snakefile", snakefile))],
            headers={"Weft-Callback": receiver.url("/mine"), "Weft-Callback-Secret": SECRET},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        taken = receiver.wait_for(4, 120)
        told = sorted((one.path, one.document["kind"], one.document["state"]) for one in taken)
        assert told == [(path, "run", state) for path in ("/mine", "/site") for state in ("COMPLETE", "RUNNING")]
        assert {one.document["id"] for one in taken} == {answer.json()["run_id"]}
        for one in taken:
            assert is_genuine(one.headers, one.body, SITE_SECRET if one.path == "/site" else SECRET)
    finally:
        server.end()


def test_a_url_inside_is_refused_and_nothing_is_stored(server: LiveWeft) -> None:
    for url in ("https://127.0.0.1:1/", "http://169.254.169.254/latest", "https://10.0.0.7/", "http://hook.example/"):
        answer = create(server, url)
        assert (answer.status_code, answer.json()["field"]) == (400, "Weft-Callback"), answer.text
    assert requests.get(f"{server.tes}/tasks", timeout=30).json()["tasks"] == []


def test_what_is_given_up_is_said_in_the_system_log(server: LiveWeft, receiver: Receiver) -> None:
    receiver.answers.append(410)
    task_id = create(server, receiver.url()).json()["id"]
    receiver.wait_for(1)
    deadline = time.monotonic() + 30
    while "given up after 1 try: the answer was 410" not in system_log(server.task(task_id)):
        assert time.monotonic() < deadline, server.task(task_id)


def test_a_site_whose_own_callback_cannot_be_signed_does_not_start(tmp_path: Path) -> None:
    server = LiveWeft(
        tmp_path / "data", flags=("--executor", "process"), env={"WEFT_CALLBACKS__URL": "https://site.example/"}
    )
    with pytest.raises(AssertionError, match=r"callbacks\.secret"):
        server.start()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("openssl"), reason="needs curl and openssl")
def test_the_pages_request_works_as_it_stands(server: LiveWeft, receiver: Receiver) -> None:
    env = {**os.environ, "CALLBACK_URL": receiver.url(), "TES_URL": server.tes}
    done = subprocess.run(["bash", "-ec", block("sh")], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (taken,) = receiver.wait_for(1)
    assert f'"{taken.document["id"]}"' in done.stdout
    assert taken.document["state"] == "COMPLETE"
