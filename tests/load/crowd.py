"""A crowd of clients that do harm by what they leave out: they send nothing, or slowly, or never read the answer."""

from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit


def raise_file_limit(wanted: int) -> str | None:
    """Let this process open so many files; say what is missing where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        return f"the hard limit on open files is {hard}, and {wanted} are needed (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return None


@dataclass
class Crowd:
    """Raw connections to one server; all are closed at the end."""

    url: str
    sockets: list[socket.socket] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self, *, buffer: int | None = None) -> socket.socket:
        address = urlsplit(self.url)
        one = self._stack.enter_context(socket.socket())
        if buffer is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        one.settimeout(30)
        one.connect((address.hostname, address.port))
        self.sockets.append(one)
        return one

    def idle(self, number: int) -> None:
        """Connect and send nothing."""
        for _ in range(number):
            self.connect()

    def never_reads(self, path: str) -> socket.socket:
        """Ask for something long and do not read the answer."""
        one = self.connect(buffer=4096)
        one.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        return one

    def half_a_body(self, path: str) -> socket.socket:
        """Promise a body and send a part of it."""
        one = self.connect()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        one.sendall(head.encode() + b"{")
        return one

    def slow(self, body: bytes, pause: float, head: bytes) -> Slow:
        """Send a request whose body comes byte by byte."""
        thread = Slow(self.connect(), head, body, pause)
        thread.start()
        return thread


class Slow(threading.Thread):
    """A client that takes its time; ``answer`` is what it was told."""

    def __init__(self, connection: socket.socket, head: bytes, body: bytes, pause: float) -> None:
        super().__init__(daemon=True)
        self.answer = b""
        self._connection, self._head, self._body, self._pause = connection, head, body, pause

    def run(self) -> None:
        self._connection.sendall(self._head)
        for index in range(len(self._body)):
            self._connection.sendall(self._body[index : index + 1])
            time.sleep(self._pause)
        self.answer = self._connection.recv(65536)


def closed(one: socket.socket, seconds: float) -> bool:
    """Read what there is; tell whether the server closes the connection within ``seconds``."""
    deadline = time.monotonic() + seconds
    one.settimeout(0.5)
    while time.monotonic() < deadline:
        try:
            if one.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def closed_unread(one: socket.socket, seconds: float) -> bool:
    """Tell whether the server closes the connection although nothing is read."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        try:
            one.send(b"\r\n")  # a connection that was reset says so
        except OSError:
            return True
        time.sleep(0.2)
    return False
