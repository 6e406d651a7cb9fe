"""Stand-ins at the ports, for tests of one side alone."""

from __future__ import annotations

from weft.clock import new_id
from weft.errors import Unavailable
from weft.model import Principal


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds


class Ids:
    """New job ids that sort in the order in which they were given, even if the clock stands still."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, now: float) -> str:
        self._count += 1
        return new_id(now + self._count / 1000)


class Tokens:
    """Tokens by hand, for ``weft.auth.access.Access``."""

    def __init__(self, known: dict[str, Principal] | None = None) -> None:
        self.known = known or {}
        self.broken = False

    def find_token(self, token: str, *, now: float) -> Principal | None:
        if self.broken:
            raise Unavailable("the database does not answer")
        return self.known.get(token)
