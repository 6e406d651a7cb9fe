"""Speak TES from inside an engine: a small client over a Unix socket or HTTP, with the run's own token.

Standard library only, because it is loaded into the primed process of every engine and into its sandbox.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

JsonObject = dict[str, Any]

#: Longest silence of the server, in seconds.
TIMEOUT = 30.0
_BASE = "/ga4gh/tes/v1"


class TesRefused(Exception):
    """The server will never accept this request (4xx); the text is its own message."""


class TesUnavailable(Exception):
    """The server does not answer now: try again later."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path, by its folder's descriptor, because an address has 107 bytes at most."""
        path = Path(self._path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


class TesClient:
    """The TES operations that engines need. Safe to use from many threads: each has a connection of its own.

    Every call raises ``TesRefused`` for a request that can never work and ``TesUnavailable`` for one that may
    work later.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """Take ``unix:///path/of/socket`` or ``http://host:port``; nothing is connected yet."""
        self._url = urlsplit(url)
        if self._url.scheme not in ("unix", "http", "https"):
            raise ValueError(f"a TES URL begins with unix://, http:// or https://, not {url!r}")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._local = threading.local()

    def create(self, task: Mapping[str, Any], *, key: str) -> str:
        """Create ``task`` and return its id; a repeated call with the same ``key`` creates nothing new."""
        answer = self._call("POST", "/tasks", body=task, headers={"Idempotency-Key": key})
        return str(answer["id"])

    def get(self, task_id: str, *, view: str = "FULL") -> JsonObject:
        """Return one task."""
        return self._call("GET", f"/tasks/{quote(task_id, safe='')}?view={view}")

    def list(
        self,
        *,
        tags: Mapping[str, str],
        state: str | None = None,
        page_size: int = 256,
        page_token: str | None = None,
    ) -> tuple[Sequence[JsonObject], str | None]:
        """Return a page of ``{"id", "state"}``, newest first, of the tasks with ``tags``; and the next page's token."""
        query = [
            (name, part) for pair in tags.items() for name, part in zip(("tag_key", "tag_value"), pair, strict=True)
        ]
        query += [("view", "MINIMAL"), ("page_size", str(page_size))]
        query += [(name, value) for name, value in (("state", state), ("page_token", page_token)) if value]
        answer = self._call("GET", f"/tasks?{urlencode(query)}")
        return cast("Sequence[JsonObject]", answer.get("tasks") or ()), answer.get("next_page_token") or None

    def cancel(self, task_id: str) -> None:
        """Ask for the end of a task; a task that has ended already is no error."""
        self._call("POST", f"/tasks/{quote(task_id, safe='')}:cancel")

    def close(self) -> None:
        """Close the connection of this thread; the next call opens another."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> JsonObject:
        data = None if body is None else json.dumps(body).encode()
        prefix = "" if self._url.scheme == "unix" else self._url.path.rstrip("/")
        try:
            status, answer = self._exchange(method, prefix + _BASE + path, data, {**self._headers, **(headers or {})})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise TesUnavailable(f"TES does not answer: {error}") from error
        except BaseException:  # a signal came between the request and its answer: the next request must not get that
            self.close()
            raise
        if status >= 500 or status == 429:
            raise TesUnavailable(f"TES answers {status}: {_message(answer)}")
        if status >= 400:
            raise TesRefused(_message(answer))
        return cast("JsonObject", json.loads(answer or b"{}"))

    def _exchange(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send one request; once more where a kept connection turns out to be closed (a GET, or nothing was sent)."""
        kept = getattr(self._local, "connection", None) is not None
        try:
            return self._exchange_once(method, path, data, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if not kept:
                raise
        return self._exchange_once(method, path, data, headers)

    def _exchange_once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection = self._connection()
        connection.request(method, path, body=data, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        if self._url.scheme == "unix":
            return _UnixConnection(unquote(self._url.path))
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT)


def _message(answer: bytes) -> str:
    """Return the server's words: ``msg`` or ``detail`` of its JSON, else the beginning of what it sent."""
    try:
        document = json.loads(answer)
        return str(document.get("msg") or document.get("detail") or document)
    except (ValueError, AttributeError):
        return answer[:500].decode(errors="replace")
