"""Leases that a clock that was set back has made too long: waited for by a clock that never is.

A lease is a moment on the clock of the wall. Where that clock jumps back by an hour, the leases of a worker that died
just before would hold for an hour. So a lease that ends further away than any lease given now, and that nobody
renewed for as long as a lease lasts, has expired. A worker that lives renews its leases long before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

#: A job's id, and when its lease ends.
Lease = tuple[str, float]


class Patience:
    """Remembers since when each lease stands as it does."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Assign. ``monotonic`` gives seconds, from any beginning, and never jumps."""
        self._monotonic = monotonic
        self._since: dict[Lease, float] = {}
        self._lock = threading.Lock()

    def overdue(self, leases: Iterable[Lease], seconds: float) -> list[Lease]:
        """Return those among ``leases`` that were the same at each call of the last ``seconds``; forget all others."""
        now = self._monotonic()
        with self._lock:
            self._since = {lease: self._since.get(lease, now) for lease in leases}
            return [lease for lease, since in self._since.items() if now - since >= seconds]
