"""Show a step the files of its image: a folder that somebody unpacked, read-only, with room for the job's mounts.

The folder of a site's images is laid out as charliecloud's storage is (``ch-image pull``, ``$CH_IMAGE_STORAGE/img``):
``docker.io/library/alpine:3`` lies in ``docker.io%library%alpine+3``. Every node sees it; nothing is pulled for a job.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from weft.errors import ExecutorRefused
from weft.model import Mount

#: Made anew in every sandbox.
_OWN = tuple(PurePosixPath(path) for path in ("/proc", "/dev", "/tmp"))  # noqa: S108
#: Files that every sandbox has of its own.
_IDENTITY = tuple(PurePosixPath("/etc", name) for name in ("passwd", "group"))
_PREFIXES = ("docker.io/", "library/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a sandbox shows of an image."""

    #: Path -> target of symbolic links.
    links: dict[str, str]
    mounts: tuple[Mount, ...]
    #: What the image sets (``ENV``), as charliecloud keeps it.
    env: dict[str, str]


def find(images: Path, name: str) -> Path:
    """Return the folder of an image.

    :raises ExecutorRefused: it is not there.
    """
    for candidate in _spellings(name):
        if candidate and not candidate.startswith((".", "+")) and (images / candidate).is_dir():
            return images / candidate
    raise ExecutorRefused(
        f"image {name} is not unpacked in {images}", field="image", remedy=f"ask the site for: ch-image pull {name}"
    )


def show(image: Path, targets: Sequence[str]) -> Shown:
    """Say how the image's files are bound so that something can be mounted at each of ``targets``.

    A folder is bound whole, unless a target below it is not there: then its parts are, each at its place.

    :raises ExecutorRefused: a target lies below a link or a file of the image.
    """
    wanted = [*(PurePosixPath(target) for target in targets), *_IDENTITY]
    missing = [path for path in wanted if not os.path.lexists(image / path.relative_to("/"))]
    links: dict[str, str] = {}
    mounts: list[Mount] = []
    _show(image, PurePosixPath("/"), wanted, missing, links, mounts)
    return Shown(links=links, mounts=tuple(mounts), env=_environment(image))


def _show(
    image: Path,
    folder: PurePosixPath,
    wanted: Sequence[PurePosixPath],
    missing: Sequence[PurePosixPath],
    links: dict[str, str],
    mounts: list[Mount],
) -> None:
    for entry in sorted(os.scandir(image / folder.relative_to("/")), key=lambda entry: entry.name):
        path = folder / entry.name
        if path in _OWN or path in wanted:
            continue
        below = [target for target in wanted if target.is_relative_to(path)]
        if below and not entry.is_dir(follow_symlinks=False):
            raise ExecutorRefused(f"nothing can be mounted at {below[0]}: {path} is no folder of the image")
        if entry.is_symlink():
            links[str(path)] = os.readlink(entry.path)  # noqa: PTH115
        elif any(target in missing for target in below):
            _show(image, path, wanted, missing, links, mounts)
        else:
            mounts.append(Mount(source=Path(entry.path), target=str(path), read_only=True))


def _spellings(name: str) -> list[str]:
    """Return how the folder of an image may be called, the fullest name first."""
    names = [name.removeprefix("docker://")]
    for prefix in _PREFIXES:
        names.append(names[-1].removeprefix(prefix))
    tagged = [other for name in names for other in (name, f"{name}:latest")]
    return list(dict.fromkeys(other.replace("/", "%").replace(":", "+") for other in tagged))


def _environment(image: Path) -> dict[str, str]:
    try:
        text = (image / "ch" / "environment").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line and not line.startswith("="))
