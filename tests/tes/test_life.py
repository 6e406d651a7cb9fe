"""What a client sees of a task from its creation to its end, on a real server."""

from __future__ import annotations

import time
import uuid

import requests

from tests.tes.conftest import Bench, step, system_log


def test_outputs_are_stored_after_a_step_failed(bench: Bench) -> None:
    kept, missing = bench.files / "kept.txt", bench.files / "missing.txt"
    outputs = [{"path": "/out/kept", "url": kept.as_uri()}, {"path": "/out/missing", "url": missing.as_uri()}]
    task = bench.run("echo why > /out/kept; exit 3", outputs=outputs)
    assert task["state"] == "EXECUTOR_ERROR"
    assert kept.read_text() == "why\n"
    assert [item["url"] for item in task["logs"][0]["outputs"]] == [kept.as_uri()]
    assert task["logs"][0]["logs"][0]["exit_code"] == 3
    assert "output /out/missing: the task did not write it" in system_log(task)


def test_an_ignored_error_lets_the_task_complete(bench: Bench) -> None:
    steps = [step("exit 3", ignore_error=True), step("echo on")]
    task = bench.server.wait(bench.server.create({"executors": steps}))
    assert task["state"] == "COMPLETE"
    assert [log["exit_code"] for log in task["logs"][0]["logs"]] == [3, 0]


def test_a_running_step_shows_what_it_wrote_and_has_no_exit_code(bench: Bench) -> None:
    waits = bench.files / "go"
    script = f"echo begun; while [ ! -e {waits} ]; do sleep 0.05; done"
    inputs = [{"url": bench.files.as_uri(), "path": str(bench.files), "type": "DIRECTORY"}]
    task_id = bench.server.create({"executors": [step(script)], "inputs": inputs})
    deadline = time.monotonic() + 20
    while not (logs := bench.server.task(task_id)["logs"]) or not logs[0]["logs"] or not logs[0]["logs"][0]["stdout"]:
        assert time.monotonic() < deadline, bench.server.task(task_id)
        time.sleep(0.05)
    assert logs[0]["logs"][0]["stdout"] == "begun\n"
    assert "exit_code" not in logs[0]["logs"][0]
    assert bench.server.task(task_id, "BASIC")["logs"][0]["logs"] == []
    waits.touch()
    assert bench.server.wait(task_id)["state"] == "COMPLETE"


def test_later_answers_show_the_types_that_were_found(bench: Bench) -> None:
    folder, file = bench.files / "folder", bench.files / "file.txt"
    folder.mkdir()
    (folder / "inner").write_text("x")
    file.write_text("x")
    document = {
        "executors": [step("mkdir /out/d; echo 1 > /out/d/1; rmdir /out/f; echo 2 > /out/f")],
        "inputs": [
            {"url": folder.as_uri(), "path": "/in/folder"},
            {"url": file.as_uri(), "path": "/in/file", "type": "DIRECTORY"},
        ],
        "outputs": [
            {"url": (bench.files / "d").as_uri(), "path": "/out/d"},
            {"url": (bench.files / "f").as_uri(), "path": "/out/f", "type": "DIRECTORY"},
        ],
    }
    key = {"Idempotency-Key": str(uuid.uuid4())}
    url = f"{bench.server.tes}/tasks"
    task_id = requests.post(url, json=document, headers=key, timeout=30).json()["id"]
    bench.server.wait(task_id)
    for view in ("BASIC", "FULL"):
        task = bench.server.task(task_id, view)
        assert task["state"] == "COMPLETE"
        assert [item["type"] for item in task["inputs"]] == ["DIRECTORY", "FILE"]
        assert [item["type"] for item in task["outputs"]] == ["DIRECTORY", "FILE"]
    assert requests.post(url, json=document, headers=key, timeout=30).json() == {"id": task_id}


def test_the_metadata_say_which_executor_and_which_host(bench: Bench) -> None:
    metadata = bench.run("true")["logs"][0]["metadata"]
    assert metadata["executor"] == "process"
    assert metadata["host"]


def test_an_input_that_cannot_be_had_is_named_with_its_url(bench: Bench) -> None:
    missing = (bench.files / "not-there").as_uri()
    task = bench.run("true", inputs=[{"url": missing, "path": "/in/x"}])
    assert task["state"] == "SYSTEM_ERROR"
    assert "input /in/x" in system_log(task)
    assert "not-there" in system_log(task)
