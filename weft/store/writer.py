"""One thread that writes: many callers, one transaction, one fsync.

A caller hands over an operation and waits. The thread takes what waits, runs each operation in a savepoint of its
own, commits once, and only then tells the callers. An operation that raises is undone alone. When the commit itself
fails, nobody is told a success: every caller of the batch gets ``Unavailable``.

Other processes write to PostgreSQL at the same time. Who loses a race for a row (a deadlock, an idempotency key) has
its whole batch undone and done again: operations know nothing but their arguments and the database. Savepoints cost
journeys to the server there, so a batch goes without them, and is done again with them when an operation raises.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from weft.errors import Bug, Unavailable, WeftError
from weft.store.dialect import Contended
from weft.store.link import Link

log = logging.getLogger(__name__)
T = TypeVar("T")
#: What an operation returned, or what it raised.
_Outcome = tuple[Any, Exception | None]

#: Operations in one transaction: bounds how long another process waits, and how much one failure undoes.
_BATCH = 256
#: Tries of a batch that loses races with other processes, and the pause after the first one, in seconds.
_TRIES = 8
_PAUSE = 0.002


@dataclass(frozen=True, slots=True)
class _Waiting:
    operation: Callable[[Link], Any]
    future: Future[Any]
    rings: bool


class Writer:
    """The writer thread. ``rang`` is called in it after each commit that others want to hear of."""

    def __init__(self, connect: Callable[[], Link], rang: Callable[[], None]) -> None:
        """Assign; ``start`` begins."""
        self._connect = connect
        self._rang = rang
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        #: Transactions committed since the start; with ``operations`` it shows how well commits are shared.
        self.commits = 0
        #: Operations that those transactions held.
        self.operations = 0

    def start(self) -> None:
        """Start the thread."""
        with self._gate:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="weft-store-writer", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end the thread."""
        with self._gate:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()

    def submit(self, operation: Callable[[Link], T], *, rings: bool = False) -> Future[T]:
        """Queue ``operation``; its future is done when its change is on disk.

        :raises Unavailable: the store is not started.
        """
        future: Future[T] = Future()
        with self._gate:
            if self._thread is None:
                raise Unavailable("the store is stopped")
            self._queue.put(_Waiting(operation, future, rings))
        return future

    def run(self, operation: Callable[[Link], T], *, rings: bool = False) -> T:
        """Run ``operation`` and return what it returns, once it is on disk.

        :raises Unavailable: nothing was written.
        :raises Bug: called in the writer's own thread, where it would wait for ever.
        """
        if threading.current_thread() is self._thread:
            raise Bug("a listener of the store must not write to it")
        return self.submit(operation, rings=rings).result()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._take()
            if batch:
                self._write(batch)
        self._drop_link()

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Wait for one operation and take what else is there; True when the thread shall end."""
        batch: list[_Waiting] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH or self._queue.empty():
                return batch, False
            item = self._queue.get_nowait()
        return batch, True

    def _write(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = self._transact_patiently(batch)
        except Exception as error:
            traceback = not isinstance(error, Unavailable)
            log.error("a transaction was not written: %s", error, exc_info=traceback, extra={"operations": len(batch)})
            self._drop_link()
            _fail(batch, error)
            return
        self.commits += 1
        self.operations += len(batch)
        rings = False
        for waiting, (result, failure) in zip(batch, outcomes, strict=True):
            if failure is not None:
                waiting.future.set_exception(failure)
            else:
                rings = rings or waiting.rings
                waiting.future.set_result(result)
        if rings:
            self._ring()

    def _transact_patiently(self, batch: list[_Waiting]) -> list[_Outcome]:
        """Write the batch, again and again while other processes are in the way.

        :raises Contended: they always were.
        """
        for attempt in range(_TRIES):
            try:
                return self._transact(batch)
            except Contended:
                if attempt == _TRIES - 1 or self._link is None:
                    raise
                self._link.send("ROLLBACK")
                time.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311 - so that two do not meet again
        raise AssertionError("unreachable")

    def _transact(self, batch: list[_Waiting]) -> list[_Outcome]:
        link = self._fresh_link()
        if link.is_remote:
            outcomes = self._transact_whole(link, batch)
            if outcomes is not None:
                return outcomes
            link = self._fresh_link()
        link.begin()
        outcomes = [_attempt(link, waiting.operation) for waiting in batch]
        link.send("COMMIT")
        return outcomes

    def _transact_whole(self, link: Link, batch: list[_Waiting]) -> list[_Outcome] | None:
        """Write the batch without savepoints; None when an operation failed, and nothing is written."""
        try:
            with link.together():
                link.begin()
                outcomes: list[_Outcome] = [(waiting.operation(link), None) for waiting in batch]
                end: Any = link.send("COMMIT")
        except Exception as error:
            if isinstance(error, Unavailable) or not link.in_transaction:
                raise
            link.send("ROLLBACK")
            return None
        if end.statusmessage != "COMMIT":  # PostgreSQL's answer where an error was overlooked
            raise Bug("a transaction was rolled back at its end")
        return outcomes

    def _fresh_link(self) -> Link:
        if self._link is not None and self._link.is_stale:
            self._drop_link()
        link = self._link = self._link or self._connect()
        return link

    def _drop_link(self) -> None:
        """Close the connection, which undoes what is open; the next batch gets a fresh one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _ring(self) -> None:
        try:
            self._rang()
        except Exception:
            log.exception("a listener failed")


def _attempt(link: Link, operation: Callable[[Link], Any]) -> _Outcome:
    """Run one operation in its savepoint.

    :raises Exception: the whole transaction is gone (a full disk does that), so nothing of the batch may count.
    """
    link.send("SAVEPOINT operation")
    try:
        result = operation(link)
    except Exception as error:
        if isinstance(error, Unavailable) or not link.in_transaction:
            raise
        link.send("ROLLBACK TO operation")
        link.send("RELEASE operation")
        return None, error
    link.send("RELEASE operation")
    return result, None


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        reason = error.message if isinstance(error, WeftError) else str(error)
        failure = Unavailable(reason)
        failure.__cause__ = error
        waiting.future.set_exception(failure)
