"""What the audit record says of requests, who may read it, and that nothing is done without it."""

from __future__ import annotations

import pytest

from tests.policy.conftest import TES, WES, Site
from tests.policy.people import ANNA, AUDREY, BEN, CARL, OLGA
from weft.errors import Unavailable
from weft.model import Kind
from weft.store.store import Filters


def test_acts_are_recorded_with_who_what_and_why(site: Site) -> None:
    task = site.created(ANNA, inputs=[{"path": "/in", "url": "s3://rare-diseases/a?X-Amz-Signature=hidden"}])
    site.create(ANNA, executors=[{"image": "elsewhere.example/x", "command": ["secret-command"]}])
    site.get(f"{TES}/tasks/{task}", BEN, view="FULL")
    site.get(f"{TES}/tasks/{task}", BEN, view="BASIC")
    site.post(f"{TES}/tasks/{task}:cancel", BEN)
    site.get(f"{TES}/tasks", CARL, view="FULL")
    said = [
        {key: entry.get(key) for key in ("action", "decision", "reason", "job", "project")} for entry in site.said()
    ]
    assert said == [
        {"action": "task.create", "decision": "allow", "reason": None, "job": task, "project": "heart"},
        {"action": "request", "decision": "deny", "reason": "images.allow", "job": None, "project": "heart"},
        {"action": "task.read_logs", "decision": "allow", "reason": None, "job": task, "project": None},
        {"action": "task.cancel", "decision": "allow", "reason": None, "job": task, "project": None},
        {"action": "task.read_logs", "decision": "allow", "reason": None, "job": None, "project": None},
    ]
    entries = site.said()
    assert entries[0]["datasets"] == ["rare-diseases"]
    assert entries[1]["object"] == f"POST {TES}/tasks"
    assert entries[0]["actor"] == entries[1]["actor"] != entries[2]["actor"] == entries[3]["actor"]
    assert all(entry["policy"] and entry["request"] for entry in entries)


def test_nothing_personal_and_nothing_secret_is_recorded(site: Site) -> None:
    site.created(
        ANNA,
        name="planted-name",
        description="planted-description",
        executors=[{"image": "weft-busybox:1", "command": ["planted-command"], "env": {"A": "planted-env"}}],
        inputs=[{"path": "/in", "url": "https://data.example.org/public/x?token=planted-query"}],
        tags={"Project": "heart", "patient": "planted-tag"},
    )
    site.get(f"{TES}/tasks/planted", CARL, view="FULL", name="planted-query")
    site.client.get(f"{TES}/tasks", headers={"authorization": "Bearer planted-token"})
    run = site.submit_run(ANNA, tags='{"project": "heart"}', workflow_params='{"a": "planted-parameter"}')
    site.get(f"{WES}/runs/{run.json()['run_id']}/outputs/folder/planted-file", ANNA)
    journal = site.authority.journal
    assert journal is not None
    text = b"".join(row.body for row in journal.table.after(0, 1000)).decode().replace("tasks/planted", "")
    assert "planted" not in text
    assert "anna" not in text
    assert "carl" not in text


def test_an_auditor_reads_the_record_and_that_is_recorded_too(site: Site) -> None:
    for _ in range(3):
        site.created(ANNA)
    first = site.get("/weft/v1/audit", AUDREY, page_size=2).json()
    assert [item["seq"] for item in first["entries"]] == [1, 2]
    rest = site.get("/weft/v1/audit", AUDREY, after=first["next_after"]).json()
    assert "next_after" not in rest
    assert [item["entry"]["action"] for item in rest["entries"]] == ["task.create"] * 2 + ["audit.read"] * 2
    assert rest["entries"][0]["prev"] == first["entries"][-1]["hash"]
    assert "anna" not in str(rest)
    for other in (ANNA, OLGA, None):
        assert site.get("/weft/v1/audit", other).status_code == 403
    assert [entry["decision"] for entry in site.said()[-3:]] == ["deny"] * 3
    assert site.get("/weft/v1/audit", AUDREY, page_size=0).status_code == 400


def test_no_audit_no_action(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    task = site.created(ANNA)
    journal = site.authority.journal
    assert journal is not None

    def full(extend: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(journal.table, "append", full)
    for answer in (
        site.create(ANNA),
        site.create(CARL),
        site.submit_run(ANNA, tags='{"project": "heart"}'),
        site.post(f"{TES}/tasks/{task}:cancel", ANNA),
        site.get(f"{TES}/tasks/{task}", ANNA, view="FULL"),
        site.get(f"{TES}/tasks/{task}", CARL),
        site.get("/weft/v1/audit", AUDREY),
    ):
        assert answer.status_code == 503, answer.text
        assert "retry-after" in answer.headers
        assert "the disk is full" in answer.json()["msg"]
    assert site.get(f"{TES}/tasks/{task}", ANNA).json()["state"] == "QUEUED"
    assert site.jobs() == 1
    assert site.store.page(Kind.RUN, Filters(), 10, None).jobs == ()
    monkeypatch.undo()
    site.created(ANNA)
