"""The shorter way out of the protocol: the same bytes as uvicorn's own, and uvicorn's way where it is not plain."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from weft.protocol import WHOLE, WholeAnswers

_DATE = re.compile(rb"date: [^\r]*\r\n")
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2"), (b"x-request-id", b"1")]


class App:
    """Answers ``{}``, by the shorter way where that takes it, and notes whether it did."""

    def __init__(self, *, status: int = 200, headers: list[tuple[bytes, bytes]] = HEADERS) -> None:
        self.status, self.headers = status, headers
        self.whole: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if "POST" in scope["method"]:
            await receive()
        at_once = scope.get("extensions", {}).get(WHOLE)
        taken = at_once is not None and at_once(self.status, self.headers, b"{}")
        self.whole.append(taken)
        if not taken:
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"{}"})


def spoken(app: Any, protocol: type[HttpToolsProtocol], request: bytes) -> bytes:
    """Send bytes on one connection, and return all that comes back until it is closed."""

    async def speak() -> bytes:
        config = uvicorn.Config(app, http=protocol, log_config=None, lifespan="off", server_header=False)
        server = uvicorn.Server(config)
        door = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[door]))
        reader, writer = await asyncio.open_connection(*door.getsockname())
        writer.write(request)
        answer = await reader.read()
        writer.close()
        server.should_exit = True
        await serving
        return _DATE.sub(b"", answer)

    return asyncio.run(speak())


def get(extra: str = "", method: str = "GET") -> bytes:
    return f"{method} / HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode()


LAST = get("connection: close\r\n")


@pytest.mark.parametrize(
    ("app", "request_bytes", "whole"),
    [
        (App, get() + LAST, [True, False]),
        (App, get() * 3 + LAST, [True, True, True, False]),
        (App, get("content-length: 2\r\n", "POST") + b"{}" + LAST, [True, False]),
        (App, get(method="HEAD") + LAST, [False, False]),
        (lambda: App(status=404), get() + LAST, [True, False]),
        (lambda: App(headers=HEADERS[:1]), get() + LAST, [False, False]),
    ],
    ids=["one", "pipelined", "with a body", "head", "another status", "no length"],
)
def test_a_whole_answer_is_what_uvicorn_sends(app: Callable[[], App], request_bytes: bytes, whole: list[bool]) -> None:
    mine, other = app(), app()
    assert spoken(mine, WholeAnswers, request_bytes) == spoken(other, HttpToolsProtocol, request_bytes)
    assert mine.whole == whole
    assert not any(other.whole)


@pytest.mark.parametrize("header", [(b"x-evil", b"a\r\nset-cookie: b=c"), (b"x: y\r\nz", b"a"), (b"", b"a")])
def test_a_header_that_is_more_than_one_is_never_sent(header: tuple[bytes, bytes]) -> None:
    answer = spoken(App(headers=[*HEADERS, header]), WholeAnswers, get())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer
