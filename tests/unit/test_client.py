"""The client against a small server that records what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from weft.client.connection import Connection, bases_of
from weft.client.errors import BadRequest, Missing, NotAllowed, ServerFailed, Unreachable
from weft.client.logs import Piece, RunLog, TaskLog
from weft.client.outputs import files_of, inside
from weft.client.tes import TesClient
from weft.client.watch import Watch, ended, news
from weft.client.wes import RunRequest, WesClient

Answer = tuple[int, Any]


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeServer:
    """Answers with what ``routes`` holds for "METHOD path"; everything else is 404."""

    url: str = ""
    routes: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        route = self.routes.get(f"{asked.method} {asked.path}", (404, {"msg": "not found", "status_code": 404}))
        return route(asked) if callable(route) else route


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = parse_qs(parts.query, keep_blank_values=True)
            code, answer = fake.answer(Asked(self.command, parts.path, query, dict(self.headers), body))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        fake.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield fake
        http.shutdown()
        thread.join()


def connect(url: str, api: str = "tes", token: str | None = None) -> Iterator[Connection]:
    connection = Connection(url, api, token=token)
    yield connection
    connection.close()


@pytest.fixture
def tes(server: FakeServer) -> Iterator[TesClient]:
    for connection in connect(server.url, token="s3cret"):
        yield TesClient(connection)


@pytest.fixture
def wes(server: FakeServer) -> Iterator[WesClient]:
    for connection in connect(server.url, "wes", token="s3cret"):
        yield WesClient(connection)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://a:1", ("http://a:1/ga4gh/tes/v1", "http://a:1/v1", "http://a:1")),
        ("http://a:1/", ("http://a:1/ga4gh/tes/v1", "http://a:1/v1", "http://a:1")),
        ("http://a:1/x/ga4gh/tes/v1/", ("http://a:1/x/ga4gh/tes/v1",)),
        ("http://a:1/ga4gh/wes/v1", ("http://a:1/ga4gh/tes/v1",)),
        ("https://a/v1", ("https://a/v1",)),
    ],
)
def test_a_server_may_be_named_with_or_without_the_path_of_the_api(given: str, expected: tuple[str, ...]) -> None:
    assert bases_of(given, "tes") == expected


@pytest.mark.parametrize("given", ["localhost:8080", "ftp://a", "http://"])
def test_an_address_that_is_no_url_is_refused_with_a_remedy(given: str) -> None:
    with pytest.raises(BadRequest) as caught:
        bases_of(given, "tes")
    assert caught.value.remedy


def test_the_first_base_that_is_not_404_is_found_and_kept(server: FakeServer, tes: TesClient) -> None:
    server.routes["GET /v1/tasks/x"] = (200, {"id": "x", "state": "RUNNING"})
    assert tes.get("x", "MINIMAL")["state"] == "RUNNING"
    tes.get("x", "MINIMAL")
    assert [one.path for one in server.asked] == ["/ga4gh/tes/v1/tasks/x", "/v1/tasks/x", "/v1/tasks/x"]


def test_a_create_that_failed_is_not_sent_to_another_base(server: FakeServer, tes: TesClient) -> None:
    server.routes["POST /ga4gh/tes/v1/tasks"] = (500, {"msg": "broken"})
    with pytest.raises(ServerFailed, match="broken"):
        tes.create({"executors": []})
    assert len(server.asked) == 1


def test_a_task_that_nobody_knows_is_missing_in_the_words_of_the_first_base(server: FakeServer, tes: TesClient) -> None:
    server.routes["GET /ga4gh/tes/v1/tasks/x"] = (404, {"msg": "no task x"})
    with pytest.raises(Missing, match="no task x"):
        tes.get("x")


def test_a_refusal_keeps_message_field_and_remedy(server: FakeServer, tes: TesClient) -> None:
    server.routes["POST /ga4gh/tes/v1/tasks"] = (
        400,
        {"msg": "must be absolute", "status_code": 400, "field": "inputs.0.path", "remedy": "begin with /"},
    )
    with pytest.raises(BadRequest) as caught:
        tes.create({})
    assert caught.value.describe() == "must be absolute\n  field:  inputs.0.path\n  remedy: begin with /"


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (400, BadRequest, 2),
        (401, NotAllowed, 5),
        (403, NotAllowed, 5),
        (409, BadRequest, 2),
        (500, ServerFailed, 5),
        (503, Unreachable, 5),
    ],
)
def test_each_status_has_its_error_and_exit_code(
    server: FakeServer, tes: TesClient, code: int, kind: type[Exception], exit_code: int
) -> None:
    server.routes["GET /ga4gh/tes/v1/tasks/x"] = (code, b"<html>no JSON here</html>")
    with pytest.raises(kind) as caught:
        tes.get("x")
    assert type(caught.value) is kind
    assert getattr(caught.value, "exit_code") == exit_code  # noqa: B009
    assert str(code) in str(caught.value)


def test_a_server_that_is_not_there_is_unreachable_and_says_what_to_do() -> None:
    for connection in connect("http://127.0.0.1:9"):
        with pytest.raises(Unreachable) as caught:
            connection.json("GET", "/service-info")
    assert "weft serve" in str(caught.value.remedy)


def test_an_answer_that_is_not_json_is_a_failure_of_the_server(server: FakeServer, tes: TesClient) -> None:
    server.routes["GET /ga4gh/tes/v1/service-info"] = (200, b"<html>")
    with pytest.raises(ServerFailed, match="JSON"):
        tes.service_info()


def test_the_token_goes_to_the_server_and_to_nobody_else(server: FakeServer) -> None:
    server.routes["GET /file"] = (200, b"data")
    for connection in connect(server.url, token="s3cret"):
        assert connection.fetch(f"{server.url}/file") == b"data"
    for connection in connect("http://127.0.0.1:9", token="s3cret"):
        assert connection.fetch(f"{server.url}/file") == b"data"
    assert [one.headers.get("Authorization") for one in server.asked] == ["Bearer s3cret", None]


def test_a_list_is_read_page_by_page_up_to_its_limit(server: FakeServer, tes: TesClient) -> None:
    def page(asked: Asked) -> Answer:
        start = int(asked.query.get("page_token", ["0"])[0])
        size = min(2, int(asked.query["page_size"][0]))
        tasks = [{"id": str(number)} for number in range(start, min(start + size, 5))]
        return 200, {"tasks": tasks} | ({"next_page_token": str(start + size)} if start + size < 5 else {})

    server.routes["GET /ga4gh/tes/v1/tasks"] = page
    assert [task["id"] for task in tes.list()] == list("01234")
    assert [task["id"] for task in tes.list(limit=3)] == list("012")


def test_tags_are_sent_as_pairs(server: FakeServer, tes: TesClient) -> None:
    server.routes["GET /ga4gh/tes/v1/tasks"] = (200, {"tasks": []})
    list(tes.list(tags=[("a", "1"), ("b", "")]))
    assert server.asked[0].query["tag_key"] == ["a", "b"]
    assert server.asked[0].query["tag_value"] == ["1", ""]


def test_a_run_is_always_sent_as_multipart_with_its_objects_as_json(server: FakeServer, wes: WesClient) -> None:
    server.routes["POST /ga4gh/wes/v1/runs"] = (200, {"run_id": "r"})
    request = RunRequest(
        workflow_url="Snakefile", workflow_type="SMK", workflow_type_version="9", workflow_params={"n": 1}
    )
    assert wes.submit(request) == "r"
    asked = server.asked[0]
    assert asked.headers["Content-Type"].startswith("multipart/form-data")
    assert b'{"n": 1}' in asked.body


# -- following -------------------------------------------------------------------------------------------------


@dataclass
class Time:
    """A clock that moves when somebody sleeps."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def watch(self, **options: float) -> Watch:
        return Watch(sleep=self.sleep, clock=lambda: self.now, **options)


def states(*words: str | Exception) -> Callable[[], dict[str, Any]]:
    left = iter(words)

    def read() -> dict[str, Any]:
        word = next(left)
        if isinstance(word, Exception):
            raise word
        return {"state": word}

    return read


def test_pauses_grow_while_nothing_changes_and_shrink_when_something_does() -> None:
    time = Time()
    list(time.watch().until_ended(states("QUEUED", "QUEUED", "QUEUED", "RUNNING", "COMPLETE")))
    assert time.pauses == pytest.approx([0.1, 0.13, 0.169, 0.1])


def test_a_server_that_restarts_is_borne() -> None:
    seen = list(Time().watch().until_ended(states("RUNNING", Unreachable(), Unreachable(), "COMPLETE")))
    assert [one["state"] for one in seen] == ["RUNNING", "COMPLETE"]


def test_a_server_that_stays_away_is_given_up() -> None:
    with pytest.raises(Unreachable):
        list(Time().watch(grace=5).until_ended(states("RUNNING", *[Unreachable()] * 50)))


def test_a_server_that_was_never_there_is_given_up_at_once() -> None:
    time = Time()
    with pytest.raises(Unreachable):
        list(time.watch().until_ended(states(Unreachable())))
    assert time.pauses == []


def test_waiting_ends_when_its_time_is_over() -> None:
    time = Time()
    with pytest.raises(Exception, match="timeout") as caught:
        list(time.watch(timeout=2).until_ended(states(*["RUNNING"] * 50)))
    assert getattr(caught.value, "exit_code") == 6  # noqa: B009
    assert time.now == pytest.approx(2)


