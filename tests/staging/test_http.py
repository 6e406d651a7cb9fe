"""The guarded client against real servers in all their moods."""

from __future__ import annotations

import ssl
import threading
from http.server import HTTPServer
from pathlib import Path

import pytest

from tests.testbeds.certificates import certificate
from weft.errors import Forbidden, InvalidRequest, StagingFailed, TooLarge, Unavailable
from weft.sections.transfer import FetchSettings
from weft.staging.guard import GuardedClient
from weft.staging.http import HttpStager

BODY = bytes(range(256)) * 4096  # 1 MiB


def limited(**more: object) -> GuardedClient:
    settings = FetchSettings(allow_hosts=("127.0.0.1",), connect_seconds=2, read_seconds=0.5, **more)  # type: ignore[arg-type]
    return GuardedClient(settings)


def test_a_body_is_written_whole(web, client: GuardedClient, tmp_path: Path) -> None:
    web.answers["/a"] = lambda handler: handler.say(200, BODY)
    client.download(web.url("/a?token=1"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert [*tmp_path.iterdir()] == [tmp_path / "a"]
    headers = web.seen[0][2]
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{web.port}"
    assert web.seen[0][1] == "/a?token=1"


def test_a_chunked_body_is_written_whole(web, client: GuardedClient, tmp_path: Path) -> None:
    def chunked(handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    web.answers["/a"] = chunked
    client.download(web.url("/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"abcde"


def test_a_chunked_body_that_breaks_off_is_not_taken_for_whole(web, client: GuardedClient, tmp_path: Path) -> None:
    def chunked(handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n")
        handler.close_connection = True

    web.answers["/a"] = chunked
    with pytest.raises(Unavailable):
        client.download(web.url("/a"), tmp_path / "a")
    assert [*tmp_path.iterdir()] == []


def ranged(handler, *, etag: str, first: int) -> None:
    """Break off after ``first`` bytes, and go on where a range asks for it."""
    asked = handler.headers.get("Range")
    if asked is None or handler.headers.get("If-Range") != etag:
        handler.break_off(len(BODY), BODY[:first], ETag=etag)
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    handler.say(206, BODY[start:], ETag=etag, Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")


def test_an_interrupted_body_is_resumed_where_it_broke(web, client: GuardedClient, tmp_path: Path) -> None:
    web.answers["/a"] = lambda handler: ranged(handler, etag='"v1"', first=300_000)
    client.download(web.url("/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert web.seen[1][2]["range"] == "bytes=300000-"
    assert web.seen[1][2]["if-range"] == '"v1"'


def test_a_body_that_changed_meanwhile_is_fetched_anew(web, client: GuardedClient, tmp_path: Path) -> None:
    def changed(handler) -> None:
        if web.count("/a") == 1:
            handler.break_off(len(BODY), b"old" * 1000, ETag='"v1"')
        else:
            handler.say(200, BODY, ETag='"v2"')

    web.answers["/a"] = changed
    client.download(web.url("/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_part_that_begins_elsewhere_is_refused(web, client: GuardedClient, tmp_path: Path) -> None:
    def wrong(handler) -> None:
        if web.count("/a") == 1:
            handler.break_off(10, b"01234", ETag='"v"')
        else:
            handler.say(206, b"789", ETag='"v"', Content_Range="bytes 7-9/10")

    web.answers["/a"] = wrong
    with pytest.raises(StagingFailed, match="another part"):
        client.download(web.url("/a"), tmp_path / "a")


def test_without_proof_that_it_is_the_same_body_nothing_is_glued(web, client: GuardedClient, tmp_path: Path) -> None:
    web.answers["/a"] = lambda handler: handler.break_off(10, b"01234")
    with pytest.raises(Unavailable, match="broke"):
        client.download(web.url("/a"), tmp_path / "a")
    assert web.count("/a") == 1
    assert [*tmp_path.iterdir()] == []


def test_a_server_that_always_breaks_off_at_the_same_place_ends(web, client: GuardedClient, tmp_path: Path) -> None:
    def stuck(handler) -> None:
        if "Range" in handler.headers:
            handler.send_response(206)
            handler.send_header("ETag", '"v"')
            handler.send_header("Content-Range", "bytes 5-9/10")
            handler.send_header("Content-Length", "5")
            handler.end_headers()
            handler.close_connection = True
        else:
            handler.break_off(10, b"01234", ETag='"v"')

    web.answers["/a"] = stuck
    with pytest.raises(Unavailable):
        client.download(web.url("/a"), tmp_path / "a")
    assert web.count("/a") == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 204, 304])
def test_a_refusal_names_status_and_url_without_the_query(web, client: GuardedClient, tmp_path: Path, status) -> None:
    web.answers["/a"] = lambda handler: handler.say(status, b"")
    with pytest.raises(StagingFailed) as caught:
        client.download(web.url("/a?secret=1"), tmp_path / "a")
    assert caught.value.message == f"{status} at {web.url('/a')}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_can_be_tried_again(web, client: GuardedClient, tmp_path: Path, status) -> None:
    web.answers["/a"] = lambda handler: handler.say(status, b"")
    with pytest.raises(Unavailable, match=str(status)):
        client.download(web.url("/a"), tmp_path / "a")


def test_nobody_listening_can_be_tried_again(client: GuardedClient, web, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no connection"):
        client.download("http://127.0.0.1:1/x", tmp_path / "x")


def test_a_server_that_falls_silent_is_left(web, tmp_path: Path) -> None:
    done = threading.Event()
    web.answers["/a"] = lambda handler: (handler.break_off(10, b"01"), done.wait(10))
    with pytest.raises(Unavailable):
        limited().download(web.url("/a"), tmp_path / "a")
    done.set()


def test_a_body_beyond_the_limit_is_not_kept(web, tmp_path: Path) -> None:
    web.answers["/a"] = lambda handler: handler.say(200, BODY)
    with pytest.raises(TooLarge):
        limited(max_bytes=1000).download(web.url("/a"), tmp_path / "a")
    with pytest.raises(TooLarge):
        limited().get_bytes(web.url("/a"), 1000)
    assert limited().get_bytes(web.url("/a"), len(BODY)) == BODY
    assert [*tmp_path.iterdir()] == []


def test_a_body_that_takes_too_long_in_all_is_left(web) -> None:
    web.answers["/a"] = lambda handler: handler.say(200, BODY)
    with pytest.raises(Unavailable, match="too long"):
        limited().get_bytes(web.url("/a"), len(BODY), seconds=-1)


def redirect(target: str, status: int = 302):
    return lambda handler: handler.say(status, b"", Location=target)


def test_redirects_are_followed_three_times(web, client: GuardedClient) -> None:
    for step in range(4):
        web.answers[f"/{step}"] = redirect(f"/{step + 1}")
    web.answers["/4"] = lambda handler: handler.say(200, b"end")
    assert client.get_bytes(web.url("/1"), 10) == b"end"
    with pytest.raises(StagingFailed, match="more than 3 redirects"):
        client.get_bytes(web.url("/0"), 10)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://2852039166/",
        "http://localhost/",
        "//10.0.0.1/x",
        "http://data.example/",
    ],
)
def test_a_redirect_to_where_one_must_not_go_is_refused(web, client: GuardedClient, target: str) -> None:
    web.answers["/a"] = redirect(target)
    with pytest.raises(Forbidden):
        client.get_bytes(web.url("/a"), 10)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://data.example/", "gopher://127.0.0.1:25/", "http://u:p@h/"]
)
def test_a_redirect_to_another_scheme_is_refused(web, client: GuardedClient, target: str) -> None:
    web.answers["/a"] = redirect(target)
    with pytest.raises(InvalidRequest):
        client.get_bytes(web.url("/a"), 10)


def test_authorization_is_dropped_when_the_host_changes(web) -> None:
    client = GuardedClient(
        FetchSettings(allow_hosts=("127.0.0.1", "other.example")), resolver=lambda host, port: ["127.0.0.1"]
    )
    web.answers["/same"] = redirect("/end")
    web.answers["/other"] = redirect(web.url("/end", "other.example"))
    web.answers["/end"] = lambda handler: handler.say(200, b"end")
    headers = {"Authorization": "Bearer x", "X-Plain": "y"}
    client.get_bytes(web.url("/same"), 10, headers=headers)
    client.get_bytes(web.url("/other"), 10, headers=headers)
    kept, dropped = [asked[2] for asked in web.seen if asked[1] == "/end"]
    assert kept["authorization"] == "Bearer x"
    assert "authorization" not in dropped
    assert dropped["x-plain"] == "y"
    assert dropped["host"] == f"other.example:{web.port}"


def test_a_name_with_a_dead_address_first_is_still_reached(web) -> None:
    settings = FetchSettings(allow_hosts=("data.example",), connect_seconds=2)
    client = GuardedClient(settings, resolver=lambda host, port: ["::1", "127.0.0.1"])
    web.answers["/a"] = lambda handler: handler.say(200, b"yes")
    assert client.get_bytes(web.url("/a", "data.example"), 10) == b"yes"


def test_put_stores_a_file_and_follows_only_redirects_that_keep_the_body(
    web, client: GuardedClient, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(BODY)
    web.answers["/kept"] = redirect("/there", 307)
    web.answers["/lost"] = redirect("/there", 302)
    web.answers["/no"] = lambda handler: handler.say(403, b"")
    client.upload(source, web.url("/here"))
    client.upload(source, web.url("/kept"))
    assert web.stored == {"/here": BODY, "/there": BODY}
    with pytest.raises(StagingFailed, match="redirect"):
        client.upload(source, web.url("/lost"))
    with pytest.raises(StagingFailed, match="403"):
        client.upload(source, web.url("/no"))


def test_names_are_escaped_and_a_query_stays_behind(client: GuardedClient) -> None:
    stager = HttpStager(client)
    assert stager.join("http://h/d/?sig=1", "a b/ü#.txt") == "http://h/d/a%20b/%C3%BC%23.txt?sig=1"
    with pytest.raises(StagingFailed, match="listed"):
        stager.list("http://127.0.0.1/d/")


@pytest.fixture
def secure(web, tmp_path: Path):
    """Put TLS before the server; gives the trust of its certificate and the names that clients asked for."""
    cert, key = certificate(tmp_path, "data.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server: HTTPServer = web.server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    return ssl.create_default_context(cafile=str(cert)), asked


def test_tls_goes_to_the_checked_address_with_the_original_name(web, secure) -> None:
    trust, asked = secure
    settings = FetchSettings(allow_hosts=("data.example",))
    client = GuardedClient(settings, resolver=lambda host, port: ["127.0.0.1"], tls=trust)
    web.answers["/a"] = lambda handler: handler.say(200, b"secret")
    assert client.get_bytes(f"https://data.example:{web.port}/a", 10) == b"secret"
    assert asked == ["data.example"]
    assert web.seen[0][2]["host"] == f"data.example:{web.port}"


def test_a_certificate_for_another_name_is_refused(web, secure) -> None:
    trust, _ = secure
    settings = FetchSettings(allow_hosts=("other.example",))
    client = GuardedClient(settings, resolver=lambda host, port: ["127.0.0.1"], tls=trust)
    with pytest.raises(StagingFailed, match="TLS"):
        client.get_bytes(f"https://other.example:{web.port}/a", 10)
    assert web.seen == []


def test_a_certificate_that_nobody_trusts_is_refused(web, secure) -> None:
    client = GuardedClient(FetchSettings(allow_hosts=("data.example",)), resolver=lambda host, port: ["127.0.0.1"])
    with pytest.raises(StagingFailed, match="TLS"):
        client.get_bytes(f"https://data.example:{web.port}/a", 10)
