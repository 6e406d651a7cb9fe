"""Who sees, cancels and removes whose jobs, over HTTP; and what the audit record says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policy.conftest import TES, WES, Site
from tests.policy.people import ANNA, AUDREY, BEN, CARL, FALSE_ANNA, OLGA
from weft.clock import new_id
from weft.model import Kind, Principal
from weft.store.store import Filters


def listed(site: Site, principal: Principal, **params: Any) -> list[str]:
    """Return the ids of all pages."""
    found, token = [], None
    while token != "":
        answer = site.get(f"{TES}/tasks", principal, page_size=2, page_token=token or "", **params).json()
        found += [task["id"] for task in answer["tasks"]]
        token = answer.get("next_page_token", "")
    return found


def test_a_job_is_its_owners_and_its_projects(site: Site) -> None:
    tasks = [site.created(ANNA), site.created(BEN, name="a"), site.created(ANNA, name="ab")]
    newest_first = tasks[::-1]
    assert listed(site, ANNA) == listed(site, BEN) == listed(site, OLGA) == listed(site, AUDREY) == newest_first
    assert listed(site, ANNA, name_prefix="a") == [tasks[2], tasks[1]]
    assert listed(site, ANNA, tag_key="Project", tag_value="heart", state="QUEUED") == newest_first
    for stranger in (CARL, FALSE_ANNA):
        assert listed(site, stranger) == []
    for friend in (ANNA, BEN, OLGA, AUDREY):
        for view in ("MINIMAL", "BASIC", "FULL"):
            assert site.get(f"{TES}/tasks/{tasks[0]}", friend, view=view).json()["id"] == tasks[0]


@pytest.mark.parametrize("stranger", [CARL, FALSE_ANNA])
def test_a_strangers_job_does_not_exist(site: Site, stranger: Principal) -> None:
    """What is said of another's job is to the letter what is said of one that never was."""
    task = site.created(ANNA)
    run = site.submit_run(ANNA, tags='{"project": "heart"}').json()["run_id"]
    never = new_id(site.clock())
    asked = [
        ("GET", f"{TES}/tasks/{{}}", (task, never)),
        ("GET", f"{TES}/tasks/{{}}?view=FULL", (task, never)),
        ("POST", f"{TES}/tasks/{{}}:cancel", (task, never)),
        ("DELETE", f"{TES}/tasks/{{}}", (task, never)),
        ("GET", f"{WES}/runs/{{}}", (run, never)),
        ("GET", f"{WES}/runs/{{}}/status", (run, never)),
        ("GET", f"{WES}/runs/{{}}/tasks", (run, never)),
        ("GET", f"{WES}/runs/{{}}/stdout", (run, never)),
        ("GET", f"{WES}/runs/{{}}/outputs", (run, never)),
        ("GET", f"{WES}/runs/{{}}/outputs/Snakefile", (run, never)),
        ("POST", f"{WES}/runs/{{}}/cancel", (run, never)),
    ]
    for method, path, ids in asked:
        before = len(site.said())
        words = []
        for job_id in ids:
            answer = site.client.request(method, path.format(job_id), headers=site.as_(stranger))
            assert answer.status_code == 404, (method, path, answer.text)
            words.append(answer.json()["msg"].replace(job_id, "ID"))
        assert words[0] == words[1]
        told = site.said()[before:]
        assert [(entry["decision"], entry["reason"]) for entry in told] == [("deny", "unknown, or not theirs")] * 2
    assert site.store.get(task).state == "QUEUED"  # type: ignore[union-attr]


def test_members_and_operators_cancel_but_only_the_owner_deletes(site: Site) -> None:
    for who, status in ((AUDREY, 403), (CARL, 404), (BEN, 200), (OLGA, 200), (ANNA, 200)):
        task = site.created(ANNA)
        assert site.post(f"{TES}/tasks/{task}:cancel", who).status_code == status, who
        state = site.get(f"{TES}/tasks/{task}", ANNA).json()["state"]
        assert state == ("CANCELED" if status == 200 else "QUEUED")
    for who, status in ((BEN, 403), (OLGA, 403), (ANNA, 200)):
        assert site.client.delete(f"{TES}/tasks/{task}", headers=site.as_(who)).status_code == status


def test_runs_are_shared_likewise(site: Site) -> None:
    run = site.submit_run(ANNA, tags='{"project": "heart"}').json()["run_id"]
    for who, seen in ((ANNA, True), (BEN, True), (OLGA, True), (AUDREY, True), (CARL, False), (FALSE_ANNA, False)):
        assert [item["run_id"] for item in site.get(f"{WES}/runs", who).json()["runs"]] == [run] * seen
        assert site.get(f"{WES}/runs/{run}/status", who).status_code == (200 if seen else 404)
    assert site.get(f"{WES}/runs/{run}/outputs/Snakefile", BEN).status_code == 200
    assert site.post(f"{WES}/runs/{run}/cancel", AUDREY).status_code == 403
    assert site.post(f"{WES}/runs/{run}/cancel", OLGA).status_code == 200
    assert site.get(f"{WES}/runs/{run}/status", ANNA).json()["state"] == "CANCELED"


def test_a_step_of_a_run_has_what_the_run_has(site: Site) -> None:
    secret = {"inputs": [{"path": "/in", "url": "s3://rare-diseases/a"}], "tags": {}}
    run = site.submit_run(ANNA, tags='{"project": "heart"}').json()["run_id"]
    engine = Principal(issuer=ANNA.issuer, subject=ANNA.subject, run=run)
    task = site.store.get(site.created(engine, **secret))
    assert task is not None
    assert (task.project, task.parent) == ("heart", run)
    other = site.submit_run(BEN, tags='{"project": "heart"}').json()["run_id"]
    refused = site.create(Principal(issuer=BEN.issuer, subject=BEN.subject, run=other), **secret)
    assert (refused.status_code, "visa" in refused.json()["msg"]) == (403, True)
    site.clock.pass_(3601)  # Anna's visa ends
    assert site.create(engine, **secret).status_code == 403
    assert site.create(engine, tags={}).status_code == 200


def test_a_refusal_names_field_and_remedy_and_leaves_nothing(site: Site) -> None:
    answer = site.create(ANNA, resources={"cpu_cores": 64})
    assert answer.status_code == 403
    assert answer.json()["field"] == "resources.cpu_cores"
    assert "64 is more than the 16" in answer.json()["msg"]
    assert site.submit_run(ANNA, tags='{"project": "no such"}').status_code == 403
    assert (site.jobs(), list((site.settings.data / "jobs").glob("*"))) == (0, [])
    assert site.store.page(Kind.RUN, Filters(), 10, None).jobs == ()


def test_a_changed_policy_comes_into_force_and_a_broken_one_does_not(site: Site) -> None:
    file = site.settings.policy
    assert file is not None
    assert site.create(ANNA, resources={"cpu_cores": 16}).status_code == 200
    file.write_text(file.read_text().replace("limits = { cores = 16, running = 20 }", ""))
    site.monotonic.pass_(3)
    assert site.create(ANNA, resources={"cpu_cores": 16}).status_code == 403
    file.write_text("[roles]\nking = ['x|y']\n")
    site.monotonic.pass_(3)
    assert site.create(ANNA, resources={"cpu_cores": 8}).status_code == 200
