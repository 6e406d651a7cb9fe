"""Outputs that are sent to a URL which the run names."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import requests

from tests.e2e.test_resume import LANGUAGES
from tests.live import LiveWeft


def form(language: str, parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, bytes]]:
    files, version, url, params = LANGUAGES[language]
    request = {
        "workflow_type": language,
        "workflow_type_version": version,
        "workflow_url": url,
        "workflow_params": json.dumps(params),
        "workflow_engine_parameters": json.dumps(parameters),
    }
    return request, {name: text.encode() for name, text in files("true").items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_outputs_are_stored_where_the_run_says(live_weft: LiveWeft, language: str) -> None:
    target = live_weft.files / "here and there"
    run = live_weft.wait_run(live_weft.submit_run(*form(language, {"output_url": target.as_uri()})))
    assert run["state"] == "COMPLETE", run
    listed = requests.get(f"{live_weft.wes}/runs/{run['run_id']}/outputs", timeout=30).json()
    stored = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert stored == {item["path"]: requests.get(item["url"], timeout=30).content for item in listed["outputs"]}
    assert b"hello\n1\nhello\n2\n" in stored.values()
    (task,) = [task for task in run["task_logs"] if task["name"] == "store outputs"]
    assert len(live_weft.task(task["id"])["logs"][0]["outputs"]) == len(stored)


def test_a_place_that_may_not_be_written_is_refused_at_once(live_weft: LiveWeft) -> None:
    for url, status in (("file:///etc", 403), ("gopher://x/y", 400), ("results", 400)):
        fields, files = form("SMK", {"output-url": url})
        parts = [("workflow_attachment", (name, body)) for name, body in files.items()]
        answer = requests.post(f"{live_weft.wes}/runs", data=fields, files=parts, timeout=30)
        assert answer.status_code == status, answer.text
        assert answer.json()["field"].startswith("workflow_engine_parameters.output")
