"""Which stager moves a URL: found by scheme, loaded at its first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import Any

from weft.errors import InvalidRequest
from weft.plugins import PluginBroken, Plugins
from weft.ports import Root, Stager
from weft.sections.transfer import StorageProfile
from weft.staging import http
from weft.staging.profiles import Profiles
from weft.staging.urls import scheme_of, shown

__all__ = ["Root", "Stagers", "installed"]

Load = Callable[[], Stager]

#: Not asked at all where the settings give it no scheme.
_FSSPEC = "fsspec"


def installed(settings: Any) -> Stagers:
    """Return the stagers of all installed plug-ins; none is imported before it is needed."""
    plugins = Plugins("weft.stagers")

    def loader(name: str) -> Load:
        return lambda: plugins.load(name)(settings)

    wanted = (name for name in plugins.names if name != _FSSPEC or settings.fsspec.schemes)

    def of_profile(_name: str, profile: StorageProfile) -> Stager:
        if profile.bearer is not None:
            return http.with_bearer(settings, profile.bearer.get_secret_value())
        stager: Stager = plugins.load("s3")(settings.model_copy(update={"s3": profile.s3}))
        return stager

    return Stagers({name: loader(name) for name in wanted}, profiles=Profiles(settings.storage, of_profile))


class Stagers:
    """Stagers by scheme. A loader's name is a scheme that it serves; its stager may serve others too."""

    def __init__(
        self, loaders: Mapping[str, Load], roots: Sequence[Root] = (), *, profiles: Profiles | None = None
    ) -> None:
        """Keep how to make each stager, the folders that these may use beyond the settings, and the credentials."""
        self.roots = tuple(roots)
        self._profiles = profiles
        self._project: str | None = None
        self._loaders = dict(loaders)
        self._by_scheme: dict[str, Stager] = {}
        self._lock = RLock()

    def with_roots(self, roots: Sequence[Root]) -> Stagers:
        """Return the same stagers with more folders for ``file://`` URLs and bare paths."""
        if not roots:
            return self
        more = Stagers({}, (*self.roots, *roots), profiles=self._profiles)
        more._loaders = {name: self._rooted(name, tuple(roots)) for name in self._loaders}
        more._project = self._project
        return more

    def for_project(self, project: str | None) -> Stagers:
        """Return the same stagers with the credentials that jobs of ``project`` may use."""
        if self._profiles is None or project is None:
            return self
        more = Stagers(self._loaders, self.roots, profiles=self._profiles)
        more._by_scheme, more._lock, more._project = self._by_scheme, self._lock, project
        return more

    def for_url(self, url: str) -> Stager:
        """Return the stager for ``url``.

        :raises InvalidRequest: no such scheme (lists those that there are), or credentials in the URL.
        """
        scheme = scheme_of(url)
        own = None if self._profiles is None else self._profiles.find(url, self._project)
        if own is not None:
            return own
        if scheme not in self._by_scheme:
            self._load(scheme)
        if scheme not in self._by_scheme:
            raise InvalidRequest(
                f"{shown(url)}: scheme {scheme or 'file'!r} is not supported here",
                field="url",
                remedy=f"one of: {', '.join(self.schemes)}",
            )
        return self._by_scheme[scheme]

    def check_url(self, url: str, *, writing: bool, roots: Sequence[Root] = ()) -> None:
        """Refuse a URL that can never work here. No network.

        :raises InvalidRequest: malformed, unknown scheme, credentials, or not possible for this scheme.
        :raises Forbidden: not allowed by this server's settings.
        """
        self.for_url(url).with_roots(roots).check(url, writing=writing)

    @property
    def schemes(self) -> tuple[str, ...]:
        """Every scheme that works here, sorted; loads all stagers."""
        self._load(None)
        served = self._by_scheme.items()
        return tuple(sorted(scheme for scheme, stager in served if scheme and scheme in stager.schemes))

    def _rooted(self, name: str, roots: tuple[Root, ...]) -> Load:
        return lambda: self._stager(name).with_roots(roots)

    def _stager(self, name: str) -> Stager:
        with self._lock:
            if name not in self._by_scheme:
                self._add(name)
            return self._by_scheme[name]

    def _load(self, scheme: str | None) -> None:
        """Load the stager that is named by the scheme; else one after the other until the scheme is served."""
        with self._lock:
            if scheme in self._loaders:
                self._add(str(scheme))
                return
            for name in self._loaders:
                if scheme is not None and scheme in self._by_scheme:
                    return
                if name not in self._by_scheme:
                    try:
                        self._add(name)
                    except InvalidRequest:
                        continue

    def _add(self, name: str) -> None:
        try:
            stager = self._loaders[name]()
        except PluginBroken as error:
            raise InvalidRequest(f"{name}:// is not usable on this server: {error.message}", field="url") from error
        for scheme in stager.schemes | {name}:
            self._by_scheme.setdefault(scheme, stager)
