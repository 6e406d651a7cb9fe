"""Real clients on a real port: py-tes 1.1.4, and requests byte by byte."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import tes

from tests.api.conftest import Site, assert_error, serving
from tests.api.test_tes_read import finish
from weft.model import Kind, Principal, StepResult, Tail
from weft.states import State

HELLO = tes.Task(executors=[tes.Executor(image="busybox", command=["echo", "hello"])], name="hello")


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with serving(site.app([site.tes()])) as url:
        yield url


# -- py-tes ----------------------------------------------------------------------------------------------------------


def test_py_tes_creates_follows_lists_and_cancels(site: Site, url: str) -> None:
    client = tes.HTTPClient(url)
    task_id = client.create_task(HELLO)
    assert client.get_task(task_id, view="MINIMAL").state == "QUEUED"
    assert [task.id for task in client.list_tasks().tasks] == [task_id]
    client.cancel_task(task_id)
    assert client.wait(task_id, timeout=5).state == "CANCELED"
    client.cancel_task(task_id)


@pytest.mark.parametrize("view", ["MINIMAL", "BASIC", "FULL"])
def test_py_tes_reads_every_view_of_an_ended_task(site: Site, url: str, view: str) -> None:
    client = tes.HTTPClient(url)
    task_id = client.create_task(HELLO)
    finish(site, task_id)
    assert client.get_task(task_id, view=view).state == "COMPLETE"
    assert client.list_tasks(view=view).tasks[0].id == task_id
    if view == "FULL":
        log = client.get_task(task_id, view=view).logs[0]
        assert (log.logs[0].exit_code, log.logs[0].stdout, log.outputs[0].size_bytes) == (0, "hello\n", 7)


def test_py_tes_reads_a_running_step_that_has_no_exit_code(site: Site, url: str) -> None:
    client = tes.HTTPClient(url)
    task_id = client.create_task(HELLO)
    store, now = site.store, site.clock()
    store.claim("worker-1", [Kind.TASK], 1, now=now, until=now + 30)
    store.move(task_id, [State.INITIALIZING], State.RUNNING, now=now, lease_owner="worker-1")
    tail = Tail(attempt=1, step=0, stdout="so far", stderr="")
    store.record(task_id, now=now, lease_owner="worker-1", steps=[StepResult(started_at=now)], tails=[tail])
    (entry,) = client.get_task(task_id, view="FULL").logs[0].logs
    assert (entry.exit_code, entry.stdout) == (None, "so far")


def test_py_tes_reads_service_info(url: str) -> None:
    info = tes.HTTPClient(url).get_service_info()
    assert info.type["version"] == "1.1.0"
    assert "s3://" in info.storage


def test_py_tes_pages(site: Site, url: str) -> None:
    client = tes.HTTPClient(url)
    made = [client.create_task(HELLO) for _ in range(3)]
    first = client.list_tasks(page_size=2)
    second = client.list_tasks(page_size=2, page_token=first.next_page_token)
    assert [task.id for page in (first, second) for task in page.tasks] == made[::-1]
    assert second.next_page_token is None


def test_py_tes_gets_the_reason_of_a_refusal_and_creates_nothing(site: Site, url: str) -> None:
    with pytest.raises(requests.HTTPError, match="400"):
        tes.HTTPClient(url).create_task(tes.Task(executors=[tes.Executor(image="-v", command=["x"])]))
    assert site.stored() == 0


@pytest.mark.parametrize("base", ["/v1", "/ga4gh/tes/v1"])
def test_py_tes_finds_the_api_whatever_base_it_was_given(url: str, base: str) -> None:
    assert tes.HTTPClient(url).create_task(HELLO)
    assert requests.get(f"{url}{base}/ga4gh/tes/v1/service-info", timeout=5).status_code == 404
    assert tes.HTTPClient(url + base).get_service_info().type["artifact"] == "tes"


@pytest.mark.parametrize("headers", [{"Authorization": "Basic Tm9uZTpOb25l"}, {"Authorization": "Bearer left-over"}])
def test_left_over_credentials_do_no_harm_where_no_login_is_asked_for(url: str, headers: dict[str, str]) -> None:
    assert requests.get(f"{url}/v1/tasks", headers=headers, timeout=5).json() == {"tasks": []}


# -- byte by byte ----------------------------------------------------------------------------------------------------


def raw(url: str, request: bytes) -> http.client.HTTPResponse:
    """Send bytes as they are and read the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.body = response.read()  # type: ignore[attr-defined]
        return response


