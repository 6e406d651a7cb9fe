"""The bell of PostgreSQL: LISTEN and NOTIFY wake the processes of all hosts.

One thread with one connection listens and rings. A ring is sent after the commit that it tells of, beside the writer
and not inside its transaction, because PostgreSQL lets transactions that notify commit one after the other
(https://www.postgresql.org/docs/current/sql-notify.html). A lost connection is opened again, and counts as a ring:
what happened meanwhile is unknown. A lost ring only costs time, because workers also look by themselves.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine

from weft.errors import Unavailable
from weft.store.link import Link

log = logging.getLogger(__name__)

CHANNEL = "weft"
#: Pauses between tries to connect again, in seconds: the first, and the longest.
_PAUSES = (0.05, 2.0)


class NotifyBell:
    """The bell of one database. ``heard`` is called in the bell's thread after somebody else rang."""

    def __init__(self, engine: Engine, heard: Callable[[], None]) -> None:
        """Assign; ``start`` listens."""
        self._engine = engine
        self._heard = heard
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._news = False
        self._own_pid = 0
        self._sockets: tuple[socket.socket, ...] = ()  # the thread waits on the first; the second wakes it

    def start(self) -> None:
        """Connect and listen. May be called twice.

        :raises Unavailable: the database does not answer.
        """
        if self._thread is not None:
            return
        link = self._connect()
        self._sockets = socket.socketpair()
        self._stopping.clear()
        self._wanted.clear()
        self._thread = threading.Thread(target=self._work, args=(link,), name="weft-store-bell", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; what was rung before is sent. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        self._wake()
        thread.join()
        sockets, self._sockets = self._sockets, ()
        for end in sockets:
            end.close()

    def ring(self) -> None:
        """Wake the other processes. Never waits, never raises; many rings at once are one."""
        if not self._wanted.is_set():
            self._wanted.set()
            self._wake()

    def _wake(self) -> None:
        with suppress(OSError, ValueError):  # full: the thread is woken already; none: nobody listens
            _alarm, waker = self._sockets
            waker.send(b"!", socket.MSG_DONTWAIT)

    def _connect(self) -> Link:
        link = Link(self._engine)
        try:
            self._own_pid = link.driver.pgconn.backend_pid
            link.driver.add_notify_handler(lambda notify: self._note(notify.pid))
            link.send(f"LISTEN {CHANNEL}")
        except BaseException:
            link.close()
            raise
        return link

    def _work(self, link: Link | None) -> None:
        while link is not None:
            try:
                self._turn(link)
            except Exception as error:
                log.warning("the database's bell is lost: %s", error)
                link.close()
                link = self._connect_again()
                self._news = True
            if self._news:
                self._news = False
                self._tell()
            if link is not None and self._stopping.is_set() and not self._wanted.is_set():
                link.close()
                return

    def _turn(self, link: Link) -> None:
        """Wait until there is something to send or to hear, and do it."""
        alarm = self._sockets[0]
        waiting = select.poll()
        waiting.register(link.driver.fileno(), select.POLLIN)
        waiting.register(alarm.fileno(), select.POLLIN)
        waiting.poll()
        with suppress(BlockingIOError):
            alarm.recv(4096, socket.MSG_DONTWAIT)
        if self._wanted.is_set():
            self._wanted.clear()
            link.send(f"NOTIFY {CHANNEL}")
        self._hear(link.driver.pgconn)

    def _hear(self, connection: Any) -> None:
        connection.consume_input()
        while (notify := connection.notifies()) is not None:
            self._note(notify.be_pid)

    def _note(self, pid: int) -> None:
        self._news = self._news or pid != self._own_pid

    def _connect_again(self) -> Link | None:
        """Try until it succeeds; None when the bell is stopped meanwhile."""
        pause, longest = _PAUSES
        while not self._stopping.wait(pause):
            pause = min(2 * pause, longest)
            with suppress(Unavailable):
                link = self._connect()
                self._wanted.set()  # a ring may be lost with the old connection
                self._wake()
                log.info("the database's bell is back")
                return link
        return None

    def _tell(self) -> None:
        try:
            self._heard()
        except Exception:
            log.exception("a listener failed")
