"""POST /tasks: what is accepted is stored as sent, what is refused leaves nothing behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import Site, assert_error, open_site
from tests.builders import a_new_job, a_run
from tests.unit.test_tes_wire import FULL, dotted, places, replaced
from weft.config import Settings
from weft.model import Principal

TASKS = "/ga4gh/tes/v1/tasks"
STEP = {"image": "busybox", "command": ["true"]}
LIMIT = 1 << 18


def with_step(**members: Any) -> dict[str, Any]:
    return {"executors": [{**STEP, **members}]}


def with_input(**members: Any) -> dict[str, Any]:
    return {"executors": [STEP], "inputs": [{"url": "s3://bucket/k", "path": "/in", **members}]}


def with_output(**members: Any) -> dict[str, Any]:
    return {"executors": [STEP], "outputs": [{"url": "s3://bucket/k", "path": "/out", **members}]}


def with_resources(**members: Any) -> dict[str, Any]:
    return {"executors": [STEP], "resources": members}


#: Title -> document, status, what the message names.
BAD_TASKS: dict[str, tuple[Any, int, str]] = {
    "an array": ([], 400, "object"),
    "null": (None, 400, "object"),
    "a string": ("task", 400, "object"),
    "no executors": ({}, 400, "executors is missing"),
    "null executors": ({"executors": None}, 400, "executors must be a list"),
    "empty executors": ({"executors": []}, 400, "executors is empty"),
    "an executor that is null": ({"executors": [None]}, 400, "executors[0]"),
    "no image": ({"executors": [{"command": ["x"]}]}, 400, "executors[0].image is missing"),
    "no command": ({"executors": [{"image": "x"}]}, 400, "executors[0].command is missing"),
    "an empty image": (with_step(image=""), 400, "executors[0].image"),
    "an image that is an option": (with_step(image="-e INJ=yes busybox"), 400, "executors[0].image"),
    "an image with a space": (with_step(image="busy box"), 400, "executors[0].image"),
    "an empty command": (with_step(command=[]), 400, "executors[0].command"),
    "a command that is text": (with_step(command="echo hi"), 400, "executors[0].command"),
    "an empty program": (with_step(command=[""]), 400, "executors[0].command[0]"),
    "NUL in an argument": (with_step(command=["echo", "a\0"]), 400, "executors[0].command[1]"),
    "a relative workdir": (with_step(workdir="work"), 400, "executors[0].workdir"),
    "a relative stdout": (with_step(stdout="out.txt"), 400, "executors[0].stdout"),
    "stdin with ..": (with_step(stdin="/data/../etc/shadow"), 400, "executors[0].stdin"),
    "stderr below /proc": (with_step(stderr="/proc/1/fd/2"), 400, "executors[0].stderr"),
    "a variable with =": (with_step(env={"A=B": "c"}), 400, "executors[0].env"),
    "a variable that is a number": (with_step(env={"A": 1}), 400, "executors[0].env.A"),
    "ignore_error as text": (with_step(ignore_error="yes"), 400, "executors[0].ignore_error"),
    "a relative volume": ({"executors": [STEP], "volumes": ["vol"]}, 400, "volumes[0]"),
    "the root as a volume": ({"executors": [STEP], "volumes": ["/"]}, 400, "volumes[0]"),
    "a volume below /dev": ({"executors": [STEP], "volumes": ["/dev/shm"]}, 400, "volumes[0]"),
    "an input without path": (
        {"executors": [STEP], "inputs": [{"url": "s3://bucket/k"}]},
        400,
        "inputs[0].path is missing",
    ),
    "an input without source": ({"executors": [STEP], "inputs": [{"path": "/in"}]}, 400, "inputs[0].url is missing"),
    "an input at the root": (with_input(path="/"), 400, "inputs[0].path"),
    "an input with ..": (with_input(path="/a/../../etc/passwd"), 400, "inputs[0].path"),
    "an input with NUL": (with_input(path="/a\0b"), 400, "inputs[0].path"),
    "an input below /sys": (with_input(path="/sys/x"), 400, "inputs[0].path"),
    "content of a directory": (with_input(url=None, content="x", type="DIRECTORY"), 400, "inputs[0].content"),
    "too much content": (with_input(content="é" * (LIMIT // 2 + 1)), 400, f"this server takes {LIMIT}"),
    "an unknown type": (with_input(type="LINK"), 400, "FILE or DIRECTORY"),
    "an unknown scheme": (with_input(url="gopher://h/x"), 400, "file, ftp, http, https, s3"),
    "no scheme": (with_input(url="data/x"), 400, "inputs[0].url"),
    "credentials in a url": (with_input(url="https://me:hunter2@example.org/x"), 400, "inputs[0].url"),
    "NUL in a url": (with_input(url="s3://bucket/\0"), 400, "inputs[0].url"),
    "a file outside the roots": (with_input(url="file:///etc/shadow"), 403, "inputs[0].url"),
    "a bare path outside the roots": (with_input(url="/etc/shadow"), 403, "inputs[0].url"),
    "a relative output": (with_output(path="out"), 400, "outputs[0].path"),
    "an output at the root": (with_output(path="/"), 400, "outputs[0].path"),
    "an output without url": ({"executors": [STEP], "outputs": [{"path": "/out"}]}, 400, "outputs[0].url is missing"),
    "an output with an empty url": (with_output(url=""), 400, "outputs[0].url"),
    "an output outside the roots": (with_output(url="file:///etc/cron.d/x"), 403, "outputs[0].url"),
    "wildcards without prefix": (with_output(path="/out/*.vcf"), 400, "outputs[0].path_prefix"),
    "a prefix that is not above": (with_output(path="/out/*", path_prefix="/in"), 400, "outputs[0].path_prefix"),
    "cores of zero": (with_resources(cpu_cores=0), 400, "resources.cpu_cores"),
    "negative cores": (with_resources(cpu_cores=-4), 400, "resources.cpu_cores"),
    "half a core": (with_resources(cpu_cores=1.5), 400, "resources.cpu_cores"),
    "huge cores": (with_resources(cpu_cores=10**30), 400, "resources.cpu_cores"),
    "no memory": (with_resources(ram_gb=0), 400, "resources.ram_gb"),
    "huge memory": (with_resources(ram_gb=1e300), 400, "resources.ram_gb"),
    "negative disk": (with_resources(disk_gb=-1), 400, "resources.disk_gb"),
    "zones as text": (with_resources(zones="us-west-1"), 400, "resources.zones"),
    "twin parameters": (with_resources(backend_parameters={"a": "1", "A": "2"}), 400, "resources.backend_parameters"),
    "a tag that is a number": ({"executors": [STEP], "tags": {"n": 5}}, 400, "tags.n"),
    "NUL in a name": ({"executors": [STEP], "name": "a\0"}, 400, "name"),
    "two inputs at one path": (
        {
            "executors": [STEP],
            "inputs": [{"url": "s3://bucket/1", "path": "/in"}, {"url": "s3://bucket/2", "path": "/in/"}],
        },
        400,
        "inputs[1].path",
    ),
    "an input below a file": (
        {
            "executors": [STEP],
            "inputs": [{"url": "s3://bucket/1", "path": "/in"}, {"url": "s3://bucket/2", "path": "/in/x"}],
        },
        400,
        "inputs[1].path",
    ),
}

#: Title -> raw body, headers, status, what the message names.
JSON = {"content-type": "application/json"}
BAD_BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "nothing": (b"", JSON, 400, "no body"),
    "nothing without a type": (b"", {}, 400, "no body"),
    "white space": (b" \n", JSON, 400, "no body"),
    "not JSON": (b"{", JSON, 400, "not JSON"),
    "two documents": (b"{}{}", JSON, 400, "not JSON"),
    "NaN": (b'{"resources":{"ram_gb":NaN}}', JSON, 400, "not JSON"),
    "infinity": (b'{"resources":{"ram_gb":1e999}}', JSON, 400, "not JSON"),
    "a number of 5000 digits": (b'{"a":' + b"9" * 5000 + b"}", JSON, 400, "not JSON"),
    "not UTF-8": (b'{"name":"\xff"}', JSON, 400, "not JSON"),
    "UTF-16": ("{}".encode("utf-16"), JSON, 400, "not JSON"),
    "a lone surrogate": (b'{"name":"\\ud800"}', JSON, 400, "not JSON"),
    "65 levels": (b"[" * 65 + b"]" * 65, JSON, 400, "nested deeper than 64"),
    "20 000 levels": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, JSON, 400, "not JSON"),
    "no type": (b"{}", {}, 415, "Content-Type"),
    "an empty type": (b"{}", {"content-type": ""}, 415, "Content-Type"),
    "text": (b"{}", {"content-type": "text/plain"}, 415, "content type"),
    "a form": (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415, "content type"),
    "nonsense": (b"{}", {"content-type": "json/application"}, 415, "content type"),
    "punctuation": (b"{}", {"content-type": ";;;=/"}, 415, "Content-Type"),
    "more than the limit": (b" " * ((1 << 20) + 1), JSON, 413, "larger than"),
}


@pytest.mark.parametrize("title", BAD_TASKS)
def test_a_bad_task_is_refused_and_nothing_is_stored(quiet_client: TestClient, quiet_site: Site, title: str) -> None:
    document, status, words = BAD_TASKS[title]
    began = time.perf_counter()
    response = quiet_client.post(TASKS, content=json.dumps(document), headers=JSON)
    assert time.perf_counter() - began < 1
    assert_error(response, status, words)
    assert "hunter2" not in response.text
    assert quiet_site.stored() == 0


@pytest.mark.parametrize("title", BAD_BODIES)
def test_a_bad_body_is_refused_and_nothing_is_stored(quiet_client: TestClient, quiet_site: Site, title: str) -> None:
    body, headers, status, words = BAD_BODIES[title]
    assert_error(quiet_client.post(TASKS, content=body, headers=headers), status, words)
    assert quiet_site.stored() == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "Application/Json; charset=UTF-8",
        "application/json;",
        " application/json",
    ],
)
def test_the_content_type_may_be_written_in_any_case(client: TestClient, site: Site, content_type: str) -> None:
    response = client.post(
        TASKS, content=b'{"executors":[{"image":"i","command":["c"]}]}', headers={"content-type": content_type}
    )
    assert response.status_code == 200, response.text
    assert site.stored() == 1


def test_a_created_task_can_be_read_as_it_was_sent(client: TestClient, file_root: Path) -> None:
    task = {
        "name": "count",
        "description": "counts lines",
        "inputs": [
            {
                "url": f"file://{file_root}/reads",
                "path": "/data/reads",
                "type": "FILE",
                "name": "r",
                "streamable": True,
            },
            {"path": "/data/empty", "type": "FILE", "content": ""},
        ],
        "outputs": [{"url": "s3://bucket/out/", "path": "/out/*.n", "path_prefix": "/out", "type": "FILE"}],
        "resources": {"cpu_cores": 2, "ram_gb": 1.5, "disk_gb": 3.0, "preemptible": False, "zones": ["short"]},
        "executors": [
            {
                "image": "busybox",
                "command": ["sh", "-c", "wc -l < /data/reads"],
                "workdir": "/work",
                "stdin": "/data/reads",
                "stdout": "/out/a.n",
                "stderr": "/out/a.err",
                "env": {"LANG": "C"},
                "ignore_error": True,
            }
        ],
        "volumes": ["/scratch"],
        "tags": {"lab": "north"},
    }
    task_id = client.post(TASKS, json=task).json()["id"]
    shown = client.get(f"{TASKS}/{task_id}?view=FULL").json()
    assert shown == {"id": task_id, "state": "QUEUED", "logs": [], "creation_time": "2026-01-01T00:00:00.000Z", **task}


def test_a_fetched_task_can_be_sent_again(client: TestClient) -> None:
    first = client.post(TASKS, json=with_step()).json()["id"]
    document = client.get(f"{TASKS}/{first}?view=FULL").json()
    second = client.post(TASKS, json=document).json()["id"]
    assert second != first
    assert client.get(f"{TASKS}/{second}").json() == {"id": second, "state": "QUEUED"}


def test_unknown_members_are_not_stored(client: TestClient, site: Site) -> None:
    task_id = client.post(TASKS, json={**with_step(shell="zsh"), "ramGb": 15, "secret": "x"}).json()["id"]
    job = site.store.get(task_id)
    assert job is not None
    assert job.document == {"executors": [{"image": "busybox", "command": ["true"]}]}


def test_what_no_executor_here_has_is_refused(client: TestClient, site: Site) -> None:
    site.announce(cpu_cores=2, ram_bytes=4 * 10**9, disk_bytes=None)
    assert_error(client.post(TASKS, json=with_resources(cpu_cores=3)), 400, "resources.cpu_cores: 3 is more than any")
    assert_error(client.post(TASKS, json=with_resources(ram_gb=4.5)), 400, "resources.ram_gb: 4.5 GB is more than any")
    assert client.post(TASKS, json=with_resources(cpu_cores=2, ram_gb=4, disk_gb=900)).status_code == 200
    assert site.stored() == 1


def test_an_unknown_backend_parameter_is_dropped_with_a_line_in_the_system_log(client: TestClient, site: Site) -> None:
    site.announce(backend_parameters=["network"])
    parameters = {"NetWork": "true", "VmSize": "D64"}
    task_id = client.post(TASKS, json=with_resources(backend_parameters=parameters)).json()["id"]
    shown = client.get(f"{TASKS}/{task_id}?view=FULL").json()
    assert shown["resources"]["backend_parameters"] == {"network": "true"}
    assert "'VmSize' is not supported here" in shown["logs"][0]["system_logs"][0]


def test_an_unknown_backend_parameter_is_refused_where_the_client_is_strict(client: TestClient, site: Site) -> None:
    site.announce(backend_parameters=["network"])
    document = with_resources(backend_parameters={"VmSize": "x"}, backend_parameters_strict=True)
    assert_error(client.post(TASKS, json=document), 400, "'VmSize' is not supported", "network")
    assert site.stored() == 0


HOSTILE = (
    *(None, True, 0, -1, 1.5, 1e308, 10**30, [], {}, [None], {"a": None}, {"": ""}),
    *("", " ", "\0", "\n", "/", "/../..", "/proc/self/mem", "-rf", "/*", "[", "\\", "\ud83d\ude00", "a" * 9000),
    *("file:///%00", "file://%zz/", "s3:///x", "http:///x", "http://[::", "http://u:p@h/", "DIRECTORY", "\u202e\x7f"),
)


@pytest.mark.parametrize("path", list(places(FULL)), ids=dotted)
def test_no_value_anywhere_in_a_task_breaks_the_server(wild_client: TestClient, path: tuple[str | int, ...]) -> None:
    for value in HOSTILE:
        response = wild_client.post(TASKS, content=json.dumps(replaced(path, value)), headers=JSON)
        if response.status_code == 200:
            task = f"{TASKS}/{response.json()['id']}"
            assert wild_client.get(f"{task}?view=FULL").status_code == 200, value
        else:
            assert_error(response, 403 if response.status_code == 403 else 400)


@pytest.fixture(scope="module")
def wild_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for requests that may be accepted."""
    settings = Settings(data=tmp_path_factory.mktemp("wild") / "data")
    with open_site(settings) as site, TestClient(site.app([site.tes()]), raise_server_exceptions=False) as client:
        yield client


