"""Names and paths from strangers: what is accepted, and how a file is opened without ever leaving its folder.

``Tree`` is the heart: folders shown at absolute paths (an allowed root at its own path, or a job's mounts at their
container paths), walked one component at a time by directory handles. Links are followed by hand and only as long
as they stay inside; whatever is swapped for a link meanwhile changes nothing. ``tests/unit/test_paths.py`` attacks it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from weft.errors import InvalidRequest

Owner = tuple[int, int] | None
Skipped = Callable[[str, str], None]

_ROOT = PurePosixPath("/")
_KERNEL = frozenset({"proc", "sys", "dev"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: A normalised absolute path of printable characters, outside the folders of the kernel.
_PLAIN = re.compile(r"(?!/(?:proc|sys|dev)(?:/|\Z))(?:/(?!\.\.?(?:/|\Z))[^/\x00-\x1f\x7f]+)+")
_MOST_LINKS = 40  # as the kernel's own MAXSYMLINKS
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class LeadsOut(OSError):
    """A path or a link that leads out of the folders that it may name (``EXDEV``, as ``openat2(2)`` says it)."""

    def __init__(self, path: object) -> None:
        """Name the path."""
        super().__init__(errno.EXDEV, "leads out of its folder", str(path))


def container_path(text: str, field: str) -> str:
    """Return ``text`` as a normalised absolute container path without a trailing slash.

    :raises InvalidRequest: relative, ``..``, NUL or other control characters, ``/`` itself, or below /proc /sys /dev.
    """
    if _PLAIN.fullmatch(text):
        return text
    _refuse_control(text, field)
    if not text.startswith("/"):
        raise InvalidRequest(f"{text!r} is not an absolute path", field=field, remedy="begin the path with '/'")
    parts = _parts(text)
    if ".." in parts:
        raise InvalidRequest(f"{text!r} holds '..'", field=field, remedy="write the path without '..'")
    if not parts:
        raise InvalidRequest("the path '/' cannot be used", field=field, remedy="name a file or a folder below '/'")
    if parts[0] in _KERNEL:
        raise InvalidRequest(f"{text!r} belongs to the kernel", field=field, remedy="not below /proc, /sys or /dev")
    return "/" + "/".join(parts)


def relative_name(text: str, field: str) -> str:
    """Return ``text`` as a normalised relative path.

    :raises InvalidRequest: empty, absolute, ``..``, NUL or other control characters.
    """
    _refuse_control(text, field)
    parts = _parts(text)
    if text.startswith("/") or ".." in parts or not parts:
        raise InvalidRequest(f"{text!r} is not a path inside a folder", field=field, remedy="a relative path, no '..'")
    return "/".join(parts)


def inside(root: Path, name: str) -> Path:
    """Return ``root / name``, by the text alone; open it with ``open_beneath`` where links may lie in ``root``.

    :raises InvalidRequest: ``name`` is not a relative path without ``..``.
    """
    return root / relative_name(name, "name")


def open_beneath(root: Path, relative: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open ``root / relative`` and return the descriptor; links are followed only inside ``root``.

    With ``O_CREAT`` the last component is never followed if it is a link.

    :raises LeadsOut: a link leads out of ``root``.
    :raises OSError: as ``os.open``.
    """
    path = str(root / relative_name(relative, "path"))
    tree = Tree({str(root): root})
    if not flags & os.O_CREAT:
        return tree.open(path, flags)
    folder = tree.folder(str(PurePosixPath(path).parent))
    try:
        return os.open(PurePosixPath(path).name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    finally:
        os.close(folder)


class Tree:
    """Folders of the host, each shown at an absolute path; the deepest one wins, as with mounts.

    Absolute links are read in the tree's own terms: in a tree of mounts ``/work/x`` means the container's
    ``/work/x``. Paths are strings, names that are not UTF-8 have surrogates (``os.fsdecode``).
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Keep the folders (or single files) by the path where they are shown. The hosts' paths are trusted."""
        self._folders = {PurePosixPath(path): Path(os.path.realpath(source)) for path, source in folders.items()}
        self._above = {parent for path in self._folders for parent in path.parents}

    def covers(self, path: str) -> bool:
        """Tell whether a folder of the tree is shown at ``path`` or above it, by the text alone."""
        return any(PurePosixPath(path).is_relative_to(shown) for shown in self._folders)

    def find(self, path: str) -> tuple[str, os.stat_result]:
        """Follow all links and return the canonical path and its stat.

        :raises LeadsOut: not in the tree.
        :raises OSError: as ``os.stat``.
        """
        with self._walked(path) as (canonical, handle):
            return str(canonical), os.fstat(handle)

    def host(self, canonical: str) -> Path:
        """Return the host's path of a canonical path that ``find`` gave."""
        path = PurePosixPath(canonical)
        shown = max((top for top in self._folders if path.is_relative_to(top)), key=lambda top: len(top.parts))
        return self._folders[shown] / path.relative_to(shown)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open what exists at ``path``; never blocks on a pipe.

        :raises LeadsOut: not in the tree.
        :raises OSError: as ``os.open``.
        """
        return self.open_found(path, flags)[1]

    def open_found(self, path: str, flags: int = os.O_RDONLY) -> tuple[str, int]:
        """Open as ``open``, and return the canonical path with the descriptor."""
        with self._walked(path) as (canonical, handle):
            return str(canonical), _again(handle, flags)

    def folder(self, path: str, *, make: bool = False, owner: Owner = None) -> int:
        """Open the folder at ``path`` for ``dir_fd``; with ``make``, missing ones are made (0755, ``owner``).

        :raises LeadsOut: not in the tree.
        :raises OSError: as ``os.open``; ``NotADirectoryError`` where a file stands.
        """
        with self._walked(path, make=make, owner=owner) as (_, handle):
            return _again(handle, os.O_RDONLY | os.O_DIRECTORY)

    def names(self, path: str) -> list[str]:
        """Return the sorted names in the folder at ``path``.

        :raises LeadsOut: not in the tree.
        :raises OSError: as ``os.listdir``.
        """
        handle = self.folder(path)
        try:
            with os.scandir(handle) as entries:
                return sorted(entry.name for entry in entries)
        finally:
            os.close(handle)

    def files(self, path: str, skipped: Skipped) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (path, stat) of each regular file below the folder ``path``, links inside the tree followed.

        What is no regular file, leads out, or turns in a circle goes to ``skipped(path, reason)``.

        :raises OSError: ``path`` itself is not a folder of the tree.
        """
        yield from self._files(path, skipped, ())

    def _files(
        self, path: str, skipped: Skipped, seen: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        _, here = self.find(path)
        seen = (*seen, (here.st_dev, here.st_ino))
        for name in self.names(path):
            child = f"{path.rstrip('/')}/{name}"
            try:
                _, found = self.find(child)
                if stat.S_ISREG(found.st_mode):
                    yield child, found
                elif not stat.S_ISDIR(found.st_mode):
                    skipped(child, "neither a file nor a folder")
                elif (found.st_dev, found.st_ino) in seen:
                    skipped(child, "a link that turns in a circle")
                else:
                    yield from self._files(child, skipped, seen)
            except LeadsOut:
                skipped(child, "a link that leads out")
            except OSError as error:
                skipped(child, error.strerror or str(error))

    @contextmanager
    def _walked(self, path: str, *, make: bool = False, owner: Owner = None) -> Iterator[tuple[PurePosixPath, int]]:
        """Walk to ``path`` and give its canonical path and an ``O_PATH`` handle."""
        trail: list[tuple[PurePosixPath, int | None]] = [(_ROOT, self._shown(_ROOT))]
        todo = _parts(path)[::-1]
        links = 0
        try:
            while todo:
                name = todo.pop()
                if name == "..":
                    _cut(trail, max(len(trail) - 1, 1))
                    continue
                here, handle = trail[-1]
                step = self._step(here / name, handle, make, owner)
                if step is None or not stat.S_ISLNK(os.fstat(step).st_mode):
                    trail.append((here / name, step))
                    continue
                os.close(step)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if handle is None:  # the trusted folder itself was swapped for a link
                    raise LeadsOut(path)
                target = os.readlink(name, dir_fd=handle)
                if target.startswith("/"):
                    _cut(trail, 1)
                todo.extend(_parts(target)[::-1])
            canonical, handle = trail[-1]
            if handle is None:
                raise LeadsOut(path)
            yield canonical, handle
        finally:
            _cut(trail, 0)

    def _step(self, there: PurePosixPath, handle: int | None, make: bool, owner: Owner) -> int | None:
        """Open one component; None for a path above all folders, which exists only as the way to them."""
        if there in self._folders or (handle is None and there in self._above):
            return self._shown(there)
        if handle is None:
            raise LeadsOut(there)
        try:
            return os.open(there.name, _LOOK, dir_fd=handle)
        except FileNotFoundError:
            if not make:
                raise
            _make_folder(there.name, handle, owner)
            return os.open(there.name, _LOOK, dir_fd=handle)

    def _shown(self, path: PurePosixPath) -> int | None:
        source = self._folders.get(path)
        return None if source is None else os.open(source, _LOOK)


def _refuse_control(text: str, field: str) -> None:
    if _CONTROL.search(text):
        raise InvalidRequest(f"{text!r} holds a control character", field=field, remedy="printable characters only")


def _parts(text: str) -> list[str]:
    return [part for part in text.split("/") if part not in ("", ".")]


def _cut(trail: list[tuple[PurePosixPath, int | None]], length: int) -> None:
    while len(trail) > length:
        handle = trail.pop()[1]
        if handle is not None:
            os.close(handle)


def _again(handle: int, flags: int) -> int:
    """Open the very thing that an ``O_PATH`` handle stands for."""
    return os.open(f"/proc/self/fd/{handle}", flags & ~os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _make_folder(name: str, handle: int, owner: Owner) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=handle)
    except FileExistsError:  # another thread was first
        return
    if owner is not None:
        os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
