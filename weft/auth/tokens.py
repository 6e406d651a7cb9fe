"""What the kernel needs to know of tokens that weft itself gave out."""

from __future__ import annotations

from typing import Protocol

from weft.model import Principal


class Tokens(Protocol):
    """The part of the store that is needed here."""

    def find_token(self, token: str, *, now: float) -> Principal | None:
        """Return whom this token stands for, unless it is unknown or expired."""
        ...
