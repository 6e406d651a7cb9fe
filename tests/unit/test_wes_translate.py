"""From jobs to the documents of WES."""

from __future__ import annotations

import pytest

from tests.builders import NOW, a_job, a_run, a_task
from weft.model import Attempt, Kind, Step, StepResult
from weft.states import State
from wes_service.translate import (
    Links,
    messages,
    name_of,
    redacted,
    run_summary,
    shown_step,
    strings_in,
    wes_time,
    with_urls,
)


def test_a_time_has_whole_seconds_and_a_z() -> None:
    assert wes_time(NOW + 0.999) == "2026-01-01T00:00:00Z"
    assert wes_time(None) is None


def test_a_summary_has_the_times_that_are_known() -> None:
    assert "end_time" not in run_summary(a_job(kind=Kind.RUN, state=State.RUNNING))
    ended = run_summary(a_job(run=a_run(tags={"a": "b"}), state=State.COMPLETE))
    assert ended["start_time"] == "2026-01-01T00:00:01Z"
    assert ended["end_time"] == "2026-01-01T00:00:02Z"
    assert ended["tags"] == {"a": "b"}


@pytest.mark.parametrize(
    "key",
    ["password", "db_password", "PASSWD", "accessToken", "api_token", "clientSecret", "credentials", "apiKey"],
)
def test_a_secret_is_masked_by_its_key(key: str) -> None:
    assert redacted({"deep": [{key: "x"}]}) == {"deep": [{key: "***"}]}
    assert redacted({key: {"nested": "x"}}) == {key: "***"}


@pytest.mark.parametrize("key", ["max_tokens", "tokenizer", "user", "compass", "key"])
def test_what_only_looks_like_a_secret_is_shown(key: str) -> None:
    assert redacted({key: "x"}) == {key: "x"}


def test_the_step_that_stands_for_a_task_is_the_last_that_started() -> None:
    job = a_job(task=a_task(steps=tuple(Step(image="", command=(str(number),)) for number in range(3))))

    def attempt(started: int) -> Attempt:
        return Attempt(job_id=job.id, number=1, steps=tuple(StepResult() for _ in range(started)))

    assert shown_step(job, ()) == 2
    assert shown_step(job, [attempt(0)]) == 2
    assert shown_step(job, [attempt(1)]) == 0
    assert shown_step(job, [attempt(3), attempt(2)]) == 1


def test_only_files_become_urls() -> None:
    links = Links("https://w.example.org")
    found = with_urls({"a": ["x/y z", "other"], "n": 1}, "r1", links, {"x/y z"}.__contains__)
    assert found == {"a": ["https://w.example.org/ga4gh/wes/v1/runs/r1/outputs/x/y%20z", "other"], "n": 1}


def test_a_cwl_file_object_has_one_url_and_keeps_the_rest() -> None:
    links = Links("https://w.example.org")
    base = "https://w.example.org/ga4gh/wes/v1/runs/r1/outputs"
    index = {"class": "File", "location": "results/x.bai", "basename": "x.bai"}
    file = {"class": "File", "location": "results/x", "basename": "x", "size": 1, "secondaryFiles": [index]}
    found = with_urls({"file": file, "text": "plain"}, "r1", links, {"results/x", "results/x.bai", "x"}.__contains__)
    assert found["text"] == "plain"
    assert found["file"] == {
        **file,
        "location": f"{base}/results/x",
        "secondaryFiles": [{**index, "location": f"{base}/results/x.bai"}],
    }
    folder = {"class": "Directory", "location": "results/made", "listing": [index]}
    assert with_urls(folder, "r1", links, lambda _: True)["location"] == f"{base}/results/made"
    assert strings_in({"file": file, "n": ["a"]}) == ["results/x", "results/x.bai", "a"]


def test_the_name_of_a_run_leaves_out_the_query() -> None:
    assert name_of("https://example.org/x?signature=secret#main") == "https://example.org/x#main"
    assert name_of("odd?name.smk#main") == "odd?name.smk#main"


def test_events_without_words_are_left_out() -> None:
    assert messages(()) == []
