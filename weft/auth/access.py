"""From the ``Authorization`` header to a Principal.

Without a login configured everybody is the same anonymous person, whatever credentials they send: several clients
send ``Basic None:None`` or a left-over bearer token. A bearer token that weft itself gave out (to an engine, bound
to its run) is always honoured, and over the engines' Unix socket such a token is required.
"""

from __future__ import annotations

from typing import Protocol

from weft.clock import Clock
from weft.errors import Unauthenticated
from weft.model import Principal

ANONYMOUS = Principal(issuer="local", subject="anonymous")


class Tokens(Protocol):
    """The part of the store that is needed here."""

    def find_token(self, token: str, *, now: float) -> Principal | None:
        """Return whom this token stands for, unless it is unknown or expired."""
        ...


class Access:
    """Decides who asks."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def principal(self, token: str | None, *, engine_door: bool) -> Principal:
        """Return whom ``token`` stands for.

        :param engine_door: the request came over the Unix socket, which is for engines alone.
        :raises Unauthenticated: an engine without a valid token of its run.
        """
        known = None if token is None else self._tokens.find_token(token, now=self._clock())
        if known is not None and (known.run is not None or not engine_door):
            return known
        if engine_door:
            raise Unauthenticated("this socket is for workflow engines: send the bearer token of the run")
        return ANONYMOUS


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of a ``Bearer`` header; None for any other scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None
