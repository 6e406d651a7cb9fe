"""``http://`` and ``https://`` URLs: inputs by GET, outputs by PUT, through the guarded client alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from weft.config import Settings
from weft.errors import StagingFailed
from weft.model import FileType
from weft.ports import Entry, Stager
from weft.staging.guard import GuardedClient
from weft.staging.urls import shown


def create(settings: Settings) -> Stager:
    """Return the stager with a client of its own."""
    return HttpStager(GuardedClient(settings.fetch))


def with_bearer(settings: Settings, token: str) -> Stager:
    """Return the stager that shows a token with each request; the guard drops it where a redirect leaves the host."""
    return HttpStager(GuardedClient(settings.fetch), headers={"Authorization": f"Bearer {token}"})


class HttpStager(Stager):
    """Fetches and stores single files."""

    schemes = frozenset({"http", "https"})

    def __init__(self, client: GuardedClient, *, headers: Mapping[str, str] | None = None) -> None:
        """Keep the client, and what each request says besides."""
        self._client = client
        self._headers = headers

    def check(self, url: str, *, writing: bool) -> None:
        """Ask the guard; the same hosts may be read and written."""
        self._client.check(url)

    def download(self, url: str, target: Path) -> None:
        """GET."""
        self._client.download(url, target, headers=self._headers)

    def list(self, url: str) -> Iterable[Entry]:
        """HTTP has no folders."""
        raise StagingFailed(f"{shown(url)} cannot be listed: http has no directories")

    def upload(self, source: Path, url: str) -> None:
        """PUT."""
        self._client.upload(source, url, headers=self._headers)

    def kind(self, url: str) -> FileType | None:
        """Say nothing: a URL does not tell."""
        return None

    def join(self, url: str, relative: str) -> str:
        """Escape the name; a query (a signature, say) stays where it belongs."""
        parts = urlsplit(url)
        path = f"{parts.path.rstrip('/')}/{quote(os.fsencode(relative))}"
        return urlunsplit(parts._replace(path=path))
