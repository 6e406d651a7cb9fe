"""Tasks end to end: a real server, on this host and on a real Docker Engine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.live import LiveWeft


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"image": "busybox", "command": ["sh", "-c", script], **fields}


def logs(task: dict[str, Any]) -> list[dict[str, Any]]:
    return list(task["logs"][-1]["logs"])


def said(task: dict[str, Any]) -> str:
    """Return the system log, without the times and without the line about an image that was not used."""
    lines = [line.partition(" ")[2] for line in task["logs"][-1]["system_logs"]]
    return "\n".join(line for line in lines if "was not used" not in line)


def test_three_steps_share_an_input_and_a_volume_and_leave_an_output(weft: LiveWeft) -> None:
    (weft.files / "in.txt").write_text("b\na\n")
    task_id = weft.create(
        {
            "inputs": [{"url": f"file://{weft.files}/in.txt", "path": "/in/in.txt"}],
            "volumes": ["/shared"],
            "executors": [
                shell("sort /in/in.txt > /shared/sorted; echo sorted"),
                {"image": "busybox", "command": ["cat", "-"], "stdin": "/shared/sorted", "stdout": "/out/all.txt"},
                shell("wc -l < /out/all.txt; pwd; echo $WORD >&2", workdir="/shared", env={"WORD": "loud"}),
            ],
            "outputs": [{"path": "/out/all.txt", "url": f"file://{weft.files}/sub/all.txt"}],
        }
    )
    task = weft.wait(task_id)
    assert task["state"] == "COMPLETE", task
    assert (weft.files / "sub" / "all.txt").read_text() == "a\nb\n"
    assert [step["exit_code"] for step in logs(task)] == [0, 0, 0]
    assert logs(task)[0]["stdout"] == "sorted\n"
    assert logs(task)[1]["stdout"] == "a\nb\n"
    assert logs(task)[2]["stdout"].split() == ["2", "/shared"]
    assert logs(task)[2]["stderr"] == "loud\n"
    (output,) = task["logs"][0]["outputs"]
    assert (output["path"], output["size_bytes"]) == ("/out/all.txt", "4")
    assert weft.task(task_id, "MINIMAL") == {"id": task_id, "state": "COMPLETE"}


def test_live_logs_are_seen_while_the_task_runs_and_cancel_leaves_nothing_within_a_second(weft: LiveWeft) -> None:
    task_id = weft.create({"executors": [shell("echo begun; echo grumble >&2; sleep 1000"), shell("echo never")]})
    weft.wait(task_id, until={"RUNNING"})
    deadline = time.monotonic() + 10
    while not (shown := logs(weft.task(task_id))) or not shown[0].get("stdout"):
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)
    assert (shown[0]["stdout"], shown[0]["stderr"]) == ("begun\n", "grumble\n")
    assert logs(weft.task(task_id, "BASIC")) == []  # a step without an exit code is not an ExecutorLog (A22)
    begun = time.monotonic()
    weft.cancel(task_id)
    task = weft.wait(task_id)
    assert time.monotonic() - begun < 1.0
    assert task["state"] == "CANCELED"
    assert not [name for name in weft.containers() if task_id in name]
    assert not [line for line in weft.processes() if task_id in line]
    assert logs(task)[0]["stdout"] == "begun\n"
    weft.cancel(task_id)


def test_ignore_error_goes_on_and_the_task_completes(weft: LiveWeft) -> None:
    steps = [shell("exit 3", ignore_error=True), shell("echo on")]
    task = weft.wait(weft.create({"executors": steps}))
    assert task["state"] == "COMPLETE"
    assert [step["exit_code"] for step in logs(task)] == [3, 0]


def test_a_failing_step_stops_the_rest_and_its_outputs_are_kept(weft: LiveWeft) -> None:
    task = weft.wait(
        weft.create(
            {
                "executors": [shell("echo diagnosis > /out/log; exit 3"), shell("echo never")],
                "outputs": [
                    {"path": "/out/log", "url": f"file://{weft.files}/failed.log"},
                    {"path": "/out/result", "url": f"file://{weft.files}/failed.result"},
                ],
            }
        )
    )
    assert task["state"] == "EXECUTOR_ERROR"
    assert [step["exit_code"] for step in logs(task)] == [3]
    assert "step 0 ended with exit code 3" in said(task)
    assert (weft.files / "failed.log").read_text() == "diagnosis\n"
    assert "/out/result" in said(task)


def test_a_missing_output_is_named(weft: LiveWeft) -> None:
    document = {
        "executors": [shell("echo here > /out/here")],
        "outputs": [
            {"path": "/out/here", "url": f"file://{weft.files}/here"},
            {"path": "/out/gone", "url": f"file://{weft.files}/gone"},
        ],
    }
    task = weft.wait(weft.create(document))
    assert task["state"] == "SYSTEM_ERROR"
    assert "/out/gone" in said(task)
    assert [item["path"] for item in task["logs"][0]["outputs"]] == ["/out/here"]
    assert (weft.files / "here").read_text() == "here\n"


def test_a_missing_input_is_named_and_nothing_starts(weft: LiveWeft) -> None:
    url = f"file://{weft.files}/nowhere.txt"
    task = weft.wait(weft.create({"inputs": [{"url": url, "path": "/in/a"}], "executors": [shell("echo hello")]}))
    assert task["state"] == "SYSTEM_ERROR"
    assert url in said(task)
    assert "Traceback" not in said(task)
    assert logs(task) == []


def test_a_program_that_does_not_exist_is_the_callers_error(weft: LiveWeft) -> None:
    task = weft.wait(weft.create({"executors": [{"image": "busybox", "command": ["no-such-program"]}]}))
    assert task["state"] == "EXECUTOR_ERROR", task
    assert logs(task)[0]["exit_code"] in (126, 127)
    assert "no-such-program" in said(task) + logs(task)[0]["stderr"]


def test_a_memory_limit_is_said_in_words(weft: LiveWeft) -> None:
    hungry = "x=a; while true; do x=$x$x; done"
    task = weft.wait(weft.create({"executors": [shell(hungry)], "resources": {"ram_gb": 0.05}}))
    if "docker" in weft.flags:
        assert task["state"] == "EXECUTOR_ERROR", task
        assert "memory" in said(task)
        assert "50 MB" in said(task)
    else:  # an address space that ends: the program is told, and says it itself
        assert task["state"] == "EXECUTOR_ERROR", task
        assert "space" in logs(task)[0]["stderr"] or "memory" in logs(task)[0]["stderr"], task


def test_many_tasks_at_once_all_end(weft: LiveWeft) -> None:
    ids = [weft.create({"executors": [shell(f"echo {number}")]}) for number in range(24)]
    ended = [weft.wait(task_id) for task_id in ids]
    assert [task["state"] for task in ended] == ["COMPLETE"] * 24
    assert [logs(task)[0]["stdout"] for task in ended] == [f"{number}\n" for number in range(24)]


@pytest.mark.parametrize("name", ["no-such-image", "localhost:1/no/such:image"])
def test_a_missing_image_is_named(weft: LiveWeft, name: str) -> None:
    task = weft.wait(weft.create({"executors": [{"image": name, "command": ["true"]}]}))
    if "docker" in weft.flags:
        assert task["state"] == "SYSTEM_ERROR"
        assert f"image {name}" in said(task), said(task)
        assert "Traceback" not in said(task)
    else:
        assert task["state"] == "COMPLETE"
        assert f"image {name} was not used" in "".join(task["logs"][0]["system_logs"])
