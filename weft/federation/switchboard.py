"""Nodes that wait for work: one event on the loop for each, woken by the store's bell; no thread, no look by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from weft.logs import get_logger

log = get_logger(__name__)


class Switchboard:
    """Wakes the waiting request of a node when there is something for it."""

    def __init__(self, due: Callable[[], frozenset[str]]) -> None:
        """Keep how to ask which nodes have to be told something; it is asked once after each ring, if anybody waits."""
        self._due = due
        self._waiting: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = False
        self._closed = False

    def ring(self) -> None:
        """Note that the store changed; called from any thread."""
        loop = self._loop
        if loop is not None and not self._rung and self._waiting:
            self._rung = True
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(self._look)

    def close(self) -> None:
        """Answer all who wait, and let nobody wait any more: the server stops."""
        self._closed = True
        for event in self._waiting.values():
            event.set()

    @contextmanager
    def line(self, node: str) -> Iterator[asyncio.Event]:
        """Give the event of a node from now on; who waited for the same node before is answered, empty-handed."""
        self._loop = asyncio.get_running_loop()
        earlier = self._waiting.get(node)
        if earlier is not None:
            earlier.set()
        event = self._waiting[node] = asyncio.Event()
        if self._closed:
            event.set()
        try:
            yield event
        finally:
            if self._waiting.get(node) is event:
                del self._waiting[node]

    def is_last(self, node: str, event: asyncio.Event) -> bool:
        """Tell whether nobody has come for this node since."""
        return self._waiting.get(node) is event

    def _look(self) -> None:
        self._rung = False
        if not self._waiting:
            return
        try:
            due = self._due()
        except Exception as error:  # the next ring, or the end of the wait, looks again
            log.warning("switchboard could not look", error=repr(error))
            return
        for node in due & self._waiting.keys():
            self._waiting[node].set()
