"""The files in a run's work folder, which anything that the run starts may change at any time.

Paths go through ``weft.paths.Tree``: links are followed only as long as they stay inside, regular files alone are
opened, and nothing is checked first and opened later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from weft.paths import Tree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 100  # folders; also ends links that turn in a circle


class WorkFolder:
    """One folder. Paths are relative to it, in POSIX form, with or without a leading ``./``."""

    def __init__(self, root: Path) -> None:
        """Keep the folder, which need not exist."""
        self.root = root

    def size(self, path: str) -> int | None:
        """Return the size in bytes of the regular file at ``path``; None when there is none."""
        found = self._stat(path)
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def is_folder(self, path: str) -> bool:
        """Tell whether a folder is at ``path``."""
        found = self._stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def open(self, path: str) -> BinaryIO | None:
        """Open the regular file at ``path`` for reading; None when there is none."""
        absolute = self._absolute(path)
        try:
            descriptor = None if absolute is None else self._tree().open(absolute)
        except OSError:
            return None
        if descriptor is None:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return os.fdopen(descriptor, "rb")

    def create(self, parts: tuple[str, ...]) -> BinaryIO:
        """Make a file with the folders that it needs, and open it for writing.

        :raises FileExistsError: something of this name is there already.
        """
        folder = self._tree().folder("/".join((str(self.root), *parts[:-1])), make=True)
        try:
            return os.fdopen(os.open(parts[-1], _CREATE, 0o644, dir_fd=folder), "wb")
        finally:
            os.close(folder)

    def sync(self, parts: tuple[str, ...] = ()) -> None:
        """Put the entries of the folder ``parts`` on disk."""
        folder = self._tree().folder("/".join((str(self.root), *parts)))
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def walk(self, path: str = "") -> Iterator[tuple[str, int]]:
        """Give path and size of every regular file below ``path``, in order; hidden names are left out."""
        tree = self._tree()
        todo = [path.rstrip("/")]
        while todo:
            here = todo.pop()
            folders = []
            for name in _names(tree, f"{self.root}/{here}"):
                child = f"{here}/{name}" if here else name
                found = _find(tree, f"{self.root}/{child}")
                if found is not None and stat.S_ISREG(found.st_mode):
                    yield child, found.st_size
                elif found is not None and stat.S_ISDIR(found.st_mode) and child.count("/") < _DEEPEST:
                    folders.append(child)
            todo += reversed(folders)

    def _tree(self) -> Tree:
        return Tree({str(self.root): self.root})

    def _absolute(self, path: str) -> str | None:
        while path.startswith("./"):
            path = path[2:]
        parts = path.split("/")
        if len(path) > 4096 or any(part in ("", ".", "..") or "\0" in part for part in parts):
            return None
        return "/".join((str(self.root), *parts))

    def _stat(self, path: str) -> os.stat_result | None:
        absolute = self._absolute(path)
        return None if absolute is None else _find(self._tree(), absolute)


def _names(tree: Tree, path: str) -> list[str]:
    try:
        return [name for name in tree.names(path) if not name.startswith(".") and _is_text(name)]
    except OSError:
        return []


def _find(tree: Tree, path: str) -> os.stat_result | None:
    try:
        return tree.find(path)[1]
    except (OSError, ValueError):  # ValueError: a name that the file system's encoding does not have
        return None


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
