"""A TES server for tests: HTTP over a Unix socket; the command of each task runs here, without its container."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TERMINAL = {"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED"}


class FakeTes:
    """Keeps tasks, newest first, and runs them in threads."""

    def __init__(self, path: Path, token: str = "secret", uid: int | None = None) -> None:
        self.socket = path
        self.uid = uid
        self.token = token
        self.tasks: dict[str, dict[str, Any]] = {}
        self.documents: list[dict[str, Any]] = []
        self.keys: dict[str, str] = {}
        self.requests: list[str] = []
        self.most_at_once = 0
        #: Answers to give instead, one each: a status for creates.
        self.failures: list[int] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def __enter__(self) -> FakeTes:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for task_id in list(self.tasks):
            self.cancel(task_id)
        for thread in self._threads:
            thread.join()

    def open(self) -> None:
        """Listen on the socket's path."""
        self.socket.unlink(missing_ok=True)
        self._server = _Server(str(self.socket), _handler_of(self))
        self.socket.chmod(0o666)
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._serving.start()

    def close(self) -> None:
        """Hang up on everybody; tasks go on."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._serving.join()

    def create(self, document: dict[str, Any], key: str | None) -> str:
        with self._lock:
            if key in self.keys:
                return self.keys[key]
            task_id = f"task-{len(self.tasks)}"
            self.keys[key or task_id] = task_id
            self.documents.append(document)
            self.tasks[task_id] = {**document, "id": task_id, "state": "QUEUED"}
            self.changed.notify_all()
        thread = threading.Thread(target=self._run, args=(task_id,))
        self._threads.append(thread)
        thread.start()
        return task_id

    def cancel(self, task_id: str) -> None:
        with self._lock:
            task = self.tasks[task_id]
            if task["state"] not in TERMINAL:
                task["state"] = "CANCELED"
                self.changed.notify_all()
            process = self._processes.get(task_id)
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def wait_for(self, predicate: Any, seconds: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(predicate, seconds), self.tasks

    def states(self) -> list[str]:
        return [task["state"] for task in self.tasks.values()]

    def _run(self, task_id: str) -> None:
        task = self.tasks[task_id]
        logs = []
        for step in task["executors"]:
            process = self._start(task_id, step)
            if process is None:
                return
            stdout, stderr = process.communicate()
            logs.append(
                {
                    "exit_code": process.returncode,
                    "stdout": _text(stdout, step.get("stdout")),
                    "stderr": _text(stderr, step.get("stderr")),
                },
            )
            if process.returncode:
                break
        with self._lock:
            task["logs"] = [{"logs": logs, "system_logs": []}]
            if task["state"] not in TERMINAL:
                task["state"] = "EXECUTOR_ERROR" if logs[-1]["exit_code"] else "COMPLETE"
            self.changed.notify_all()

    def _start(self, task_id: str, step: dict[str, Any]) -> subprocess.Popen[bytes] | None:
        with self._lock, contextlib.ExitStack() as files:
            if self.tasks[task_id]["state"] in TERMINAL:
                return None
            self.tasks[task_id]["state"] = "RUNNING"
            self.tasks[task_id]["logs"] = [{"logs": [], "start_time": datetime.now(UTC).isoformat()}]
            self.most_at_once = max(self.most_at_once, self.states().count("RUNNING"))
            process = self._processes[task_id] = subprocess.Popen(
                step["command"],
                cwd=step.get("workdir"),
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **step.get("env", {})},
                stdin=_opened(files, step.get("stdin"), "rb", subprocess.DEVNULL),
                stdout=_opened(files, step.get("stdout"), "wb", subprocess.PIPE),
                stderr=_opened(files, step.get("stderr"), "wb", subprocess.PIPE),
                start_new_session=True,
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
            )
            self.changed.notify_all()
            return process


def _opened(files: contextlib.ExitStack, path: str | None, mode: str, otherwise: int) -> Any:
    return otherwise if path is None else files.enter_context(Path(path).open(mode))


def _text(captured: bytes | None, path: str | None) -> str:
    if captured is None and path:
        return Path(path).read_text() if Path(path).exists() else ""  # the engine may have tidied up
    return (captured or b"").decode()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is not worth a traceback."""


def _handler_of(fake: FakeTes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if not self._is_allowed():
                return
            name = url.path.removeprefix("/ga4gh/tes/v1/tasks").lstrip("/")
            query = parse_qs(url.query)
            if name:
                found = fake.tasks.get(name)
                self._answer(200 if found else 404, _view(found, query) if found else {"msg": "no such task"})
                return
            tags = dict(zip(query.get("tag_key", []), query.get("tag_value", []), strict=True))
            tasks = [task for task in reversed(fake.tasks.values()) if tags.items() <= task["tags"].items()]
            tasks = [task for task in tasks if task["state"] == query.get("state", [task["state"]])[0]]
            start = int(query.get("page_token", ["0"])[0])
            end = start + int(query["page_size"][0])
            page = {"tasks": [{"id": task["id"], "state": task["state"]} for task in tasks[start:end]]}
            self._answer(200, {**page, "next_page_token": str(end)} if end < len(tasks) else page)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self._is_allowed():
                return
            if self.path.endswith(":cancel"):
                fake.cancel(self.path.rpartition("/")[2].removesuffix(":cancel"))
                self._answer(200, {})
            elif fake.failures:
                self._answer(fake.failures.pop(0), {"msg": "not now"})
            else:
                self._answer(200, {"id": fake.create(json.loads(body), self.headers["Idempotency-Key"])})

        def _is_allowed(self) -> bool:
            fake.requests.append(f"{self.command} {self.path}")
            if self.headers["Authorization"] == f"Bearer {fake.token}":
                return True
            self._answer(401, {"msg": "who are you?"})
            return False

        def _answer(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _view(task: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
    return task if query.get("view") in (["FULL"], ["BASIC"]) else {"id": task["id"], "state": task["state"]}