# -- Idempotency-Key ---------------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_task(client: TestClient, site: Site) -> None:
    headers = {"Idempotency-Key": "d0f6"}
    first = client.post(TASKS, json=with_step(), headers=headers)
    assert client.post(TASKS, json=with_step(), headers=headers).json() == first.json()
    assert client.post(TASKS, json=with_step()).json() != first.json()
    assert site.stored() == 2


def test_a_key_with_another_task_is_a_conflict(client: TestClient, site: Site) -> None:
    headers = {"Idempotency-Key": "d0f6"}
    client.post(TASKS, json=with_step(), headers=headers)
    response = client.post(TASKS, json=with_step(command=["false"]), headers=headers)
    assert assert_error(response, 409)["field"] == "Idempotency-Key"
    assert site.stored() == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "é".encode("latin-1")])
def test_a_key_that_is_no_key_is_refused(client: TestClient, site: Site, key: Any) -> None:
    assert_error(client.post(TASKS, json=with_step(), headers={"Idempotency-Key": key}), 400, "Idempotency-Key")
    assert site.stored() == 0


# -- engines ---------------------------------------------------------------------------------------------------------


def engine_of(site: Site, run: str) -> dict[str, str]:
    principal = Principal(issuer="local", subject="anonymous", run=run)
    token = site.store.create_token(principal, now=site.clock(), expires_at=None)
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def run_id(site: Site) -> str:
    return site.store.create(a_new_job(run=a_run(), owner="local|anonymous")).id


