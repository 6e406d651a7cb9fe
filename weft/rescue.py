"""After a death: native jobs that no live job owns are cancelled and forgotten, and their mounts are removed.

Expired leases are taken over by ``worker`` itself (``store.take_over``), and each ``dispatch.Drive`` adopts what it
finds; this is the last net: what a dead worker submitted for a job that has ended since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.errors import Unavailable
from weft.folders import Folders
from weft.logs import get_logger
from weft.ports import Executor
from weft.store.store import Store

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Removes orphans."""

    store: Store
    executors: Mapping[str, Executor]
    folders: Folders

    def sweep(self) -> None:
        """Look once at every executor. The native jobs are listed first: a job submitted later is never an orphan."""
        marked = self.folders.marked()
        for executor in self.executors.values():
            try:
                self._sweep_one(executor)
            except Unavailable as error:
                log.warning("sweep put off", executor=executor.capabilities.name, error=error.message)
                return  # something native may still write into a folder
        alive = self.store.live_keys()
        for key in marked:
            if key not in alive:
                log.warning("folder cleared", key=key)
                self.folders.clear(key)

    def _sweep_one(self, executor: Executor) -> None:
        native = list(executor.list())
        alive = self.store.live_keys()
        for key, handle in native:
            if key not in alive:
                log.warning("orphan removed", key=key, executor=handle.executor, native=handle.native_id)
                executor.cancel(handle)
                executor.forget(handle)
