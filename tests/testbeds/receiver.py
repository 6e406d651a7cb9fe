"""A real HTTP server that takes callbacks, and answers as it is told."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver:
    """Answers 204, or first with the statuses that stand in ``answers``; keeps what it got."""

    def __init__(self, answers: Iterable[int] = ()) -> None:
        self.answers = deque(answers)
        self.taken: list[Taken] = []
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(Taken(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                if status in (301, 307, 308):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def url(self, path: str = "/hook") -> str:
        return f"http://{self.host}{path}"

    def start(self) -> Receiver:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def wait_for(self, number: int, seconds: float = 30) -> list[Taken]:
        """Return what came as soon as it is ``number`` requests."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.taken) >= number, seconds), self.taken
            return list(self.taken)

    def _take(self, request: Taken) -> int:
        with self._news:
            self.taken.append(request)
            self._news.notify_all()
            return self.answers.popleft() if self.answers else 204
