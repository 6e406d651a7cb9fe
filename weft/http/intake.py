"""Bound what a client may send: bodies are counted while they stream, and refused before they are read."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope

from weft.errors import InvalidRequest, TooLarge, TooSlow, UnsupportedMediaType, WeftError

#: How long the rest of a refused body is read and thrown away, so that the client gets to read the answer.
LINGER_SECONDS = 1.0
#: Below this a body comes too slowly to wait for.
LEAST_BYTES_A_SECOND = 1024
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ClientGone(WeftError):
    """The client closed the connection before it had sent its request."""


class Intake:
    """The body of one request."""

    def __init__(self, scope: Scope, receive: Receive, *, max_body: int, max_form: int, patience: float) -> None:
        """Keep the bounds; ``patience``: seconds that a client may be silent, or behind the least rate."""
        self._scope = scope
        self._receive = receive
        self._max_body = max_body
        self._max_form = max_form
        self._limit = max_body
        self._count = 0
        self._patience = patience
        self._waited = 0.0
        #: Whether nothing more will come.
        self.finished = scope["method"] not in _BODY_METHODS

    async def open(self) -> Receive:
        """Return the ``receive`` for the application; a body that is no form is read here as a whole.

        :raises TooLarge: the body is, or says it will be, larger than the limit.
        :raises TooSlow: it does not come.
        :raises UnsupportedMediaType: there is more than one ``Content-Type``.
        """
        form = content_type_of(self._scope).startswith("multipart/")
        if self.finished:
            return self._receive
        if form:
            self._limit = self._max_form
        self._check(_declared_length(self._scope))
        if form:
            return self._counted
        body = (await self._counted()).get("body", b"")
        if not self.finished:
            body += await self._rest()
        _set_length(self._scope, len(body))
        return _replay(body, self._receive)

    async def _rest(self) -> bytes:
        chunks = []
        while not self.finished:
            chunks.append((await self._counted()).get("body", b""))
        return b"".join(chunks)

    async def linger(self) -> None:
        """Throw away the rest of a body that was refused, for at most ``LINGER_SECONDS``."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.finished:
                    message = await self._receive()
                    self.finished = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            return

    async def _counted(self) -> Message:
        message = await self._in_time()
        if message["type"] == "http.disconnect":
            self.finished = True
            raise ClientGone
        self.finished = not message.get("more_body", False)
        self._count += len(message.get("body", b""))
        self._check(self._count)
        return message

    async def _in_time(self) -> Message:
        """Wait for a piece of the body, no longer than the client has earned by what it sent."""
        earned = self._patience + self._count / LEAST_BYTES_A_SECOND - self._waited
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(earned, self._patience)):
                return await self._receive()
        except TimeoutError as error:
            raise TooSlow("the body did not come in time", remedy="send it without pauses") from error
        finally:
            self._waited += asyncio.get_running_loop().time() - began

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise TooLarge(
                f"the request is larger than {self._limit} bytes",
                remedy="send less, or pass large data by URL",
            )


def content_type_of(scope: Scope) -> str:
    """Return the media type in lower case and normalise the header, for those who compare it as it stands.

    :raises UnsupportedMediaType: there is more than one.
    """
    found = [index for index, (name, _) in enumerate(scope["headers"]) if name == b"content-type"]
    if not found:
        return ""
    if len(found) > 1:
        raise UnsupportedMediaType("the request has more than one Content-Type header", remedy="send one")
    value: bytes = scope["headers"][found[0]][1]
    media_type, semicolon, rest = value.partition(b";")
    media_type = media_type.strip().lower()
    headers = list(scope["headers"])
    if media_type:
        headers[found[0]] = (b"content-type", media_type + semicolon + rest)
    else:
        del headers[found[0]]
    scope["headers"] = headers
    return media_type.decode("latin-1")


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise InvalidRequest("the Content-Length header is not a number of bytes")
            return int(value)
    return 0


def _set_length(scope: Scope, length: int) -> None:
    dropped = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    scope["headers"] = [*headers, (b"content-length", str(length).encode())]


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
