"""GET /tasks, GET /tasks/{id}, POST /tasks/{id}:cancel and GET /service-info."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from connexion.json_schema import Draft4ResponseValidator
from connexion.spec import Specification
from starlette.testclient import TestClient

from tests.api.conftest import Site, assert_error
from tests.builders import a_new_job
from weft.http.api import spec_path
from weft.model import Kind, StepResult, StoredOutput, Tail
from weft.states import State

TASKS = "/ga4gh/tes/v1/tasks"
VIEWS = ("MINIMAL", "BASIC", "FULL")


def create(client: TestClient, **members: Any) -> str:
    task = {"executors": [{"image": "busybox", "command": ["true"]}], **members}
    response = client.post(TASKS, json=task)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def ids(client: TestClient, query: str = "") -> list[str]:
    response = client.get(f"{TASKS}?{query}")
    assert response.status_code == 200, response.text
    return [task["id"] for task in response.json()["tasks"]]


def finish(site: Site, task_id: str) -> None:
    """Let a worker take the task through its whole life."""
    store, now = site.store, site.clock()
    store.claim("worker-1", [Kind.TASK], 1, now=now, until=now + 30)
    store.move(task_id, [State.INITIALIZING], State.RUNNING, now=now, lease_owner="worker-1")
    store.move(
        task_id,
        [State.RUNNING],
        State.COMPLETE,
        now=now + 2,
        lease_owner="worker-1",
        message="stored 1 file",
        steps=[StepResult(started_at=now, ended_at=now + 1, exit_code=0)],
        outputs=[StoredOutput(url="s3://b/k", path="/out", size_bytes=7)],
        metadata={"host": "node-1"},
        tails=[Tail(attempt=1, step=0, stdout="hello\n", stderr="")],
    )


# -- one task --------------------------------------------------------------------------------------------------------


def test_the_three_views_of_an_ended_task(client: TestClient, site: Site) -> None:
    task_id = create(client, inputs=[{"path": "/in", "content": "data"}])
    finish(site, task_id)
    minimal, basic, full = (client.get(f"{TASKS}/{task_id}?view={view}").json() for view in VIEWS)
    assert minimal == client.get(f"{TASKS}/{task_id}").json() == {"id": task_id, "state": "COMPLETE"}
    assert basic["inputs"] == [{"path": "/in", "type": "FILE"}]
    (log,) = full["logs"]
    assert log["logs"][0]["stdout"] == "hello\n"
    assert log["logs"][0]["exit_code"] == basic["logs"][0]["logs"][0]["exit_code"] == 0
    assert log["outputs"] == basic["logs"][0]["outputs"] == [{"url": "s3://b/k", "path": "/out", "size_bytes": "7"}]
    assert log["system_logs"][-1].endswith(" stored 1 file")
    assert "system_logs" not in basic["logs"][0]
    assert "stdout" not in basic["logs"][0]["logs"][0]


def test_a_running_task_shows_what_it_has_written_so_far(client: TestClient, site: Site) -> None:
    task_id = create(client)
    store, now = site.store, site.clock()
    store.claim("worker-1", [Kind.TASK], 1, now=now, until=now + 30)
    store.move(task_id, [State.INITIALIZING], State.RUNNING, now=now, lease_owner="worker-1")
    store.record(
        task_id,
        now=now,
        lease_owner="worker-1",
        steps=[StepResult(started_at=now)],
        tails=[Tail(attempt=1, step=0, stdout="line 1\n", stderr="")],
    )
    (entry,) = client.get(f"{TASKS}/{task_id}?view=FULL").json()["logs"][0]["logs"]
    assert entry["stdout"] == "line 1\n"
    assert "exit_code" not in entry
    assert client.get(f"{TASKS}/{task_id}?view=BASIC").json()["logs"][0]["logs"] == []


@pytest.mark.parametrize(
    "task_id", ["x", "x:cancel", "0" * 26, "..", "%00", "a%20b", "é", "x" * 5000, "'; DROP TABLE jobs"]
)
def test_an_unknown_id_is_404(quiet_client: TestClient, task_id: str) -> None:
    assert_error(quiet_client.get(f"{TASKS}/{task_id}"), 404)
    assert_error(quiet_client.post(f"{TASKS}/{task_id}:cancel"), 404)


@pytest.mark.parametrize("character", [*map(chr, range(33)), "\x7f", "\x85", "\u2028"])
def test_an_id_with_an_odd_character_is_404_for_every_operation(quiet_client: TestClient, character: str) -> None:
    for name in (f"{character}x", f"x{character}y", f"x{character}"):
        path = f"{TASKS}/{quote(name)}"
        for response in (quiet_client.get(path), quiet_client.post(f"{path}:cancel"), quiet_client.delete(path)):
            assert_error(response, 404)


def test_the_task_of_somebody_else_is_404(client: TestClient, site: Site) -> None:
    job = site.store.create(a_new_job(owner="local|eve"))
    assert_error(client.get(f"{TASKS}/{job.id}"), 404)
    assert_error(client.post(f"{TASKS}/{job.id}:cancel"), 404)
    assert ids(client) == []


def test_a_run_is_no_task(client: TestClient, site: Site) -> None:
    job = site.store.create(a_new_job(kind=Kind.RUN, owner="local|anonymous"))
    assert_error(client.get(f"{TASKS}/{job.id}"), 404)


@pytest.mark.parametrize("view", ["full", "ALL", "", "MINIMAL,FULL"])
def test_an_unknown_view_is_refused(client: TestClient, view: str) -> None:
    task_id = create(client)
    assert assert_error(client.get(f"{TASKS}/{task_id}?view={view}"), 400)["field"] == "view"
    assert assert_error(client.get(f"{TASKS}?view={view}"), 400)["field"] == "view"


# -- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [":cancel", "%3Acancel"])
def test_cancelling_a_waiting_task_ends_it(client: TestClient, suffix: str) -> None:
    task_id = create(client)
    response = client.post(f"{TASKS}/{task_id}{suffix}")
    assert (response.status_code, response.json()) == (200, {})
    assert client.get(f"{TASKS}/{task_id}").json()["state"] == "CANCELED"
    log = client.get(f"{TASKS}/{task_id}?view=FULL").json()["logs"][0]["system_logs"]
    assert log[-1].endswith("cancelled by its owner")


def test_cancelling_again_or_cancelling_what_has_ended_changes_nothing(client: TestClient, site: Site) -> None:
    task_id = create(client)
    finish(site, task_id)
    for _ in range(2):
        response = client.post(f"{TASKS}/{task_id}:cancel")
        assert (response.status_code, response.json()) == (200, {})
    assert client.get(f"{TASKS}/{task_id}").json()["state"] == "COMPLETE"


def test_a_cancel_needs_no_body_and_takes_any(client: TestClient) -> None:
    task_id = create(client)
    for headers in ({}, {"content-type": "application/json"}, {"content-type": "text/plain"}):
        assert client.post(f"{TASKS}/{task_id}:cancel", content=b"{}", headers=headers).status_code == 200


# -- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_minimal(client: TestClient) -> None:
    first, second = create(client), create(client)
    assert client.get(TASKS).json() == {"tasks": [{"id": second, "state": "QUEUED"}, {"id": first, "state": "QUEUED"}]}


@pytest.mark.parametrize("view", VIEWS)
def test_a_list_shows_what_a_single_task_shows(client: TestClient, site: Site, view: str) -> None:
    task_id = create(client, name="n", inputs=[{"path": "/in", "content": "data"}])
    finish(site, task_id)
    assert client.get(f"{TASKS}?view={view}").json()["tasks"] == [client.get(f"{TASKS}/{task_id}?view={view}").json()]


def test_pages_go_on_where_the_last_one_ended_while_tasks_are_added(client: TestClient) -> None:
    made = [create(client) for _ in range(5)][::-1]
    first = client.get(f"{TASKS}?page_size=2").json()
    create(client)
    second = client.get(f"{TASKS}?page_size=2&page_token={first['next_page_token']}").json()
    third = client.get(f"{TASKS}?page_size=2&page_token={second['next_page_token']}").json()
    assert [task["id"] for page in (first, second, third) for task in page["tasks"]] == made
    assert "next_page_token" not in third


def test_the_last_page_may_be_full(client: TestClient) -> None:
    for _ in range(2):
        create(client)
    assert "next_page_token" not in client.get(f"{TASKS}?page_size=2").json()


@pytest.mark.parametrize("size", ["0", "-1", "2048", "99999999999", "1.5", "many", "", "1e2", "9" * 5000])
def test_an_impossible_page_size_is_refused(quiet_client: TestClient, size: str) -> None:
    assert assert_error(quiet_client.get(f"{TASKS}?page_size={size}"), 400)["field"] == "page_size"


def test_the_largest_page_size_is_accepted(quiet_client: TestClient) -> None:
    assert quiet_client.get(f"{TASKS}?page_size=2047").status_code == 200


@pytest.mark.parametrize("token", ["x", "AAAA", "0", "../..", "%00", "é", "a" * 5000])
def test_a_forged_page_token_is_refused(quiet_client: TestClient, token: str) -> None:
    assert assert_error(quiet_client.get(f"{TASKS}?page_token={token}"), 400)["field"] == "page_token"


def test_an_empty_page_token_is_the_first_page(client: TestClient) -> None:
    task_id = create(client)
    assert ids(client, "page_token=") == [task_id]


def test_the_state_filter(client: TestClient) -> None:
    waiting, cancelled = create(client), create(client)
    client.post(f"{TASKS}/{cancelled}:cancel")
    assert ids(client, "state=QUEUED") == [waiting]
    assert ids(client, "state=CANCELED") == [cancelled]
    assert ids(client, "state=PREEMPTED") == []
    assert ids(client, "state=UNKNOWN") == ids(client) == [cancelled, waiting]


@pytest.mark.parametrize("state", ["queued", "DONE", ""])
def test_an_unknown_state_is_refused(quiet_client: TestClient, state: str) -> None:
    assert assert_error(quiet_client.get(f"{TASKS}?state={state}"), 400)["field"] == "state"


def test_the_name_filter_is_a_plain_prefix(client: TestClient) -> None:
    create(client)
    wild, plain = create(client, name="a%b_*"), create(client, name="axb")
    assert ids(client, "name_prefix=a") == [plain, wild]
    assert ids(client, "name_prefix=a%25") == [wild]
    assert ids(client, "name_prefix=A") == []
    assert len(ids(client, "name_prefix=")) == 3


#: The truth table of the spec: filter, tags, whether they match.
TRUTH = [
    ("tag_key=foo&tag_value=bar", {"foo": "bar"}, True),
    ("tag_key=foo&tag_value=bar", {"foo": "bat"}, False),
    ("tag_key=foo&tag_value=", {"foo": ""}, True),
    ("tag_key=foo&tag_value=bar&tag_key=baz&tag_value=bat", {"foo": "bar", "baz": "bat"}, True),
    ("tag_key=foo&tag_value=bar", {"foo": "bar", "baz": "bat"}, True),
    ("tag_key=foo&tag_key=baz&tag_value=bar&tag_value=bat", {"foo": "bar"}, False),
    ("tag_key=foo&tag_value=", {"foo": "bar"}, True),
    ("tag_key=foo", {"foo": "bar"}, True),
    ("tag_key=foo", {}, False),
    ("tag_key=a,b&tag_value=c,d", {"a,b": "c,d"}, True),
    ("tag_key=a%2Cb&tag_value=c%2Cd", {"a,b": "c,d"}, True),
    ("tag_key=a,b", {"a": "1", "b": "2"}, False),
]


@pytest.mark.parametrize(("query", "tags", "matches"), TRUTH)
def test_the_tag_filter(client: TestClient, query: str, tags: dict[str, str], matches: bool) -> None:
    task_id = create(client, tags=tags)
    assert ids(client, query) == ([task_id] if matches else [])


def test_more_values_than_keys_are_refused(quiet_client: TestClient) -> None:
    assert_error(quiet_client.get(f"{TASKS}?tag_key=a&tag_value=1&tag_value=2"), 400, "tag_value")
    assert_error(quiet_client.get(f"{TASKS}?tag_value=1"), 400, "tag_value")


@pytest.mark.parametrize("query", ["name_prefix=%00", "tag_key=%00", "tag_key=a&tag_value=%00"])
def test_nul_in_a_filter_is_refused(quiet_client: TestClient, query: str) -> None:
    assert_error(quiet_client.get(f"{TASKS}?{query}"), 400, "NUL")


def test_unknown_query_keys_are_ignored(client: TestClient) -> None:
    task_id = create(client)
    assert ids(client, "project=x&pageSize=1") == [task_id]


# -- service-info ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ga4gh/tes/v1/service-info", "/v1/service-info", "/v1/tasks/service-info"])
def test_service_info_is_true_and_complete(client: TestClient, site: Site, file_root: Path, path: str) -> None:
    site.announce(backend_parameters=["network", "gpus"])
    assert client.get(path).json() == {
        "id": "org.weft.local.tes",
        "name": "weft",
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "description": "Runs tasks: lists of commands in containers that share files",
        "organization": {"name": "weft", "url": "https://weft.example.org"},
        "version": "0.1.0",
        "storage": [f"file://{file_root}", "drs://", "ftp://", "http://", "https://", "s3://"],
        "tesResources_backend_parameters": ["gpus", "network"],
    }


# -- the spec --------------------------------------------------------------------------------------------------------


def test_every_answer_is_what_the_spec_says(client: TestClient, site: Site) -> None:
    schemas = Specification.load(spec_path("tes.yaml"))["components"]["schemas"]
    task_id = create(client, name="n", inputs=[{"path": "/in", "content": "data"}])
    finish(site, task_id)
    answers = [("tesServiceInfo", "/v1/service-info")]
    answers += [("tesTaskView", f"{TASKS}/{task_id}?view={view}") for view in VIEWS]
    answers += [("tesListTasksResponse", f"{TASKS}?view={view}&page_size=1") for view in VIEWS]
    for schema, path in answers:
        Draft4ResponseValidator(schemas[schema]).validate(client.get(path).json())
