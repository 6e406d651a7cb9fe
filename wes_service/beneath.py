"""Open files and folders below a folder, component by component, without ever following a link.

What runs in a work folder may put any link there at any time, so a path is never checked first and opened later:
each folder on the way is opened by its parent's descriptor (``reference/security.md``, Files).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hang the server
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened_folder(root: Path, parts: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
    """Give the descriptor of the folder ``parts`` below ``root``; missing ones are made when ``create`` is set.

    :raises OSError: a component is missing, is not a folder, or is a link.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for part in parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, mode=0o755, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def create_file(root: Path, parts: Sequence[str]) -> BinaryIO:
    """Make the file ``parts`` below ``root`` with the folders that it needs, and open it for writing.

    :raises FileExistsError: something of this name is there already.
    """
    with opened_folder(root, parts[:-1], create=True) as folder:
        return os.fdopen(os.open(parts[-1], _CREATE, 0o644, dir_fd=folder), "wb")


def open_file(root: Path, parts: Sequence[str]) -> BinaryIO | None:
    """Open the regular file ``parts`` below ``root`` for reading; None when there is none."""
    try:
        with opened_folder(root, parts[:-1]) as folder:
            descriptor = os.open(parts[-1], _READ, dir_fd=folder)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def size_of(root: Path, parts: Sequence[str]) -> int | None:
    """Return the size in bytes of the regular file ``parts`` below ``root``; None when there is none."""
    try:
        with opened_folder(root, parts[:-1]) as folder:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def walk(root: Path, parts: Sequence[str] = (), *, hidden: bool = False) -> Iterator[tuple[str, int]]:
    """Give path and size of every regular file below ``parts``, ordered by path within each folder.

    Names that begin with a dot are left out unless ``hidden`` is set, and so are names that are not UTF-8.
    """
    try:
        with opened_folder(root, parts) as folder:
            entries = sorted(os.listdir(folder))
            found = [(name, _status(name, folder)) for name in entries if _shown(name, hidden=hidden)]
    except OSError:
        return
    for name, status in found:
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from walk(root, (*parts, name), hidden=hidden)
        elif stat.S_ISREG(status.st_mode):
            yield "/".join((*parts, name)), status.st_size


def _shown(name: str, *, hidden: bool) -> bool:
    return (hidden or not name.startswith(".")) and not any("\ud800" <= character <= "\udfff" for character in name)


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def sync(root: Path, folders: Sequence[Sequence[str]]) -> None:
    """Put the entries of ``folders`` below ``root``, and of ``root`` itself, on disk."""
    for parts in (*folders, ()):
        with opened_folder(root, parts) as folder:
            os.fsync(folder)
