"""A cancel while inputs are being fetched: the task is CANCELED, and the transfer ends with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.live import LiveWeft
from tests.tes.conftest import step


class Endless:
    """An HTTP server whose one file never ends."""

    def __init__(self) -> None:
        self.begun, self.gone = threading.Event(), threading.Event()
        endless = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(b"x" * 65536)
                        endless.begun.set()
                except OSError:
                    endless.gone.set()

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endless() -> Iterator[Endless]:
    server = Endless()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.thread.join(10)
    server.server.server_close()


def test_a_cancelled_task_fetches_no_more_and_leaves_nothing(tmp_path: Path, endless: Endless) -> None:
    env = {"WEFT_FETCH__ALLOW_HOSTS": f'["{endless.host}"]'}
    server = LiveWeft(tmp_path / "data", flags=("--executor", "process"), env=env)
    server.start()
    try:
        inputs = [{"url": f"http://{endless.host}/file", "path": "/in/file"}]
        task_id = server.create({"executors": [step("true")], "inputs": inputs})
        assert endless.begun.wait(30)
        server.cancel(task_id)
        assert server.wait(task_id)["state"] == "CANCELED"
        assert endless.gone.wait(10)
        server.assert_nothing_is_left()
        assert list((tmp_path / "data" / "jobs").rglob("incoming")) == []
    finally:
        server.end()
