"""Bound what a client may do before weft hears of its request, and what its open connection may cost.

uvicorn alone keeps a connection that sends one byte of a head a minute, that never sends its request, or never reads
its answer, for as long as the client likes. Here a head has its time and its size, the connections have their number,
and each is looked at every few seconds, and closed when nothing has moved since the last look. The time and the size
of a body are the matter of ``weft.http.intake``.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from weft.protocol import WholeAnswers

#: More than the 64 KiB that ``weft.http.gate`` explains with 431: beyond this the connection is just closed.
MOST_HEAD_BYTES = 128 << 10
#: Descriptors that are left for files, the database, backends and children.
_SPARE = 512
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
)
_WORDS = b'{"msg":"this server has as many open connections as it may have: try again later","status_code":503}'


def raise_file_limit() -> int:
    """Allow this process as many open files as its administrator does, and return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def bounded(most: int, *, head_seconds: float, patience: float) -> type[HttpToolsProtocol]:
    """Return uvicorn's HTTP protocol with bounds.

    :param most: connections; one more is answered 503 and closed. Never more than the files that may be open.
    :param head_seconds: how long the head of a request may take.
    :param patience: seconds after which a connection is closed where nothing has moved.
    """
    most = min(most, raise_file_limit() - _SPARE)
    return type("Bounded", (_Bounded,), {"most": most, "head_seconds": head_seconds, "patience": patience})


class PatientProtocol(WholeAnswers):
    """uvicorn's own with a shorter way out, which hangs up on whoever does not come to the point."""

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


class _Bounded(PatientProtocol):
    most: int
    patience: float
    _look: asyncio.TimerHandle | None = None
    #: What was true at the last look: bytes received and unsent, and the last request that began.
    _seen: tuple[int, int, Any] = (-1, 0, None)
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the connection in sight, or turn it away."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(_FULL % (len(_WORDS), _WORDS))
            transport.close()
        self._look = self.loop.call_later(self.patience, self._end_if_still)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._received += len(data)
        super().data_received(data)

    def _end_if_still(self) -> None:
        before, self._seen = self._seen, (self._received, self.transport.get_write_buffer_size(), self.cycle)
        received, unsent, cycle = self._seen
        if unsent:
            still = unsent == before[1]  # the client does not read
        elif cycle is None or cycle.response_complete:
            still = cycle is before[2] and before[0] >= 0  # no request came to its end
        else:
            still = cycle.more_body and received == before[0]  # its body stands still
        if still:
            self.transport.abort()
        else:
            self._look = self.loop.call_later(self.patience, self._end_if_still)
