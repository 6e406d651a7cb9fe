"""Bound what a client may do before weft hears of its request: how long the head takes, and how large it is.

uvicorn bounds neither: a client that sends one byte of a header a minute would hold its connection for ever. The
body's time and size are the matter of ``weft.http.intake``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: More than the 64 KiB that ``weft.http.gate`` explains with 431: beyond this the connection is just closed.
MOST_HEAD_BYTES = 128 << 10


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's own, which hangs up on whoever does not come to the point."""

    head_seconds = 15.0

    def __init__(self, config: Config, *arguments: Any, **named: Any) -> None:
        """Begin as a connection that has sent nothing."""
        super().__init__(config, *arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._came_to_a_point = False
        self._bytes_since = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head its time."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Pass on, and bound what neither ends a head nor is of a body."""
        self._came_to_a_point = False
        super().data_received(data)
        if self._came_to_a_point:
            self._disarm()
            self._bytes_since = 0
            return
        self._bytes_since += len(data)
        if self._bytes_since > MOST_HEAD_BYTES:
            self.transport.close()
        elif self._deadline is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """Note that a head is over."""
        self._came_to_a_point = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that a piece of a body came."""
        self._came_to_a_point = True
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._hang_up)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._arm()  # an answer is on its way
        elif not self.transport.is_closing():
            self.transport.close()


def protocol(head_seconds: float) -> type[PatientProtocol]:
    """Return the protocol with this patience."""
    return type("Patient", (PatientProtocol,), {"head_seconds": head_seconds})
