"""Write entries: many callers, one transaction, one fsync. Who is answered has its entry on disk.

No audit, no action: a caller waits for its entry before it acts, and gets ``Unavailable`` when it cannot be written.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from weft.audit import chain
from weft.audit.checkpoints import Sealer, read
from weft.audit.entry import Entry
from weft.clock import Clock
from weft.errors import Unavailable, WeftError
from weft.store.audit_table import AuditRow, AuditTable

log = logging.getLogger(__name__)

_BATCH = 512
#: Where entries came together the last time, others are let join them: a pause in seconds that spares commits.
_LINGER = 0.002
#: A checkpoint is made when so many entries are not sealed, or the first of them is so old (seconds).
SEAL_ENTRIES = 1000
SEAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    #: None: nobody waits.
    future: Future[None] | asyncio.Future[None] | None


class Journal:
    """The one writer of a process; other processes may write to the same record."""

    def __init__(self, table: AuditTable, sealer: Sealer, *, node: str, clock: Clock) -> None:
        """Assign; ``start`` begins.

        :param node: names this installation in each entry.
        """
        self.table = table
        self._sealer = sealer
        self._node = node
        self._clock = clock
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._gate = threading.Lock()
        self._unsealed = 0
        self._seal_at = 0.0  # the first entry is sealed at once
        self._tail: AuditRow | None = None
        #: How many entries came together the last time.
        self._crowd = 0

    def start(self) -> None:
        """Open the record, look whether it is the one that was sealed, and begin to write.

        :raises Unavailable: the record cannot be opened, or its end is gone.
        """
        self.table.start()
        self._refuse_a_shorter_record()
        self._thread = threading.Thread(target=self._work, name="weft-audit", daemon=True)
        self._thread.start()
        self.append(Entry(at=self._clock(), action="record.open"))

    def stop(self) -> None:
        """Write what waits, seal it, and close the record."""
        with self._gate:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self.table.stop()

    def append(self, entry: Entry) -> None:
        """Write an entry; it is on disk when this returns. Not for the event loop.

        :raises Unavailable: it could not be written.
        """
        future: Future[None] = Future()
        self._put(_Waiting(entry, future))
        future.result()

    async def append_soon(self, entry: Entry) -> None:
        """Like ``append``, for an event loop that answers others meanwhile."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Waiting(entry, future))
        await future

    def note(self, entry: Entry) -> None:
        """Write an entry for which nobody waits."""
        self._put(_Waiting(entry, None))

    def _put(self, waiting: _Waiting) -> None:
        with self._gate:
            if self._thread is None:
                raise Unavailable("the audit record is closed")
            self._queue.put(waiting)

    def _refuse_a_shorter_record(self) -> None:
        """Compare the record's end with the last checkpoint.

        :raises Unavailable: what was sealed is not there.
        """
        last = max(read(self._sealer.file), key=lambda checkpoint: checkpoint.seq, default=None)
        if last is None:
            return
        row = self.table.row(last.seq)
        if row is None or row.hash.hex() != last.hash:
            raise Unavailable(
                f"entry {last.seq} of the audit record was sealed, and is gone or changed",
                remedy="find out with weft audit verify; restore the record, or keep it apart and begin a new one",
            )

    # -- the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._take()
            if batch:
                self._crowd = len(batch)
                self._write(batch)
            if self._unsealed and (last or self._unsealed >= SEAL_ENTRIES or self._clock() >= self._seal_at):
                self._seal()

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Wait for an entry, but not longer than until a checkpoint is due; True when the thread shall end."""
        batch: list[_Waiting] = []
        try:
            item = self._queue.get(timeout=SEAL_SECONDS if self._unsealed else None)
            if self._crowd > 1:
                time.sleep(_LINGER)
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH or self._queue.empty():
                    return batch, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: Sequence[_Waiting]) -> None:
        error: Unavailable | None = None
        try:
            self._tail = self.table.append(lambda tail, pseudonym: self._rows(batch, tail, pseudonym))
        except Exception as cause:
            log.exception("the audit record was not written")
            error = Unavailable(f"the audit record cannot be written: {_words(cause)}")
        else:
            self._unsealed += len(batch)
        _tell([waiting.future for waiting in batch if waiting.future is not None], error)

    def _rows(
        self, batch: Sequence[_Waiting], tail: AuditRow | None, pseudonym: Callable[[str], str]
    ) -> list[AuditRow]:
        rows = []
        for waiting in batch:
            entry = waiting.entry
            actor = None if entry.actor is None else pseudonym(entry.actor)
            tail = chain.follow(tail, entry, node=self._node, actor=actor)
            rows.append(tail)
        return rows

    def _seal(self) -> None:
        if self._tail is None:
            return
        try:
            self._sealer.seal(self._tail, self._clock())
        except OSError as error:
            log.error("no checkpoint of the audit record could be made: %s", error)
            return
        finally:
            self._seal_at = self._clock() + SEAL_SECONDS
        self._unsealed = 0


def _tell(futures: Sequence[Future[None] | asyncio.Future[None]], error: Unavailable | None) -> None:
    """Tell those who wait; each event loop is woken once."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        if isinstance(future, asyncio.Future):
            loops.setdefault(future.get_loop(), []).append(future)
        else:
            _settle([future], error)
    for loop, its in loops.items():
        with suppress(RuntimeError):  # the loop has ended, and with it all who waited there
            loop.call_soon_threadsafe(_settle, its, error)


def _settle(futures: Sequence[Future[None] | asyncio.Future[None]], error: Unavailable | None) -> None:
    for future in futures:
        if future.done():  # who waited is gone
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(Unavailable(error.message))


def _words(error: Exception) -> str:
    return error.message if isinstance(error, WeftError) else str(error)