@pytest.mark.parametrize("state", ["COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"])
def test_an_ended_state_ends_the_watch(state: str) -> None:
    assert ended({"state": state})


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCELING", "PAUSED", None, "A_NEW_WORD"])
def test_any_other_state_does_not(state: str | None) -> None:
    assert not ended({"state": state})


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "abcd", "d"),
        ("abc", "abc", ""),
        ("abc", "bcde", "de"),
        ("aab", "abaab", "aab"),
        ("aaaa", "aaaa", ""),
        ("abc", "", ""),
        ("abc", "xyz", "xyz"),
        ("0123456789", "789abc", "abc"),
        ("aaab", "aabaaab", "aaab"),
    ],
)
def test_only_what_a_window_adds_is_news(before: str, now: str, new: str) -> None:
    assert news(before, now) == new


def test_news_of_a_sliding_window_adds_up_to_the_whole_text() -> None:
    text = "".join(f"line {number}\n" for number in range(500))
    shown, window = "", ""
    for end in range(0, len(text) + 1, 37):
        now = text[max(0, end - 100) : end]
        shown += news(window, now)
        window = now
    assert text.startswith(shown)
    assert len(text) - len(shown) < 37


def test_every_stream_of_every_step_is_shown_once() -> None:
    log = TaskLog()
    first = {"logs": [{"logs": [{"stdout": "a\n"}], "system_logs": ["hello"]}]}
    second = {"logs": [{"logs": [{"stdout": "a\nb\n"}, {"stderr": "oh\n"}], "system_logs": ["hello", "bye"]}]}
    assert [piece.text for piece in log.pieces(first)] == ["a\n", "hello\n"]
    assert list(log.pieces(second)) == [
        Piece(attempt=1, step=0, stream="stdout", text="b\n"),
        Piece(attempt=1, step=1, stream="stderr", text="oh\n"),
        Piece(attempt=1, step=0, stream="system", text="bye\n"),
    ]
    assert list(log.pieces(second)) == []


def test_a_run_log_is_fetched_from_where_it_was_left_even_without_ranges(server: FakeServer, wes: WesClient) -> None:
    log, text = RunLog(wes), "grün\n".encode()
    served = [text[:3], text[:5], text, text]

    def ranged(asked: Asked) -> Answer:
        data, start = served.pop(0), int(asked.headers.get("Range", "bytes=0-")[6:-1])
        return (206, data[start:]) if start and len(served) < 2 else (200, data)

    server.routes["GET /stderr"] = ranged
    urls = {"stderr": f"{server.url}/stderr", "stdout": f"{server.url}/not-yet"}
    assert ["".join(piece.text for piece in log.pieces(urls)) for _ in range(4)] == ["gr", "ün", "\n", ""]
    ranges = [one.headers.get("Range") for one in server.asked if one.path == "/stderr"]
    assert ranges == [None, "bytes=1-", "bytes=4-", "bytes=5-"]


# -- outputs ---------------------------------------------------------------------------------------------------


def test_files_are_found_in_any_shape_of_outputs() -> None:
    base = "http://w/ga4gh/wes/v1/runs/r"
    outputs = {
        "files": [f"{base}/outputs/results/a%20b.txt", f"{base}/outputs/c.txt"],
        "cwl": {"class": "File", "location": "http://s3/x/d.bam", "basename": "d.bam"},
        "nested": {"deeper": ["https://elsewhere/e.vcf"]},
        "number": 3,
        "text": "not a url",
    }
    assert [str(file.path) for file in files_of(outputs, base)] == [
        "results/a b.txt",
        "c.txt",
        "cwl/d.bam",
        "nested.deeper/e.vcf",
    ]


@pytest.mark.parametrize("path", ["http://w/r/outputs/../../etc/passwd", "http://w/r/outputs//etc/passwd"])
def test_an_output_never_lands_outside_its_folder(path: str, tmp_path: Any) -> None:
    (file,) = files_of([path], "http://w/r")
    with pytest.raises(BadRequest, match="unsafe"):
        inside(tmp_path, file.path)


def test_a_download_is_complete_or_not_there(server: FakeServer, wes: WesClient, tmp_path: Any) -> None:
    server.routes["GET /f"] = (200, b"12345")
    assert wes.download(f"{server.url}/f", tmp_path / "deep" / "f") == 5
    with pytest.raises(Missing):
        wes.download(f"{server.url}/g", tmp_path / "deep" / "g")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f"]
