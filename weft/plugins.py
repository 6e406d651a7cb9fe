"""Find the classes behind the ports by entry point: ``weft.executors``, ``weft.stagers``, ``weft.engines``.

Nothing is imported by looking; a plug-in that fails to import is kept with its exception and reported on use, so
an installation without boto3 still starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any

from weft.errors import InvalidRequest, WeftError

Factory = Callable[..., Any]


class PluginBroken(WeftError):
    """A plug-in is installed but cannot be imported."""

    status = 503


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that failed to import, and why."""

    name: str
    error: Exception


class Plugins:
    """The plug-ins of one entry point group, each imported at its first use. May be used from any thread."""

    def __init__(self, group: str) -> None:
        """Look up the names; of two distributions with the same name, the first on the path wins."""
        self.group = group
        self._points: dict[str, EntryPoint] = {}
        for point in entry_points(group=group):
            self._points.setdefault(point.name, point)
        self._loaded: dict[str, Factory | Broken] = {}
        self._lock = RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Every installed name, sorted, importable or not."""
        return tuple(sorted(self._points))

    def load(self, name: str) -> Factory:
        """Return the factory named ``name``; it takes the settings.

        :raises InvalidRequest: there is none of this name; lists those that there are.
        :raises PluginBroken: it cannot be imported; says why, each time anew.
        """
        found = self._found(name)
        if isinstance(found, Broken):
            raise PluginBroken(
                f"plug-in {name!r} of {self.group} cannot be imported: {type(found.error).__name__}: {found.error}",
                remedy=f"install what it needs, for instance the extra weft[{name}]",
            ) from found.error
        return found

    def broken(self) -> tuple[Broken, ...]:
        """Try to import every plug-in and return those that fail. For ``weft check``."""
        return tuple(found for found in map(self._found, self.names) if isinstance(found, Broken))

    def _found(self, name: str) -> Factory | Broken:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._import(name)
            return self._loaded[name]

    def _import(self, name: str) -> Factory | Broken:
        point = self._points.get(name)
        if point is None:
            known = ", ".join(self.names) or "none"
            raise InvalidRequest(f"no plug-in {name!r} in {self.group}", remedy=f"one of: {known}")
        try:
            factory: Factory = point.load()
        except Exception as error:  # a stranger's module may fail in any way; it must not stop the start
            return Broken(name, error)
        return factory
