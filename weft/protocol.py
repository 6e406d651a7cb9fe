"""uvicorn's HTTP/1.1 protocol, with a shorter way out for answers that are known as a whole.

uvicorn takes an answer in two messages and looks at every byte of every header each time; with the ten headers that a
safe answer bears, that is a third of the processor time of a small one (measured). Here an application finds a
function in ``scope["extensions"]`` under ``WHOLE``: it takes status, headers and body at once and remembers the
headers that it has looked at. What is not the plain case it leaves to uvicorn, by saying so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

#: The name of the extension (https://asgi.readthedocs.io/en/stable/extensions.html).
WHOLE = "weft.http.response.whole"

Header = tuple[bytes, bytes]
#: Sends status, headers and body; False: nothing was sent, and it is to be sent in messages.
Whole = Callable[[int, Sequence[Header], bytes], bool]

#: RFC 9110, 5.1 and 5.5: what a name is made of, and what no value may hold.
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: Of the answers that have a body.
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
    if status >= HTTPStatus.OK and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
}


class WholeAnswers(HttpToolsProtocol):
    """The protocol of one connection."""

    def on_headers_complete(self) -> None:
        """Begin a request as uvicorn does, and offer the shorter way to its application."""
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # else the request went another way
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # uvicorn's has room for functions
            scope["extensions"] = {WHOLE: partial(_send, cycle)}


def _send(cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes) -> bool:
    plain = status in _STATUS_LINES and (b"content-length", b"%d" % len(body)) in headers
    free = not (cycle.response_started or cycle.disconnected or cycle.flow.write_paused)
    if not (plain and free and cycle.keep_alive and cycle.scope["method"] != "HEAD"):
        return False
    lines = [_line(header) for header in (*cycle.default_headers, *headers)]
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.writelines([b"".join([_STATUS_LINES[status], *lines, b"\r\n"]), body])
    cycle.message_event.set()
    cycle.on_response()
    return True


@lru_cache(maxsize=1024)
def _line(header: Header) -> bytes:
    """Write a header.

    :raises ValueError: it would be more than one, or none.
    """
    name, value = header
    if not _NAME.fullmatch(name) or _NO_VALUE.search(value):
        raise ValueError(f"this is no header: {name!r}")
    return b"%b: %b\r\n" % (name, value)
