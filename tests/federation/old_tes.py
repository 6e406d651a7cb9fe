"""A TES 1.0 server in miniature: paths below /v1, no tag filters, no delete, no Idempotency-Key, zeros left out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PAGE = 3


class OldTes:
    """Its tasks, by id; a test sets their states and logs."""

    def __init__(self, *, refuses_filters: bool = False) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorization: set[str | None] = set()
        self.refuses_filters = refuses_filters
        #: Status and body of the next create.
        self.refusal: tuple[int, Any] | None = None
        #: Take the next create, and let its answer get lost.
        self.loses_answer = False
        self.url = ""

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        self.requests.append((method, target))
        parts = urlsplit(target)
        path, query = parts.path.removeprefix("/v1"), parse_qs(parts.query)
        if path == parts.path:
            return 404, "no such page"
        match method, path.split("/")[1:]:
            case "GET", ["tasks", "service-info"]:
                return 200, {"name": "old", "doc": "", "storage": []}
            case "POST", ["tasks"]:
                return self._create(json.loads(body))
            case "GET", ["tasks"]:
                return self._list(query)
            case "GET", ["tasks", task_id] if task_id in self.tasks:
                return 200, self._view(self.tasks[task_id], query.get("view", ["MINIMAL"])[0])
            case "POST", ["tasks", action] if action.endswith(":cancel"):
                task = self.tasks[action.removesuffix(":cancel")]
                task["state"] = "CANCELED"
                return 200, {}
        return 404, {"error": "not found"}

    def _create(self, task: dict[str, Any]) -> tuple[int, Any]:
        if self.refusal is not None:
            return self.refusal
        task_id = f"t/{len(self.tasks)}"
        self.tasks[task_id.replace("/", "%2F")] = {**task, "id": task_id, "state": "QUEUED"}
        return (502, "bad gateway") if self.loses_answer else (200, {"id": task_id})

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.refuses_filters and ("tag_key" in query or "state" in query):
            return 400, {"error": "unknown parameter"}
        begin = int(query.get("page_token", ["0"])[0])
        tasks = list(self.tasks.values())[::-1]
        view = query.get("view", ["MINIMAL"])[0]
        page: dict[str, Any] = {"tasks": [self._view(task, view) for task in tasks[begin : begin + _PAGE]]}
        if begin + _PAGE < len(tasks):
            page["next_page_token"] = str(begin + _PAGE)
        return 200, page

    def _view(self, task: dict[str, Any], view: str) -> dict[str, Any]:
        return {key: task[key] for key in ("id", "state")} if view == "MINIMAL" else task

    @contextmanager
    def served(self) -> Iterator[OldTes]:
        old = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                old.authorization.add(self.headers.get("Authorization"))
                length = int(self.headers.get("Content-Length") or 0)
                status, document = old.answer(self.command, self.path, self.rfile.read(length))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = respond

            def log_message(self, format: str, *args: Any) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            yield self
            server.shutdown()
            thread.join()
