"""Open files in folders that a stranger's container can write to, without following its links out of them."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath

_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotAFile(OSError):
    """The path is not a regular file, or leads through a symbolic link."""


def read_beneath(root: Path, relative: PurePosixPath) -> int:
    """Open a regular file below ``root`` for reading and return its descriptor.

    :raises NotAFile: a link on the way, or no regular file at its end.
    :raises OSError: anything else.
    """
    return _open(root, relative, os.O_RDONLY, None)


def write_beneath(root: Path, relative: PurePosixPath, owner: tuple[int, int] | None, *, append: bool) -> int:
    """Open a regular file below ``root`` for reading and writing, emptied, and return its descriptor.

    Missing folders are made. What is new belongs to ``owner`` (user, group) where weft may give it away.

    :raises NotAFile: a link on the way, or something else than a regular file at its end.
    :raises OSError: anything else.
    """
    flags = os.O_RDWR | os.O_CREAT | (os.O_APPEND if append else 0)
    descriptor = _open(root, relative, flags, owner)
    try:
        os.ftruncate(descriptor, 0)
        _give(descriptor, owner)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_folder_beneath(root: Path, relative: PurePosixPath, owner: tuple[int, int]) -> None:
    """Make the folder ``relative`` below ``root`` with its parents; what is new belongs to ``owner``.

    :raises NotAFile: a link on the way, or something else than a folder.
    """
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in relative.parts:
            folder = _step_into(folder, part, owner, make=True)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotAFile(error.errno, "not a folder, or reached through a link", str(relative)) from error
        raise
    finally:
        os.close(folder)


def _open(root: Path, relative: PurePosixPath, flags: int, owner: tuple[int, int] | None) -> int:
    *parents, name = relative.parts or (".",)
    # O_NONBLOCK: a FIFO of that name must not hold up whoever opens it.
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    if name == ".":  # the mount is one file
        return _regular(os.open(root, flags & ~os.O_CREAT))
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            folder = _step_into(folder, part, owner if flags & os.O_CREAT else None, make=bool(flags & os.O_CREAT))
        return _regular(os.open(name, flags, 0o644, dir_fd=folder))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
            raise NotAFile(error.errno, "not a regular file, or reached through a link", str(relative)) from error
        raise
    finally:
        os.close(folder)


def _step_into(folder: int, part: str, owner: tuple[int, int] | None, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=folder)
            if owner is not None and os.geteuid() == 0:
                os.chown(part, *owner, dir_fd=folder, follow_symlinks=False)
    inner = os.open(part, _LOOK, dir_fd=folder)
    os.close(folder)
    return inner


def _give(descriptor: int, owner: tuple[int, int] | None) -> None:
    if owner is not None and os.geteuid() == 0:
        os.fchown(descriptor, *owner)


def _regular(descriptor: int) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(errno.EINVAL, "not a regular file")
    return descriptor
