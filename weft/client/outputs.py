"""Find the files in a run's outputs and the paths to keep them under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from weft.client.errors import BadRequest

#: Keys under which an output object names the place of a file: CWL's File, Galaxy's and weft's own.
PLACES = ("location", "url", "href")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One file: where it is in the output object, its URL, and a relative path for it."""

    key: str
    url: str
    path: PurePosixPath


def files_of(outputs: Any, base: str = "") -> tuple[OutputFile, ...]:
    """Return every http(s) file in ``outputs``, whatever its shape; ``base`` is the folder URL that paths start at."""
    found = list(_search(outputs, ""))
    return tuple(OutputFile(key=key, url=url, path=_path(key, url, base)) for key, url in found)


def inside(folder: Path, path: PurePosixPath) -> Path:
    """Return the place of ``path`` in ``folder``.

    :raises BadRequest: the server named a path outside of it.
    """
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BadRequest(f"the server gave the output an unsafe name: {path}")
    return folder / path


def _search(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if value.startswith(("http://", "https://")):
            yield key, value
    elif isinstance(value, dict):
        place = next((value[name] for name in PLACES if isinstance(value.get(name), str)), None)
        if place is not None:
            yield from _search(place, key)
        else:
            for name, item in value.items():
                yield from _search(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            yield from _search(item, key)


def _path(key: str, url: str, base: str) -> PurePosixPath:
    """Prefer the path below the run's files; else the URL's last name, in a folder of the output's key."""
    route = urlsplit(url).path
    prefix = urlsplit(base).path.rstrip("/") + "/"
    if base and route.startswith(prefix):
        rest = route[len(prefix) :].split("/", 1)  # "files/results/x": the first name is the server's own
        return PurePosixPath(unquote(rest[-1]))
    name = PurePosixPath(unquote(route)).name or "file"
    return PurePosixPath(name) if not key or key.endswith(name) else PurePosixPath(key.replace("/", "_")) / name
