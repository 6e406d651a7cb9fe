"""Which paths are for whom: for everybody, for engines with the token of their run, for tokens of a narrow scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weft.errors import Forbidden, InsufficientScope
from weft.model import Principal

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH = ("/", "/healthz", "/readyz")


class Doors:
    """Knows the paths of all services."""

    def __init__(self, bases: Mapping[str, str], engine_bases: Iterable[str], own_login: Iterable[str] = ()) -> None:
        """Keep what was built.

        :param bases: base path -> the word that scopes have for it (``tes``, ``wes``), or nothing.
        :param engine_bases: the base paths that the token of a run opens.
        :param own_login: paths whose POSTs find out by themselves who asks, as do those below.
        """
        self._words = {f"{base}/": word for base, word in bases.items()}
        self._engine = tuple(f"{base}/" for base in engine_bases)
        self._own_login = tuple(own_login)
        self._own_login_below = tuple(f"{path}/" for path in self._own_login)
        self._ui = tuple(f"{base}/ui/" for base in bases)
        self._information = frozenset(f"{base}/service-info" for base in bases)
        self._open = self._information.union(_HEALTH, (f"{base}/openapi.json" for base in bases))

    def is_page(self, path: str) -> bool:
        """Tell whether people look at this path with a browser."""
        return path == "/" or path.startswith(self._ui)

    def is_information(self, path: str) -> bool:
        """Tell whether this is a service-info, which every page of every site may read."""
        return path in self._information

    def is_open(self, path: str) -> bool:
        """Tell whether nobody needs to log in for this path."""
        return path in self._open or path.startswith(self._ui)

    def has_own_login(self, method: str, path: str) -> bool:
        """Tell whether this is no matter of the gate: nodes sign each request that they post."""
        return method == "POST" and (path in self._own_login or path.startswith(self._own_login_below))

    def check(self, principal: Principal, method: str, path: str) -> None:
        """Refuse what the credential that was shown does not open, whoever it is of.

        :raises Forbidden: the token of a run, elsewhere than at the task API.
        :raises InsufficientScope: the token is limited to other things; says which scope is missing.
        """
        if principal.run is not None and not path.startswith(self._engine):
            raise Forbidden("the token of a run opens the task API alone")
        if principal.scopes is None or self.is_open(path):
            return
        word = next((word for base, word in self._words.items() if path.startswith(base)), "")
        scope = f"{word}:{'read' if method in _READING else 'write'}"
        if scope not in principal.scopes:
            raise InsufficientScope(f"this needs a token of the scope {scope}" if word else "the token is too narrow")
