"""Further URL schemes through fsspec (``weft[fsspec]``), for those that ``fsspec.schemes`` lists.

What the drivers need to log in, they take from their own environment; never from a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed
from weft.model import FileType
from weft.ports import Entry, Stager
from weft.sections.transfer import FsspecSettings
from weft.staging.urls import authority, path_of, scheme_of, shown

#: Served by weft's own stagers, or doors to this machine and to addresses that nothing guards.
_REFUSED = frozenset(
    {"", "file", "local", "http", "https", "ftp", "s3", "s3a", "drs", "dir", "reference", "zip", "tar"}
)


def create(settings: Settings) -> Stager:
    """Return the stager.

    :raises InvalidRequest: a scheme that is not for fsspec.
    """
    return OtherStager(settings.fsspec)


class OtherStager(Stager):
    """Moves whole files by fsspec's drivers."""

    def __init__(self, settings: FsspecSettings) -> None:
        """Keep the schemes."""
        refused = sorted(_REFUSED & set(settings.schemes))
        if refused or any("::" in scheme for scheme in settings.schemes):
            raise InvalidRequest(f"fsspec.schemes: {', '.join(refused)} is not for fsspec", field="fsspec.schemes")
        self._schemes = frozenset(settings.schemes)

    @property
    def schemes(self) -> frozenset[str]:
        """Those of the settings."""
        return self._schemes

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse other schemes and chains of them."""
        if scheme_of(url) not in self._schemes:
            raise InvalidRequest(f"{shown(url)}: scheme {scheme_of(url)!r} is not supported here", field="url")
        if "::" in url or ".." in path_of(url).split("/"):
            raise InvalidRequest(f"{shown(url)}: '::' and '..' are not taken", field="url")

    def download(self, url: str, target: Path) -> None:
        """Fetch under another name, then rename."""
        part = target.with_name(f"{target.name}.part")
        try:
            with self._driver(url) as (driver, path):
                driver.get_file(path, str(part))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def list(self, url: str) -> Iterable[Entry]:
        """Walk."""
        with self._driver(url) as (driver, path):
            found = driver.find(path, detail=True)
            root = driver._strip_protocol(path).rstrip("/")
        files = {name: info for name, info in found.items() if name != root}
        return [Entry(path=name.removeprefix(f"{root}/"), size_bytes=info.get("size")) for name, info in files.items()]

    def upload(self, source: Path, url: str) -> None:
        """Store; object stores show it when it is complete."""
        with self._driver(url) as (driver, path):
            driver.makedirs(path.rpartition("/")[0] or "/", exist_ok=True)
            driver.put_file(str(source), path)

    def kind(self, url: str) -> FileType | None:
        """Ask for a file, then for a folder."""
        with self._driver(url) as (driver, path):
            if driver.isfile(path):
                return FileType.FILE
            return FileType.DIRECTORY if driver.isdir(path) else None

    @contextmanager
    def _driver(self, url: str) -> Iterator[tuple[Any, str]]:
        """Give the driver and the path as it wants it; its errors become ours."""
        self.check(url, writing=False)
        try:
            driver = fsspec.filesystem(scheme_of(url))
            yield driver, f"{authority(url)}{path_of(url)}"
        except FileNotFoundError as error:
            raise StagingFailed(f"no such file at {shown(url)}") from error
        except Exception as error:  # drivers raise what they like
            raise StagingFailed(f"{type(error).__name__} at {shown(url)}: {error}") from error