def test_an_engines_task_belongs_to_its_run_and_is_seen_by_its_owner(
    client: TestClient, site: Site, run_id: str
) -> None:
    task_id = client.post(TASKS, json=with_step(), headers=engine_of(site, run_id)).json()["id"]
    job = site.store.get(task_id)
    assert job is not None
    assert (job.parent, job.owner) == (run_id, "local|anonymous")
    assert client.get(f"{TASKS}/{task_id}").status_code == 200


def test_an_engine_sees_and_cancels_only_tasks_of_its_run(client: TestClient, site: Site, run_id: str) -> None:
    engine = engine_of(site, run_id)
    own = client.post(TASKS, json=with_step(), headers=engine).json()["id"]
    other = client.post(TASKS, json=with_step()).json()["id"]
    assert [task["id"] for task in client.get(TASKS, headers=engine).json()["tasks"]] == [own]
    assert_error(client.get(f"{TASKS}/{other}", headers=engine), 404)
    assert_error(client.post(f"{TASKS}/{other}:cancel", headers=engine), 404)
    assert client.post(f"{TASKS}/{own}:cancel", headers=engine).json() == {}


def test_only_an_engine_may_name_the_folder_of_its_run(client: TestClient, site: Site, run_id: str) -> None:
    work = site.settings.data / "jobs" / run_id / "work"
    document = with_input(url=f"file://{work}/reads", type="FILE")
    assert_error(client.post(TASKS, json=document), 403, "inputs[0].url")
    assert_error(client.post(TASKS, json=document, headers=engine_of(site, "another")), 403, "inputs[0].url")
    assert client.post(TASKS, json=document, headers=engine_of(site, run_id)).status_code == 200
