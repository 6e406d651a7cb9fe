"""Carry the bytes of all containers between the Engine's sockets and files, by one thread.

The Engine multiplexes stdout and stderr on one connection:
https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO, Protocol

from weft.logs import get_logger

log = get_logger(__name__)

_HEADER = struct.Struct(">BxxxL")
_CHUNK = 256 << 10
_KEPT_END = 256


class Frames:
    """Take the multiplexed stream apart, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) for all of ``data``; stream 1 is stdout and 2 stderr."""
        view = memoryview(data)
        while view:
            if self._left:
                piece = view[: self._left]
                self._left -= len(piece)
                view = view[len(piece) :]
                yield self._stream, bytes(piece)
                continue
            missing = _HEADER.size - len(self._header)
            self._header += view[:missing]
            view = view[missing:]
            if len(self._header) == _HEADER.size:
                self._stream, self._left = _HEADER.unpack(self._header)
                self._header.clear()


class LogSink:
    """A file that receives output; with a ``cap`` in bytes only the end of what comes is kept."""

    def __init__(self, descriptor: int, cap: int | None) -> None:
        """Take over ``descriptor``, which is open for reading and writing and empty."""
        self._descriptor = descriptor
        self._cap = cap
        self._size = 0
        self._closed = False
        self.dropped = 0
        self.end = b""
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Append ``data``. A disk error is remembered, not raised: other containers' output goes on."""
        self.end = (self.end + data[-_KEPT_END:])[-_KEPT_END:]
        if self._closed or self.error is not None:
            return
        try:
            if self._cap is not None and self._size + len(data) > self._cap:
                data = self._make_room(data, self._cap)
            self._append(data)
        except OSError as error:
            self.error = error

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def _make_room(self, data: bytes, cap: int) -> bytes:
        """Keep the last half of the cap, so that moving bytes costs a constant share of writing them."""
        keep = cap // 2
        came = self._size + len(data)
        old = b"" if len(data) >= keep else os.pread(self._descriptor, keep, max(0, self._size - keep))
        data = data[-keep:]
        self.dropped += came - len(old) - len(data)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._size = 0
        self._append(old)
        return data

    def close(self) -> None:
        """Close the file; may be called twice."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)


class Flow(Protocol):
    """Something that the thread moves on when its socket is ready."""

    socket: socket.socket
    events: int

    def ready(self) -> bool:
        """Move bytes without blocking; False when it is over."""
        ...

    def close(self, *, finished: bool) -> None:
        """Let go of everything; ``finished`` when the far end said that it is over."""
        ...


class Capture:
    """One container's output on its way into its sinks."""

    events = selectors.EVENT_READ

    def __init__(
        self, stream: socket.socket, first: bytes, sinks: Mapping[int, LogSink], on_end: Callable[[], None]
    ) -> None:
        """Take over a non-blocking ``stream``, of which ``first`` was read already."""
        stream.setblocking(False)
        self.socket = stream
        self._frames = Frames()
        self._sinks = sinks
        self._on_end = on_end
        self._take(first)

    def _take(self, data: bytes) -> None:
        for stream, piece in self._frames.feed(data):
            if stream in self._sinks:
                self._sinks[stream].write(piece)

    def ready(self) -> bool:
        """Read what is there."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        self._take(data)
        return bool(data)

    def close(self, *, finished: bool) -> None:
        """Close the files, then say so."""
        self.socket.close()
        for sink in self._sinks.values():
            sink.close()
        if finished:
            self._on_end()


class Feed:
    """One container's stdin on its way from a file."""

    def __init__(self, stream: socket.socket, source: BinaryIO, on_fed: Callable[[], None]) -> None:
        """Take over a non-blocking ``stream`` and ``source``; ``on_fed`` is called when the Engine has all of it."""
        stream.setblocking(False)
        self.socket = stream
        self.events = selectors.EVENT_WRITE
        self._source = source
        self._on_fed = on_fed
        self._left = memoryview(b"")

    def ready(self) -> bool:
        """Send what the Engine takes now; after the end wait for it to hang up, so that nothing is cut off."""
        if self.events == selectors.EVENT_READ:
            return bool(self.socket.recv(_CHUNK))
        if not self._left:
            self._left = memoryview(self._source.read(_CHUNK))
        if not self._left:
            self.socket.shutdown(socket.SHUT_WR)
            self.events = selectors.EVENT_READ
            self._on_fed()
            return True
        with suppress(BlockingIOError):
            self._left = self._left[self.socket.send(self._left) :]
        return True

    def close(self, *, finished: bool) -> None:
        """Close both ends."""
        self.socket.close()
        self._source.close()


class LogStreams:
    """The one thread that moves all flows."""

    def __init__(self) -> None:
        self._pending: deque[Flow] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell: socket.socket | None = None

    def start(self) -> None:
        """Start the thread; may be called twice."""
        with self._lock:
            if self._thread is None:
                self._bell, ear = socket.socketpair()
                self._thread = threading.Thread(target=self._run, args=(ear,), name="docker-logs", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Close all flows without calling anybody, and end the thread; may be called twice."""
        with self._lock:
            thread, bell = self._thread, self._bell
            self._thread = self._bell = None
        if thread is not None and bell is not None:
            bell.close()
            thread.join()

    def add(self, flow: Flow) -> None:
        """Move ``flow`` from now on."""
        self.start()
        self._pending.append(flow)
        with self._lock:
            if self._bell is not None:
                self._bell.send(b"x")

    def _run(self, ear: socket.socket) -> None:
        with ear, selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            try:
                while self._turn(selector, ear):
                    pass
            finally:
                for key in list(selector.get_map().values()):
                    if key.data is not None:
                        key.data.close(finished=False)
                while self._pending:
                    self._pending.popleft().close(finished=False)

    def _turn(self, selector: selectors.BaseSelector, ear: socket.socket) -> bool:
        """Move what is ready once; False when the bell was closed."""
        for key, _events in selector.select():
            if key.data is not None:
                self._move(selector, key.data)
                continue
            if not ear.recv(4096):
                return False
            while self._pending:
                flow = self._pending.popleft()
                selector.register(flow.socket, flow.events, flow)
        return True

    def _move(self, selector: selectors.BaseSelector, flow: Flow) -> None:
        before = flow.events
        try:
            goes_on = flow.ready()
        except OSError as error:  # the Engine or the container went away
            log.debug("stream ended", error=str(error))
            goes_on = False
        if not goes_on:
            selector.unregister(flow.socket)
            flow.close(finished=True)
        elif flow.events != before:
            selector.modify(flow.socket, flow.events, flow)
