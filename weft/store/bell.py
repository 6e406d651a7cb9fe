"""The bell: one process tells the others on its host that the database changed, so that nobody has to poll.

Each listening process binds a Unix datagram socket in a folder beside the database; a ringer sends one byte to every
socket there but its own. Nothing waits: a full socket has a byte to be woken by already, and a socket whose process
died is removed. A lost ring only costs time, because workers also look by themselves now and then.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

#: Longest path in a socket address, with its closing NUL (unix(7) says 108; macOS has 104).
_LONGEST_PATH = 100


def listening(folder: Path) -> list[int]:
    """Return the process ids of those who listen to the bell of ``folder``: every open store does."""
    found: set[int] = set()
    for path in sorted(folder.glob("*.sock")):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
                caller.connect(f"/proc/self/fd/{handle}/{path.name}" if _is_long(path) else str(path))
                found.add(int(path.name.partition("-")[0]))
        except OSError:
            pass  # its process is no more
        finally:
            os.close(handle)
    return sorted(found)


class Bell:
    """The bell of one folder. ``heard`` is called in a thread of its own after somebody else rang."""

    def __init__(self, folder: Path, heard: Callable[[], None]) -> None:
        """Assign; ``start`` listens."""
        self._folder = folder
        self._heard = heard
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._handle: int | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind the socket and listen. May be called twice.

        :raises OSError: the folder cannot be written.
        """
        if self._thread is not None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address(self._name))
        self._thread = threading.Thread(target=self._listen, args=(self._socket,), name="weft-store-bell", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None or self._socket is None or self._handle is None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)  # wakes the listener with an empty datagram
        thread.join()
        with suppress(OSError):
            (self._folder / self._name).unlink()
        self._socket.close()
        os.close(self._handle)
        self._socket = self._handle = None

    def ring(self) -> None:
        """Wake the other processes. Never waits, never raises."""
        if self._socket is None:
            return
        with suppress(OSError):
            for name in os.listdir(self._folder):  # noqa: PTH208 - names are all that is needed, and this is hot
                if name != self._name and name.endswith(".sock"):
                    self._wake(name, self._socket)

    def _wake(self, name: str, sender: socket.socket) -> None:
        try:
            sender.sendto(b"!", socket.MSG_DONTWAIT, self._address(name))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:  # bound by a process that is no more
                with suppress(OSError):
                    (self._folder / name).unlink()

    def _listen(self, own: socket.socket) -> None:
        while own.recv(16):
            with suppress(BlockingIOError):
                while own.recv(16, socket.MSG_DONTWAIT):
                    pass  # many rings are one
            if self._thread is None:
                return
            try:
                self._heard()
            except Exception:
                log.exception("a listener failed")

    def _address(self, name: str) -> str:
        """Return the socket's path, by way of the open folder where it is too long for an address."""
        path = self._folder / name
        return f"/proc/self/fd/{self._handle}/{name}" if _is_long(path) else str(path)


def _is_long(path: Path) -> bool:
    return len(os.fsencode(path)) >= _LONGEST_PATH
