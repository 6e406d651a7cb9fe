"""Which of the site's credentials go with a URL: named profiles, each for addresses below its prefixes.

A job never names a profile: the longest prefix that covers its URL decides, among the profiles that are for everybody
or for the job's project. Without one, the scheme's own settings are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from urllib.parse import unquote, urlsplit

from weft.ports import Stager
from weft.sections.transfer import StorageProfile
from weft.staging.urls import authority, path_of

Make = Callable[[str, StorageProfile], Stager]
_DOTS = frozenset({".", ".."})


class Profiles:
    """The site's profiles, and a stager for each that was used. May be used from any thread."""

    def __init__(self, profiles: Mapping[str, StorageProfile], make: Make) -> None:
        """Keep the profiles by name, and how to make the stager of one."""
        self._profiles = profiles
        self._make = make
        self._made: dict[str, Stager] = {}
        self._lock = Lock()

    def find(self, url: str, project: str | None) -> Stager | None:
        """Return the stager with the credentials for ``url`` that jobs of ``project`` may use."""
        fitting = [
            (len(prefix), name)
            for name, profile in self._profiles.items()
            if not profile.projects or project in profile.projects
            for prefix in profile.prefixes
            if covers(prefix, url)
        ]
        if not fitting:
            return None
        _, name = max(fitting)
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name, self._profiles[name])
            return self._made[name]


def covers(prefix: str, url: str) -> bool:
    """Tell whether ``url`` is ``prefix`` or lies below it, part by part; nothing with dots in its path is covered."""
    try:
        kind, site, parts = _split(url)
    except ValueError:  # no URL: others say so
        return False
    its_kind, its_site, its_parts = _split(prefix)
    return (kind, site, parts[: len(its_parts)]) == (its_kind, its_site, its_parts) and _DOTS.isdisjoint(parts)


def _split(url: str) -> tuple[str, str, list[str]]:
    scheme, _, _ = url.partition(":")
    if scheme.lower() in ("http", "https"):
        found = urlsplit(url)
        path = unquote(found.path)
        site = found.netloc.lower()
    else:
        path, site = path_of(url), authority(url)
    return scheme.lower(), site, path.strip("/").replace("\\", "/").split("/") if path.strip("/") else []
