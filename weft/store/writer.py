"""One thread that writes: many callers, one transaction, one fsync.

A caller hands over an operation and waits. The thread takes what waits, runs it all, commits once, and only then
tells the callers. When an operation raises, the batch is undone and done again, each operation in a savepoint of its
own, so that what failed is undone alone: savepoints are paid for when something fails, and not before. When the commit
itself fails, nobody is told a success: every caller of the batch gets ``Unavailable``.

Callers that ask for the same at once may be served at once: ``submit_each`` takes an operation over many arguments,
which sends one statement for all of them.

Other processes write to PostgreSQL at the same time. Who loses a race for a row (a deadlock, an idempotency key) has
its whole batch undone and done again, too: operations know nothing but their arguments and the database.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from weft.errors import Bug, Unavailable, WeftError
from weft.store.dialect import Contended
from weft.store.link import Link

log = logging.getLogger(__name__)
T = TypeVar("T")
A = TypeVar("A")
#: Does for each argument what its caller asked for, and returns a result for each.
Each = Callable[[Link, Sequence[A]], Sequence[T]]
#: What an operation returned, or what it raised.
_Outcome = tuple[Any, Exception | None]

#: Operations in one transaction: bounds how long another process waits, and how much one failure undoes.
_BATCH = 256
#: Tries of a batch that loses races with other processes, and the pause after the first one, in seconds.
_TRIES = 8
_PAUSE = 0.002


class _Waiting(NamedTuple):
    """A caller: what shall be done with which argument, and who is told."""

    each: Each[Any, Any]
    argument: Any
    future: Future[Any] | asyncio.Future[Any]
    #: The event loop that the future belongs to.
    loop: asyncio.AbstractEventLoop | None
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
        return self.submit_each(_one_by_one, operation, rings=rings)

    def submit_each(self, each: Each[A, T], argument: A, *, rings: bool = False) -> Future[T]:
        """Queue ``each`` for one argument, and let it run over the arguments of other callers as well.

        :raises Unavailable: the store is not started.
        """
        future: Future[T] = Future()
        self._put(_Waiting(each, argument, future, None, rings))
        return future

    def submit_soon(self, each: Each[A, T], argument: A, *, rings: bool = False) -> asyncio.Future[T]:
        """Like ``submit_each``, for a coroutine: all that one commit served wake up in one turn of the event loop.

        :raises Unavailable: the store is not started.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Waiting(each, argument, future, loop, rings))
        return future

    def _put(self, waiting: _Waiting) -> None:
        with self._gate:
            if self._thread is None:
                raise Unavailable("the store is stopped")
            self._queue.put(waiting)

    def run(self, operation: Callable[[Link], T], *, rings: bool = False) -> T:
        """Run ``operation`` and return what it returns, once it is on disk.

        :raises Unavailable: nothing was written.
        :raises Bug: called in the writer's own thread, where it would wait for ever.
        """
        return self.run_each(_one_by_one, operation, rings=rings)

    def run_each(self, each: Each[A, T], argument: A, *, rings: bool = False) -> T:
        """Run ``each`` for one argument, as ``submit_each``, and return its result once it is on disk.

        :raises Unavailable: nothing was written.
        :raises Bug: called in the writer's own thread, where it would wait for ever.
        """
        if threading.current_thread() is self._thread:
            raise Bug("a listener of the store must not write to it")
        return self.submit_each(each, argument, rings=rings).result()

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
        _tell(batch, outcomes)
        succeeded = (waiting for waiting, (_, failure) in zip(batch, outcomes, strict=True) if failure is None)
        if any(waiting.rings for waiting in succeeded):
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
        outcomes = self._transact_whole(link, batch)
        if outcomes is not None:
            return outcomes
        link = self._fresh_link()
        link.begin()
        outcomes = [_attempt(link, waiting) for waiting in batch]
        link.send("COMMIT")
        return outcomes

    def _transact_whole(self, link: Link, batch: list[_Waiting]) -> list[_Outcome] | None:
        """Write the batch without savepoints; None when an operation failed, and nothing is written."""
        try:
            with link.together():
                link.begin()
                outcomes: list[_Outcome] = [
                    (result, None)
                    for each, same in groupby(batch, attrgetter("each"))
                    for result in each(link, [waiting.argument for waiting in same])
                ]
                end: Any = link.send("COMMIT")
        except Exception as error:
            if isinstance(error, Unavailable) or not link.in_transaction:
                raise
            link.send("ROLLBACK")
            return None
        if link.is_remote and end.statusmessage != "COMMIT":  # PostgreSQL's answer where an error was overlooked
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


def _one_by_one(link: Link, operations: Sequence[Callable[[Link], T]]) -> list[T]:
    return [operation(link) for operation in operations]


def _attempt(link: Link, waiting: _Waiting) -> _Outcome:
    """Run one operation in its savepoint.

    :raises Exception: the whole transaction is gone (a full disk does that), so nothing of the batch may count.
    """
    link.send("SAVEPOINT operation")
    try:
        (result,) = waiting.each(link, [waiting.argument])
    except Exception as error:
        if isinstance(error, Unavailable) or not link.in_transaction:
            raise
        link.send("ROLLBACK TO operation")
        link.send("RELEASE operation")
        return None, error
    link.send("RELEASE operation")
    return result, None


def _fail(batch: list[_Waiting], error: Exception) -> None:
    reason = error.message if isinstance(error, WeftError) else str(error)
    failures = [Unavailable(reason) for _ in batch]
    for failure in failures:
        failure.__cause__ = error
    _tell(batch, [(None, failure) for failure in failures])


def _tell(batch: Sequence[_Waiting], outcomes: Sequence[_Outcome]) -> None:
    """Give each caller what became of its operation, those of one event loop in one call."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_Waiting, _Outcome]]] = {}
    for told in zip(batch, outcomes, strict=True):
        by_loop.setdefault(told[0].loop, []).append(told)
    for loop, callers in by_loop.items():
        if loop is None:
            _settle(callers)
        else:
            with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
                loop.call_soon_threadsafe(_settle, callers)


def _settle(callers: Iterable[tuple[_Waiting, _Outcome]]) -> None:
    for waiting, (result, failure) in callers:
        if waiting.future.done():  # its caller went away
            continue
        if failure is not None:
            waiting.future.set_exception(failure)
        else:
            waiting.future.set_result(result)
