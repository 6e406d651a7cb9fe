"""The gate around every API: one error document, ids, bounds, other sites' pages, streams and files."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import flask
import pytest
from starlette.testclient import TestClient

from tests.api.conftest import assert_error
from tests.fakes import Clock, Tokens
from weft import logs
from weft.auth.access import Access
from weft.config import Settings
from weft.errors import Bug, StagingFailed, TooMany, Unavailable
from weft.http.api import Service, build_app
from weft.http.files import send_file
from weft.http.request import Request
from weft.model import Principal

SPEC = """
openapi: 3.0.1
info: {title: toy, version: "1"}
paths:
  /echo:
    post:
      operationId: EchoBody
      requestBody:
        content: {application/json: {schema: {type: object}}}
        required: true
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
  /form:
    post:
      operationId: CountForm
      requestBody:
        content:
          multipart/form-data: {schema: {type: object}}
          application/x-www-form-urlencoded: {schema: {type: object}}
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
  /whoami:
    get:
      operationId: WhoAmI
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
  /fail/{how}:
    get:
      operationId: FailSomehow
      parameters: [{name: how, in: path, required: true, schema: {type: string}}]
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
  /file/{name}:
    get:
      operationId: GetFile
      parameters: [{name: name, in: path, required: true, schema: {type: string, format: path}}]
      responses: {'200': {description: '', content: {application/octet-stream: {schema: {type: string}}}}}
"""
SECOND = """
openapi: 3.0.1
info: {title: more, version: "1"}
paths:
  /more:
    get:
      operationId: GetMore
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
"""
ERRORS: dict[str, Exception] = {
    "bug": Bug("the secret plan"),
    "staging": StagingFailed("s3://secret"),
    "value": ValueError("the secret plan"),
    "recursion": RecursionError("the secret plan"),
    "memory": MemoryError("the secret plan"),
    "os": OSError(28, "the secret plan"),
    "busy": TooMany(),
    "away": Unavailable("the database does not answer"),
}


class Toy:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def echo_body(self, body: Any) -> Any:
        return {"body": body}

    def count_form(self, stream: Any, request: Request) -> Any:
        count, reads = 0, 0
        while piece := stream.read(65536):
            count, reads = count + len(piece), reads + 1
        return {"bytes": count, "reads": reads, "type": request.headers.get("content-type")}

    def who_am_i(self, request: Request) -> Any:
        return {"name": request.principal.name, "base_url": request.base_url, "id": request.id}

    def fail_somehow(self, how: str) -> Any:
        raise ERRORS[how]

    def get_file(self, name: str) -> Any:
        return send_file(self.folder / name, "text/plain; charset=utf-8")

    def get_more(self) -> Any:
        return {"more": True}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", max_body_bytes=1000, max_attachment_bytes=1 << 20)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def client(tmp_path: Path, settings: Settings, tokens: Tokens) -> Iterator[TestClient]:
    toy, more = tmp_path / "toy.yaml", tmp_path / "more.yaml"
    toy.write_text(SPEC)
    more.write_text(SECOND)
    handler = Toy(tmp_path)
    services = [
        Service(name="toy", spec=toy, base_paths=("/toy/v1", "/t"), handler=handler),
        Service(name="more", spec=more, base_paths=("/toy/v1",), handler=handler, ui=False),
    ]
    app = build_app(services, settings=settings, access=Access(tokens, Clock()), ready=lambda: not tokens.broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What weft logs, as JSON lines."""
    stream, handler = StringIO(), logging.StreamHandler()
    handler.setStream(stream)
    handler.setFormatter(logs._Json())
    logger = logging.getLogger("weft")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bug", "staging", "value", "recursion", "memory", "os"])
def test_an_unexpected_error_is_a_500_that_tells_nothing_and_a_log_line_that_tells_all(
    client: TestClient, lines: StringIO, how: str
) -> None:
    response = client.get(f"/toy/v1/fail/{how}")
    document = assert_error(response, 500, "request_id")
    assert "secret" not in response.text
    entries = [json.loads(line) for line in lines.getvalue().splitlines()]
    (failed,) = [entry for entry in entries if entry["event"] == "request failed"]
    assert "secret" in failed["traceback"]
    assert failed["request"] == document["request_id"]


@pytest.mark.parametrize(("how", "status"), [("busy", 429), ("away", 503)])
def test_errors_that_pass_say_when_to_come_back(client: TestClient, how: str, status: int) -> None:
    response = client.get(f"/toy/v1/fail/{how}")
    assert_error(response, status)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "path", ["/nope", "/toy", "/toy/v1/nope", "/toy/v2/whoami", "/static/x", "/toy/v1/ui/nope.js", "/%2e%2e/etc/passwd"]
)
def test_a_wrong_path_is_404(client: TestClient, path: str) -> None:
    assert_error(client.get(path), 404)


