"""The three views are exact: MINIMAL is id and state, BASIC leaves out four members, FULL has everything."""

from __future__ import annotations

from typing import Any

from tes_service import translate
from tests.builders import NOW, a_job, a_task
from weft.model import Attempt, Event, Input, Output, StepResult, StoredOutput, Tail
from weft.states import State

TASK = a_task(
    name="count",
    inputs=(Input(path="/in", content="hello"), Input(path="/in2", url="s3://b/k")),
    outputs=(Output(path="/out", url="s3://b/out"),),
)


def an_attempt(**changes: Any) -> Attempt:
    return Attempt(**{"job_id": "j", "number": 1, "started_at": NOW, **changes})


def an_event(message: str | None, attempt: int = 1, at: float = NOW) -> Event:
    return Event(job_id="j", attempt=attempt, at=at, message=message)


DONE = an_attempt(
    ended_at=NOW + 3,
    steps=(StepResult(started_at=NOW + 1, ended_at=NOW + 2.5, exit_code=0),),
    outputs=(StoredOutput(url="s3://b/out", path="/out", size_bytes=5_000_000_000),),
    metadata={"host": "node-1"},
)
TAIL = Tail(attempt=1, step=0, stdout="so far", stderr="")


def without(document: Any, *names: str) -> Any:
    if isinstance(document, dict):
        return {key: without(value, *names) for key, value in document.items() if key not in names}
    return [without(item, *names) for item in document] if isinstance(document, list) else document


def test_full_has_everything() -> None:
    job = a_job(task=TASK, state=State.COMPLETE)
    document = translate.full(job, [DONE], [TAIL], [an_event(None), an_event("stored 1 file")])
    assert document == {
        "id": job.id,
        "state": "COMPLETE",
        "name": "count",
        "inputs": [
            {"path": "/in", "type": "FILE", "content": "hello"},
            {"url": "s3://b/k", "path": "/in2", "type": "FILE"},
        ],
        "outputs": [{"url": "s3://b/out", "path": "/out", "type": "FILE"}],
        "executors": [{"image": "busybox:latest", "command": ["echo", "hello"]}],
        "logs": [
            {
                "logs": [
                    {
                        "start_time": "2026-01-01T00:00:01.000Z",
                        "end_time": "2026-01-01T00:00:02.500Z",
                        "stdout": "so far",
                        "stderr": "",
                        "exit_code": 0,
                    }
                ],
                "metadata": {"host": "node-1"},
                "start_time": "2026-01-01T00:00:00.000Z",
                "end_time": "2026-01-01T00:00:03.000Z",
                "outputs": [{"url": "s3://b/out", "path": "/out", "size_bytes": "5000000000"}],
                "system_logs": ["2026-01-01T00:00:00.000Z stored 1 file"],
            }
        ],
        "creation_time": "2026-01-01T00:00:00.000Z",
    }


def test_basic_is_full_without_exactly_four_members() -> None:
    job = a_job(task=TASK, state=State.COMPLETE)
    full = translate.full(job, [DONE], [TAIL], [an_event("x")])
    assert translate.basic(job, [DONE]) == without(full, "content", "stdout", "stderr", "system_logs")


def test_basic_keeps_the_paths_of_stdout_and_stderr() -> None:
    step = {"image": "i", "command": ["c"], "stdout": "/out", "stderr": "/err"}
    job = a_job(document={"executors": [step]})
    assert translate.basic(job, [])["executors"] == [step]


def test_the_stored_document_is_not_changed() -> None:
    job = a_job(task=TASK)
    translate.basic(job, [])
    assert job.document["inputs"][0]["content"] == "hello"


def test_a_running_step_shows_its_tails_in_full_without_exit_code_and_nothing_in_basic() -> None:
    job = a_job(task=TASK, state=State.RUNNING)
    running = an_attempt(steps=(StepResult(started_at=NOW + 1),))
    assert translate.basic(job, [running])["logs"][0]["logs"] == []
    assert translate.full(job, [running], [TAIL], [])["logs"][0]["logs"] == [
        {"start_time": "2026-01-01T00:00:01.000Z", "stdout": "so far", "stderr": ""}
    ]


def test_a_tail_shows_before_its_step_is_recorded() -> None:
    job = a_job(task=TASK, state=State.RUNNING)
    tail = Tail(attempt=1, step=1, stdout="second", stderr="")
    logs = translate.full(job, [DONE], [TAIL, tail], [])["logs"][0]["logs"]
    assert [entry["stdout"] for entry in logs] == ["so far", "second"]


def test_each_attempt_has_its_own_entry_and_system_log() -> None:
    job = a_job(task=TASK, state=State.RUNNING, attempt=2)
    events = [an_event("dropped", attempt=0), an_event("lost its node", 1), an_event("waits for a slot", 2)]
    logs = translate.full(job, [an_attempt(), an_attempt(number=2)], [], events)["logs"]
    assert [[line.partition(" ")[2] for line in log["system_logs"]] for log in logs] == [
        ["dropped", "lost its node"],
        ["waits for a slot"],
    ]


def test_a_task_that_never_ran_still_says_why() -> None:
    job = a_job(task=TASK, state=State.CANCELED, attempt=0)
    assert translate.full(job, [], [], [an_event("cancelled by its owner", 0)])["logs"] == [
        {"logs": [], "outputs": [], "system_logs": ["2026-01-01T00:00:00.000Z cancelled by its owner"]}
    ]
    assert translate.basic(job, [])["logs"] == []


def test_a_waiting_task_has_no_logs() -> None:
    assert translate.full(a_job(task=TASK), [], [], [an_event(None, 0)])["logs"] == []
