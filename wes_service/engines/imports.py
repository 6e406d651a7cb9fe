"""Documents that a workflow imports by URL: fetched by weft's stagers, because the engine's sandbox has no network."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin

from wes_service.engines.fetch import fetch, is_remote
from wes_service.engines.program import Place


class Imports:
    """Fetches each document once, by a task of its own, to a folder below the run's."""

    def __init__(self, place: Place, folder: Path) -> None:
        """Take the place; nothing is fetched yet."""
        self._place = place
        self._folder = folder
        self._texts: dict[str, str] = {}

    def text(self, url: str) -> str:
        """Return a document.

        :raises BadRequest: it cannot be fetched; says why.
        :raises UnicodeDecodeError: it is not UTF-8.
        """
        if url not in self._texts:
            folder = self._folder / str(len(self._texts))
            self._texts[url] = fetch([url], self._place, folder)[url].read_text("utf-8")
        return self._texts[url]

    @staticmethod
    def address(name: str, importer: str | None) -> str | None:
        """Return the URL of a document that is not in the run's folder: itself one, or relative to one; else None."""
        if is_remote(name):
            return name
        return urljoin(importer, name) if importer is not None and is_remote(importer) else None
