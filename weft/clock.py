"""Time and new names, as arguments: production passes these, tests pass their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Clock = Callable[[], float]
NewId = Callable[[float], str]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: sorts as it counts


def system_clock() -> float:
    """Seconds since the epoch."""
    return time.time()


def new_id(now: float) -> str:
    """Return a new job id: 26 characters that sort by time (48 bits of milliseconds, 80 random bits; ULID)."""
    number = (int(now * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
