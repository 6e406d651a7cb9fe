"""What was found out a moment ago, kept for so long and for no more than so many."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Values by digest, each with its end. A look costs a dictionary's; may be used from any thread."""

    def __init__(self, most: int) -> None:
        """Hold at most ``most``; the oldest goes first."""
        self._most = most
        self._values: dict[bytes, tuple[float, Value]] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes, now: float) -> Value | None:
        """Return what is known, unless its time is over."""
        found = self._values.get(key)
        return found[1] if found is not None and now < found[0] else None

    def put(self, key: bytes, value: Value, *, until: float) -> None:
        """Keep ``value`` until then."""
        with self._lock:
            self._values.pop(key, None)
            while len(self._values) >= self._most:
                del self._values[next(iter(self._values))]
            self._values[key] = (until, value)
