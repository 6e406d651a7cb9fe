"""``dataset://ID/path``: a file of a dataset that this site holds. The same URL leads to each site's own copy.

The settings say which folder holds a dataset. Datasets are read, never written; links are followed inside the folder
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest
from weft.model import FileType
from weft.ports import Entry, Root, Stager
from weft.staging.file import FileStager
from weft.staging.urls import authority, path_of, shown

SCHEME = "dataset"


def create(settings: Settings) -> Stager:
    """Return the stager for the datasets of the settings."""
    return DatasetStager(settings.datasets, closed=settings.data)


class DatasetStager(Stager):
    """Reads files of datasets."""

    def __init__(self, datasets: Mapping[str, Path], *, closed: Path) -> None:
        """Keep the folders; what lies in ``closed`` is refused even there."""
        self._schemes = frozenset({SCHEME} if datasets else ())
        self._folders = dict(datasets)
        self._files = {name: FileStager([Root(folder)], closed=closed) for name, folder in datasets.items()}

    @property
    def schemes(self) -> frozenset[str]:
        """The one, where there are datasets: a site without any does not offer it, and says so of each."""
        return self._schemes

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse a dataset that is not here, and every write."""
        if writing:
            raise Forbidden(f"{shown(url)}: a dataset is not written to", field="url", remedy="name another place")
        files, path = self._place(url)
        files.check(path, writing=False)

    def local(self, url: str) -> Path | None:
        """Return the file in place."""
        files, path = self._place(url)
        return files.local(path)

    def kind(self, url: str) -> FileType | None:
        """Look."""
        files, path = self._place(url)
        return files.kind(path)

    def download(self, url: str, target: Path) -> None:
        """Copy a file."""
        files, path = self._place(url)
        files.download(path, target)

    def list(self, url: str) -> Iterable[Entry]:
        """List the files below a folder."""
        files, path = self._place(url)
        return files.list(path)

    def upload(self, source: Path, url: str) -> None:
        """Refuse."""
        self.check(url, writing=True)

    def _place(self, url: str) -> tuple[FileStager, str]:
        name = authority(url)
        relative = unquote(path_of(url)).lstrip("/")
        if not name:
            raise InvalidRequest(f"{shown(url)} names no dataset", field="url", remedy="dataset://ID/path")
        if name not in self._files:
            raise Forbidden(f"dataset {name} is not at this site", field="url", remedy="ask a site that holds it")
        return self._files[name], str(self._folders[name] / relative)