@pytest.mark.parametrize("path", ["//toy/v1/whoami", "/toy//v1///whoami"])
def test_doubled_slashes_count_as_one(client: TestClient, path: str) -> None:
    """A client whose base URL ends in a slash makes such paths; a redirect would lose some of them their body."""
    answer = client.get(f"http://testserver{path}", follow_redirects=False)
    assert (answer.status_code, answer.json()["name"]) == (200, "local|anonymous")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/toy/v1/whoami", "GET, HEAD"),
        ("GET", "/t/echo", "POST"),
        ("OPTIONS", "/toy/v1/echo", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/toy/v1/more", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(client: TestClient, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    assert_error(response, 405)
    assert set(response.headers["allow"].split(", ")) - {"OPTIONS"} == set(allow.split(", "))


def test_a_broken_token_store_is_503(client: TestClient, tokens: Tokens) -> None:
    tokens.broken = True
    assert_error(client.get("/toy/v1/whoami", headers={"Authorization": "Bearer x"}), 503)
    assert client.get("/toy/v1/whoami").status_code == 200


# -- ids, headers, pages -----------------------------------------------------------------------------------------------


def test_every_answer_bears_an_id_and_safe_headers(client: TestClient) -> None:
    for path in ("/", "/healthz", "/toy/v1/whoami", "/toy/v1/ui/", "/toy/v1/openapi.json", "/nope"):
        headers = client.get(path).headers
        assert headers["x-request-id"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
    assert client.get("/toy/v1/whoami").headers["cache-control"] == "no-store"


def test_a_request_may_bring_its_id(client: TestClient) -> None:
    response = client.get("/toy/v1/whoami", headers={"X-Request-Id": "trace-7.a_b"})
    assert response.headers["x-request-id"] == response.json()["id"] == "trace-7.a_b"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é".encode("latin-1"), "a;b"])
def test_an_id_that_is_none_is_replaced(client: TestClient, given: Any) -> None:
    answer = client.get("/toy/v1/whoami", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert len(answer) == 16


def test_the_front_page_links_the_apis(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="/toy/v1/ui/"' in page.text
    assert "more" not in page.text


@pytest.mark.parametrize("base", ["/toy/v1", "/t"])
def test_each_base_path_has_a_browsable_page_and_the_spec(client: TestClient, base: str) -> None:
    assert f'"{base}/openapi.json"' in client.get(f"{base}/ui/").text
    assert client.get(f"{base}/ui/swagger-ui-bundle.js").status_code == 200
    assert client.get(f"{base}/openapi.json").json()["servers"] == [{"url": base}]


def test_two_specs_can_share_a_base_path(client: TestClient) -> None:
    assert client.get("/toy/v1/more").json() == {"more": True}
    assert client.get("/toy/v1/whoami").status_code == 200
    assert_error(client.get("/t/more"), 404)


def test_readyz_follows_the_store(client: TestClient, tokens: Tokens) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    tokens.broken = True
    assert_error(client.get("/readyz"), 503)
    assert client.get("/healthz").json() == {"status": "ok"}


# -- who asks --------------------------------------------------------------------------------------------------------


def test_without_login_everybody_is_the_same_person(client: TestClient) -> None:
    for headers in (
        {},
        {"Authorization": "Basic Tm9uZTpOb25l"},
        {"Authorization": "Bearer old"},
        {"Authorization": "x"},
    ):
        assert client.get("/toy/v1/whoami", headers=headers).json()["name"] == "local|anonymous"


def test_a_token_that_weft_gave_out_is_honoured(client: TestClient, tokens: Tokens) -> None:
    tokens.known["t1"] = Principal(issuer="here", subject="ada")
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} t1"}
        assert client.get("/toy/v1/whoami", headers=headers).json()["name"] == "here|ada"


def test_the_token_of_a_run_does_not_open_other_apis(client: TestClient, tokens: Tokens) -> None:
    tokens.known["t1"] = Principal(issuer="here", subject="ada", run="r")
    for path in ("/toy/v1/whoami", "/", "/nope"):
        assert_error(client.get(path, headers={"Authorization": "Bearer t1"}), 403)


def test_links_are_made_of_what_the_client_sees(client: TestClient, tmp_path: Path, settings: Settings) -> None:
    assert client.get("/toy/v1/whoami").json()["base_url"] == "http://testserver"
    assert client.get("/toy/v1/whoami", headers={"Host": "127.0.0.1:99"}).json()["base_url"] == "http://127.0.0.1:99"


# -- pages of other sites ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.nip.io", "localhost.evil.example:8080", "xn--weft.com."])
def test_a_name_that_a_stranger_may_point_here_is_refused(client: TestClient, host: str) -> None:
    assert_error(client.get("/toy/v1/whoami", headers={"Host": host}), 403, "Host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "weft", "a.localhost:80"])
def test_names_that_only_the_site_can_give_are_fine(client: TestClient, host: str) -> None:
    assert client.get("/toy/v1/whoami", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://testserver:81", "http://[", "testserver"]
)
def test_a_page_of_another_site_cannot_send_requests(client: TestClient, origin: str) -> None:
    response = client.post("/toy/v1/form", data={"a": "b"}, headers={"Origin": origin})
    assert_error(response, 403, "another site")


def test_wefts_own_page_can(client: TestClient) -> None:
    response = client.post("/toy/v1/form", data={"a": "b"}, headers={"Origin": "http://testserver"})
    assert response.json()["bytes"] == 3


def test_no_answer_may_be_read_by_other_sites(client: TestClient) -> None:
    assert (
        "access-control-allow-origin"
        not in client.get("/toy/v1/whoami", headers={"Origin": "https://x.example"}).headers
    )


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{"a": [1, {"b": None}]}, {}, [], "text", 5, None, False])
def test_a_json_body_arrives_as_it_was_sent(client: TestClient, document: Any) -> None:
    response = client.post("/toy/v1/echo", content=json.dumps(document), headers={"content-type": "application/json"})
    assert response.json() == {"body": document}


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert client.post("/toy/v1/echo", content=b"1".rjust(1000), headers=headers).status_code == 200
    assert_error(client.post("/toy/v1/echo", content=b"1".rjust(1001), headers=headers), 413, "larger than 1000 bytes")


def test_a_form_is_streamed_to_its_handler(client: TestClient) -> None:
    response = client.post("/toy/v1/form", files={"workflow": ("w", b"x" * 500_000)}).json()
    assert response["bytes"] > 500_000
    assert response["type"].startswith("multipart/form-data; boundary=")


def test_a_form_without_content_is_an_empty_stream(client: TestClient) -> None:
    assert client.post("/toy/v1/form").json()["bytes"] == 0


def test_a_form_without_a_type_is_refused(client: TestClient) -> None:
    assert_error(client.post("/toy/v1/form", content=b"a=b"), 415, "Content-Type")


def test_a_form_larger_than_all_attachments_is_refused(client: TestClient) -> None:
    assert_error(client.post("/toy/v1/form", files={"workflow": ("w", b"x" * (2 << 20))}), 413)


def test_a_form_that_grows_beyond_the_limit_is_refused_while_it_streams(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/toy/v1/form", content=(b"x" * 65536 for _ in range(64)), headers=headers)
    assert_error(response, 413)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.write_bytes(b"0123456789")
    return file


def test_a_file_is_sent_whole(client: TestClient, text: Path) -> None:
    response = client.get("/toy/v1/file/log")
    assert (response.status_code, response.content) == (200, b"0123456789")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["accept-ranges"] == "bytes"
    assert "sandbox" in response.headers["content-security-policy"]


def test_head_gives_the_length_without_the_file(client: TestClient, text: Path) -> None:
    response = client.head("/toy/v1/file/log")
    assert (response.content, response.headers["content-length"]) == (b"", "10")


@pytest.mark.parametrize(
    ("asked", "content", "where"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=5-500", b"56789", "bytes 5-9/10"),
    ],
)
def test_a_range_of_a_file(client: TestClient, text: Path, asked: str, content: bytes, where: str) -> None:
    response = client.get("/toy/v1/file/log", headers={"Range": asked})
    assert (response.status_code, response.content) == (206, content)
    assert (response.headers["content-range"], response.headers["content-length"]) == (where, str(len(content)))


def test_a_range_beyond_the_file_is_416(client: TestClient, text: Path) -> None:
    response = client.get("/toy/v1/file/log", headers={"Range": "bytes=10-"})
    assert_error(response, 416)
    assert response.headers["content-range"] == "bytes */10"


def test_a_file_that_did_not_change_is_not_sent_again(client: TestClient, text: Path) -> None:
    etag = client.get("/toy/v1/file/log").headers["etag"]
    response = client.get("/toy/v1/file/log", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")


def test_a_file_that_grows_while_it_is_sent_keeps_its_length(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"a" * 10)
    with flask.Flask("x").test_request_context():
        response = send_file(file, "text/plain")
        with file.open("ab") as stream:
            stream.write(b"b" * 10)
        assert b"".join(response.response) == b"a" * 10  # type: ignore[arg-type]
        response.close()


def test_an_empty_file_is_sent(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    response = client.get("/toy/v1/file/log")
    assert (response.status_code, response.headers["content-length"]) == (200, "0")


def test_links_folders_and_missing_files_are_404(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "missing", "toy.yaml/x"):
        assert_error(client.get(f"/toy/v1/file/{name}"), 404)


def test_an_open_file_is_sent_and_closed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"abc")
    stream = (tmp_path / "log").open("rb")
    with flask.Flask("x").test_request_context():
        response = send_file(stream, "text/plain", name="näme.txt")
        assert response.headers["content-disposition"].startswith("attachment; filename")
        response.close()
    assert stream.closed
