"""``drs://HOST/ID``: objects and bundles of the GA4GH Data Repository Service 1.x, read only.

The object says how its bytes may be had; the ways are tried in the order of ``PREFERENCE``, each through the stager of
its scheme and under that one's rules, then size and checksum are held against the object's. A bundle is a DIRECTORY;
``drs://HOST/ID#path`` names a file in it. Compact identifiers, which need a resolver of others, are refused.
https://ga4gh.github.io/data-repository-service-schemas/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed, Unavailable, WeftError
from weft.model import FileType, JsonObject
from weft.ports import Entry, Stager
from weft.sections.transfer import DrsSettings
from weft.staging.checksums import check_file
from weft.staging.guard import GuardedClient
from weft.staging.stagers import Stagers, installed
from weft.staging.urls import shown

#: Types of access methods, the best first; ``file`` is left out, because the files of this host are not the server's.
PREFERENCE = ("https", "http", "s3", "gs", "ftp")
_LARGEST_DOCUMENT = 64 << 20
_DEEPEST = 32
_REMEMBERED_SECONDS = 60.0
_MOST_REMEMBERED = 32
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "range", "if-range", "accept-encoding"})


def create(settings: Settings) -> Stager:
    """Return the stager; the others that it uses are made at its first download."""
    return DrsStager(settings.drs, GuardedClient(settings.fetch), lambda: installed(settings))


@dataclass(frozen=True, slots=True)
class _File:
    """A file below a bundle."""

    url: str
    size_bytes: int | None


class DrsStager(Stager):
    """Reads objects and bundles."""

    schemes = frozenset({"drs"})

    def __init__(
        self,
        settings: DrsSettings,
        client: GuardedClient,
        others: Callable[[], Stagers],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the client for the API, and how to get the stagers for what it names."""
        self._tokens = {host.lower(): token for host, token in settings.tokens.items()}
        self._http_hosts = frozenset(host.lower() for host in settings.http_hosts)
        self._client = client
        self._others = others
        self._now = now
        self._lock = Lock()
        self._bundles: dict[str, tuple[float, Mapping[str, _File]]] = {}

    def check(self, url: str, *, writing: bool) -> None:
        """Ask the guard about the API's host.

        :raises InvalidRequest: a compact identifier, no id, or a URL to write to.
        """
        if writing:
            raise InvalidRequest(f"{shown(url)}: DRS objects cannot be written", field="url", remedy="another scheme")
        self._client.check(self._api(url))

    def download(self, url: str, target: Path) -> None:
        """Fetch an object by the first way that works, and verify it."""
        inside = unquote(urlsplit(url).fragment)
        if inside:
            self._download_from_bundle(url, inside, target)
            return
        found = self._object(url)
        if "contents" in found and not found.get("access_methods"):
            raise StagingFailed(f"{shown(url)} is a bundle, not a file")
        part = target.with_name(f"{target.name}.drs")
        try:
            self._fetch(url, found, part)
            _verify(url, found, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def list(self, url: str) -> Iterable[Entry]:
        """List the files of a bundle; an object that is none has no files below it."""
        return [Entry(path=path, size_bytes=file.size_bytes) for path, file in self._bundle(url).items()]

    def upload(self, source: Path, url: str) -> None:
        """DRS has no way to write."""
        raise StagingFailed(f"{shown(url)}: DRS objects cannot be written")

    def kind(self, url: str) -> FileType | None:
        """Tell a bundle, which has contents and no bytes of its own, from a file."""
        if urlsplit(url).fragment:
            return FileType.FILE
        found = self._object(url)
        return FileType.DIRECTORY if "contents" in found and not found.get("access_methods") else FileType.FILE

    def join(self, url: str, relative: str) -> str:
        """Name a file of a bundle."""
        return f"{url}#{quote(relative)}"

    def _download_from_bundle(self, url: str, inside: str, target: Path) -> None:
        bundle = url.partition("#")[0]
        file = self._bundle(bundle).get(inside)
        if file is None:
            raise StagingFailed(f"{shown(bundle)} has no file {inside!r}")
        self.download(file.url, target)

    def _fetch(self, url: str, found: JsonObject, target: Path) -> None:
        """Try the ways in order; what is said of each that failed ends in the error."""
        failures: list[WeftError] = []
        for method in sorted(_usable(found), key=lambda method: PREFERENCE.index(method["type"])):
            try:
                self._fetch_by(url, method, target)
                return
            except WeftError as error:
                failures.append(error)
        if not failures:
            offered = ", ".join(str(way.get("type")) for way in found.get("access_methods") or ()) or "none"
            raise StagingFailed(f"{shown(url)} offers no way that works here: {offered}")
        kind = Unavailable if any(isinstance(error, Unavailable) for error in failures) else StagingFailed
        raise kind(f"{shown(url)}: {'; '.join(error.message for error in failures)}")

    def _fetch_by(self, url: str, method: JsonObject, target: Path) -> None:
        access = method.get("access_url")
        if not access:
            where = f"{self._api(url)}/access/{quote(str(method['access_id']), safe='')}"
            access = self._json(url, where)
        there = str(access.get("url", ""))
        headers = dict(_headers(access.get("headers") or ()))
        scheme = urlsplit(there).scheme.lower()
        if scheme in ("http", "https"):
            self._client.download(there, target, headers=headers)
        elif scheme in PREFERENCE:
            stager = self._others().for_url(there)
            stager.check(there, writing=False)
            stager.download(there, target)
        else:
            raise StagingFailed(f"an access URL of scheme {scheme!r}")

    def _bundle(self, url: str) -> Mapping[str, _File]:
        """Return the files of a bundle; they are remembered for a minute, since each download asks again."""
        with self._lock:
            known = self._bundles.get(url)
            if known is not None and self._now() - known[0] < _REMEMBERED_SECONDS:
                return known[1]
        files = dict(self._files(url, self._object(url), "", 0))
        with self._lock:
            while len(self._bundles) >= _MOST_REMEMBERED:
                self._bundles.pop(next(iter(self._bundles)))
            self._bundles[url] = (self._now(), files)
        return files

    def _files(self, url: str, found: JsonObject, above: str, depth: int) -> Iterator[tuple[str, _File]]:
        if depth > _DEEPEST:
            raise StagingFailed(f"bundles nested deeper than {_DEEPEST} at {shown(url)}")
        for item in found.get("contents") or ():
            there = _url_of(url, item)
            inner = self._object(there)
            path = f"{above}{item['name']}"
            if "contents" in inner and not inner.get("access_methods"):
                yield from self._files(there, inner, f"{path}/", depth + 1)
            else:
                yield path, _File(there, inner.get("size"))

    def _object(self, url: str) -> JsonObject:
        return self._json(url, self._api(url))

    def _json(self, url: str, where: str) -> JsonObject:
        token = self._tokens.get((urlsplit(url).hostname or "").lower())
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        body = self._client.get_bytes(where, _LARGEST_DOCUMENT, headers={"Accept": "application/json", **headers})
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise StagingFailed(f"the answer for {shown(url)} is not JSON") from error
        if not isinstance(document, dict):
            raise StagingFailed(f"the answer for {shown(url)} is no object")
        return document

    def _api(self, url: str) -> str:
        """Return where the object's document is (DRS 1.x, hostname-based URIs)."""
        parts = urlsplit(url)
        name = unquote(parts.path.removeprefix("/"))
        if not name or parts.query:
            raise InvalidRequest(f"{shown(url)!r} names no DRS object", field="url", remedy="drs://HOST/ID")
        port = parts.netloc.rpartition("]")[2].partition(":")[2]
        if port and not port.isdigit():
            raise InvalidRequest(
                f"{shown(url)!r} is a compact identifier", field="url", remedy="drs://HOST/ID with the server's name"
            )
        scheme = "http" if parts.netloc.lower() in self._http_hosts else "https"
        return f"{scheme}://{parts.netloc}/ga4gh/drs/v1/objects/{quote(name, safe='')}"


def _usable(found: JsonObject) -> list[JsonObject]:
    """Return the ways that have a type known here and say where."""
    return [
        method
        for method in found.get("access_methods") or ()
        if method.get("type") in PREFERENCE and (method.get("access_url") or method.get("access_id"))
    ]


def _headers(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Read the headers that an access URL wants, without those that steer the connection itself."""
    for line in lines:
        name, colon, value = str(line).partition(":")
        if colon and name.strip().lower() not in _OURS:
            yield name.strip(), value.strip()


def _url_of(bundle: str, item: Mapping[str, Any]) -> str:
    """Return the URL of an item of a bundle: by its id at the same server, else by the first URI that it has."""
    if item.get("id"):
        return f"drs://{urlsplit(bundle).netloc}/{quote(str(item['id']), safe='')}"
    for uri in item.get("drs_uri") or ():
        return str(uri)
    raise StagingFailed(f"{item.get('name')!r} in the bundle {shown(bundle)} has neither id nor URI")


def _verify(url: str, found: JsonObject, path: Path) -> None:
    """Hold what was fetched against the size and the strongest checksum that the object names."""
    size = path.stat().st_size
    if isinstance(found.get("size"), int) and size != found["size"]:
        raise StagingFailed(f"{size} bytes instead of {found['size']} at {shown(url)}")
    check_file(path, found.get("checksums") or (), shown(url))
