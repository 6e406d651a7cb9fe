"""Time and new names, as arguments: production passes these, tests pass their own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

Clock = Callable[[], float]
NewId = Callable[[float], str]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: sorts as it counts
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def system_clock() -> float:
    """Seconds since the epoch."""
    return time.time()


def new_id(now: float) -> str:
    """Return a new job id: 26 characters that sort by time (48 bits of milliseconds, 80 random bits; ULID).

    An id is no secret, it only has to be new; asking the kernel for its bits would give up the interpreter's lock.
    """
    number = (int(now * 1000) << 80) | random.getrandbits(80)
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])
