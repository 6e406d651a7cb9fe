"""What is removed with a task, for whom, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import Site, assert_error
from tests.builders import a_new_job, a_task
from weft.folders import Folders
from weft.model import Kind
from weft.retention import Retention, remove

TASKS = "/ga4gh/tes/v1/tasks"
STEP = {"image": "busybox", "command": ["true"]}


def ended(client: TestClient) -> str:
    task_id = str(client.post(TASKS, json={"executors": [STEP], "tags": {"a": "b"}}).json()["id"])
    client.post(f"{TASKS}/{task_id}:cancel")
    return task_id


def files_of(site: Site, job_id: str) -> Path:
    """Give a job the files that it would have."""
    folder = Folders(site.settings.data).job(job_id)
    (folder / "1" / "logs").mkdir(parents=True)
    (folder / "1" / "logs" / "0.stdout").write_text("said")
    return folder


@pytest.mark.parametrize("base", ["/ga4gh/tes/v1", "/v1"])
def test_an_ended_task_is_removed_with_its_files(client: TestClient, site: Site, base: str) -> None:
    task_id, kept = ended(client), ended(client)
    folder, other = files_of(site, task_id), files_of(site, kept)
    response = client.delete(f"{base}/tasks/{task_id}")
    assert (response.status_code, response.text) == (200, "{}")
    assert_error(client.get(f"{TASKS}/{task_id}"), 404)
    assert [task["id"] for task in client.get(f"{TASKS}?tag_key=a").json()["tasks"]] == [kept]
    assert not folder.exists()
    assert other.exists()
    assert_error(client.delete(f"{TASKS}/{task_id}"), 404)


def test_a_task_that_has_not_ended_stays(client: TestClient, site: Site) -> None:
    task_id = client.post(TASKS, json={"executors": [STEP]}).json()["id"]
    folder = files_of(site, task_id)
    document = assert_error(client.delete(f"{TASKS}/{task_id}"), 409, "QUEUED")
    assert document["remedy"].startswith("cancel it")
    assert client.get(f"{TASKS}/{task_id}").json()["state"] == "QUEUED"
    assert folder.exists()


def test_the_task_of_somebody_else_cannot_be_removed(client: TestClient, site: Site) -> None:
    job = site.store.create(a_new_job(owner="local|somebody"))
    site.store.request_cancel(job.id, now=site.clock())
    assert_error(client.delete(f"{TASKS}/{job.id}"), 404)
    assert site.store.get(job.id) is not None


def test_a_task_of_a_run_goes_with_the_run(client: TestClient, site: Site) -> None:
    owner = site.store.get(ended(client)).owner  # type: ignore[union-attr]
    run = site.store.create(a_new_job(kind=Kind.RUN, owner=owner))
    task = site.store.create(a_new_job(task=a_task(), owner=owner, parent=run.id))
    for job in (task, run):
        site.store.request_cancel(job.id, now=site.clock())
    assert_error(client.delete(f"{TASKS}/{task.id}"), 409, "workflow run")
    assert site.store.get(task.id) is not None


def test_other_methods_still_answer_as_before(client: TestClient) -> None:
    task_id = ended(client)
    assert client.get(f"/v1/tasks/{task_id}").status_code == 200
    assert_error(client.put(f"{TASKS}/{task_id}"), 405)
    assert_error(client.delete(f"{TASKS}/service-info"), 404)
    assert_error(client.delete(TASKS), 405)


def test_what_ended_long_ago_is_removed_with_its_tasks_and_files(site: Site) -> None:
    store, clock = site.store, site.clock
    folders = Folders(site.settings.data)
    run = store.create(a_new_job(kind=Kind.RUN))
    inner = store.create(a_new_job(parent=run.id))
    old, waiting = store.create(a_new_job()), store.create(a_new_job())
    for job in (inner, run, old):
        store.request_cancel(job.id, now=clock())
        files_of(site, job.id)
    clock.pass_(1_000_000)
    young = store.create(a_new_job())
    store.request_cancel(young.id, now=clock())
    clock.pass_(50)
    sweep = Retention(store=store, folders=folders, clock=clock, seconds=100).sweep
    sweep()
    assert [store.get(job.id) for job in (run, inner, old)] == [None] * 3
    assert [folders.job(job.id).exists() for job in (run, inner, old)] == [False] * 3
    assert store.get(waiting.id) is not None
    assert store.get(young.id) is not None
    clock.pass_(51)
    sweep()
    assert store.get(young.id) is None


def test_a_run_with_a_task_that_has_not_ended_is_left_for_later(site: Site) -> None:
    store, folders = site.store, Folders(site.settings.data)
    run = store.create(a_new_job(kind=Kind.RUN))
    inner = store.create(a_new_job(parent=run.id))
    store.request_cancel(run.id, now=site.clock())
    assert not remove(store, folders, run.id)
    assert store.get(run.id) is not None
    store.request_cancel(inner.id, now=site.clock())
    assert remove(store, folders, run.id)
    assert store.get(inner.id) is None