def test_a_body_of_100_mb_is_refused_at_once(site: Site, url: str) -> None:
    began = time.perf_counter()
    size = 100 << 20
    response = raw(url, f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
    assert response.status == 413
    assert time.perf_counter() - began < 5  # the answer itself comes at once; the rest is the lingering


def test_the_answer_to_a_large_body_comes_before_the_body_does(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n")
        began = time.perf_counter()
        assert connection.recv(20).startswith(b"HTTP/1.1 413 ")
        assert time.perf_counter() - began < 0.5


def test_a_client_that_sends_all_of_a_large_body_first_still_reads_the_answer(site: Site, url: str) -> None:
    response = requests.post(
        f"{url}/v1/tasks", data=b"x" * (20 << 20), headers={"Content-Type": "application/json"}, timeout=10
    )
    assert_error(response, 413, "larger than 1048576 bytes")
    assert site.stored() == 0


def test_a_large_body_in_chunks_is_refused_while_it_streams(site: Site, url: str) -> None:
    chunks = (b" " * 65536 for _ in range(64))
    response = requests.post(f"{url}/v1/tasks", data=chunks, headers={"Content-Type": "application/json"}, timeout=10)
    assert_error(response, 413)
    assert site.stored() == 0


def test_a_body_in_chunks_is_read(site: Site, url: str) -> None:
    chunks = (piece for piece in (b'{"executors":[{"image":"i",', b'"command":["c"]}]}'))
    response = requests.post(f"{url}/v1/tasks", data=chunks, headers={"Content-Type": "application/json"}, timeout=10)
    assert response.status_code == 200, response.text
    assert site.stored() == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/tasks?name_prefix=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tasks/\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tasks/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tasks/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"BREW /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e9\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: \xff\r\n\r\n",
    ],
    ids=["query", "path", "escape", "nul", "method", "negative", "exponent", "headers", "host"],
)
def test_malformed_requests_get_a_4xx(url: str, head: bytes) -> None:
    assert 400 <= raw(url, head).status < 500


def test_two_content_types_are_refused(site: Site, url: str) -> None:
    head = (
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\n"
    )
    assert raw(url, head + b"Content-Length: 2\r\n\r\n{}").status == 415
    assert site.stored() == 0


# -- the engines' socket ---------------------------------------------------------------------------------------------


def over_socket(path: Path, token: str | None, target: str = "/v1/tasks") -> tuple[int, bytes]:
    """GET over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def test_the_engines_socket_asks_for_the_token_of_a_run(site: Site, tmp_path: Path) -> None:
    engine = Principal(issuer="local", subject="anonymous", run="0" * 26)
    person = Principal(issuer="local", subject="anonymous")
    tokens = [site.store.create_token(item, now=site.clock(), expires_at=None) for item in (engine, person)]
    path = tmp_path / "engine.sock"
    with serving(site.app([site.tes()]), unix=path):
        assert over_socket(path, None)[0] == 401
        assert over_socket(path, "guessed")[0] == 401
        assert over_socket(path, tokens[1])[0] == 401
        assert over_socket(path, tokens[0]) == (200, b'{"tasks":[]}')
        assert over_socket(path, tokens[0], "/healthz")[0] == 403
        site.store.revoke_tokens("0" * 26)
        assert over_socket(path, tokens[0])[0] == 401
