"""Bring the datasets that a run's parameters name into its folder, so that any workflow language can read them.

Each ``dataset://ID/path`` among the parameters becomes the relative path of a copy, ``datasets/ID/path``. The copies
go when the run ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from weft.errors import Forbidden, InvalidRequest, StagingFailed
from weft.model import FileType, JsonObject
from weft.paths import relative_name
from weft.staging.dataset import SCHEME
from weft.staging.stagers import Stagers
from weft.staging.urls import authority, path_of

FOLDER = "datasets"
_FIELD = "workflow_params"


def named(params: Any) -> Iterator[str]:
    """Yield every dataset URL in ``params``, however deep it lies."""
    if isinstance(params, str) and params.startswith(f"{SCHEME}://"):
        yield params
    elif isinstance(params, dict):
        for value in params.values():
            yield from named(value)
    elif isinstance(params, list):
        for value in params:
            yield from named(value)


def brought(params: JsonObject, workspace: Path, stagers: Stagers) -> JsonObject:
    """Copy every dataset that ``params`` names below ``workspace``, and return them with relative paths instead.

    :raises StagingFailed: a dataset or a file of it is not here.
    """
    urls = list(dict.fromkeys(named(params)))
    if not urls:
        return params
    remove(workspace)  # an earlier attempt's, and whatever its tasks may have put in its place
    (workspace / FOLDER).mkdir(mode=0o700)
    replaced = {url: _copy(url, workspace, stagers) for url in urls}
    new = _with(params, replaced)
    assert isinstance(new, dict)
    return new


def remove(workspace: Path) -> None:
    """Remove the copies. May be called twice."""
    folder = workspace / FOLDER
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _copy(url: str, workspace: Path, stagers: Stagers) -> str:
    relative = f"{FOLDER}/{_part(authority(url))}/{_part(unquote(path_of(url)).strip('/'))}".rstrip("/")
    target = workspace / relative
    try:
        stager = stagers.for_url(url)
        stager.check(url, writing=False)
        names = [entry.path for entry in stager.list(url)] if stager.kind(url) is FileType.DIRECTORY else [""]
        for name in names:
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            stager.download(stager.join(url, name) if name else url, file)
    except (Forbidden, InvalidRequest) as error:
        raise StagingFailed(f"{_FIELD}: {error.message}") from error
    return relative


def _part(path: str) -> str:
    return relative_name(path, _FIELD) if path else ""


def _with(value: Any, replaced: dict[str, str]) -> Any:
    if isinstance(value, str):
        return replaced.get(value, value)
    if isinstance(value, dict):
        return {key: _with(item, replaced) for key, item in value.items()}
    if isinstance(value, list):
        return [_with(item, replaced) for item in value]
    return value
