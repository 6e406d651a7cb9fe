"""``file://`` URLs and bare paths, under the folders that the settings list and nowhere else.

``file:///a%20b`` is percent-decoded (RFC 8089); ``?`` and ``#`` belong to the path, because such URLs have no query.
A bare path is taken as it is. Links are followed inside the roots only.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote_to_bytes

from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest, StagingFailed, Unavailable
from weft.model import FileType
from weft.paths import LeadsOut, Owner, Tree
from weft.ports import Entry, Root, Stager
from weft.staging import halt
from weft.staging.urls import authority, path_of, scheme_of, shown

_HOSTS = ("", "localhost")
_CHUNK = 1 << 20
_SHARED = 1 << 26  # by one system call
_TRANSIENT = (errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)  # what a network file system says for a while


def create(settings: Settings) -> Stager:
    """Return the stager; weft's own data folder is closed to it, even where it lies under a root."""
    return FileStager([Root(path) for path in settings.file_roots], closed=settings.data)


class FileStager(Stager):
    """Copies between files of this host."""

    schemes = frozenset({"file", ""})

    def __init__(self, roots: Sequence[Root], *, closed: Path | None = None, more: Sequence[Root] = ()) -> None:
        """Keep the folders; what lies in ``closed`` is refused under ``roots``, not under ``more``."""
        self._roots = tuple(roots)
        self._more = tuple(more)
        self._closed = None if closed is None else PurePosixPath(os.path.realpath(closed))
        self._tree = Tree(_shown_at(Root(root.path) for root in (*roots, *more)))
        self._open_in_closed = [PurePosixPath(os.path.realpath(root.path)) for root in more]

    def with_roots(self, roots: Sequence[Root]) -> Stager:
        """Return a stager that may also name what lies in ``roots``."""
        if not roots:
            return self
        closed = None if self._closed is None else Path(self._closed)
        return FileStager(self._roots, closed=closed, more=(*self._more, *roots))

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse a path that is not under a root; looks at the text only."""
        path = local_path(url)
        if not self._tree.covers(path):
            raise Forbidden(
                f"{shown(url)} is not under a folder that this server opens",
                field="url",
                remedy=f"one of: {', '.join(self._root_names()) or 'none (setting file_roots)'}",
            )
        self._refuse_closed(path, url)

    def local(self, url: str) -> Path | None:
        """Return the path without links."""
        with _said(url):
            canonical, found = self._find(url)
            if stat.S_ISDIR(found.st_mode):
                self._refuse_whole(canonical, url)
            elif not stat.S_ISREG(found.st_mode):
                raise StagingFailed(f"{shown(url)} is neither a file nor a folder")
            return self._tree.host(canonical)

    def kind(self, url: str) -> FileType | None:
        """Look."""
        with suppress(OSError):
            mode = self._find(url)[1].st_mode
            return FileType.DIRECTORY if stat.S_ISDIR(mode) else FileType.FILE
        return None

    def download(self, url: str, target: Path) -> None:
        """Copy a file with its permission bits."""
        with _said(url):
            self.check(url, writing=False)
            canonical, source = self._tree.open_found(local_path(url))
            try:
                self._refuse_closed(str(self._tree.host(canonical)), url)
                if not stat.S_ISREG(os.fstat(source).st_mode):
                    raise StagingFailed(f"{shown(url)} is not a file")
                _copy_anew(source, target)
            finally:
                os.close(source)

    def list(self, url: str) -> Iterable[Entry]:
        """List the regular files below a folder; links that lead out are an error, not left out in silence."""

        def refuse(path: str, reason: str) -> None:
            raise StagingFailed(f"{path}: {reason}")

        with _said(url):
            canonical, _ = self._find(url)
            self._refuse_whole(canonical, url)
            return [
                Entry(path=str(PurePosixPath(path).relative_to(canonical)), size_bytes=found.st_size)
                for path, found in self._tree.files(canonical, refuse)
            ]

    def upload(self, source: Path, url: str) -> None:
        """Store under a temporary name, then rename; a link at the target is replaced, not followed."""
        path = PurePosixPath(local_path(url))
        self.check(url, writing=True)
        with _said(url):
            if self._is_same(source, str(path)):
                return
            folder = self._make_folder(str(path.parent))
            try:
                above = os.fstat(folder)
                store_beneath(source, folder, path.name, (above.st_uid, above.st_gid) if os.geteuid() == 0 else None)
            finally:
                os.close(folder)

    def join(self, url: str, relative: str) -> str:
        """Escape in URLs, not in bare paths."""
        name = relative if scheme_of(url) == "" else quote(os.fsencode(relative))
        return f"{url.rstrip('/')}/{name}"

    def _find(self, url: str) -> tuple[str, os.stat_result]:
        self.check(url, writing=False)
        canonical, found = self._tree.find(local_path(url))
        self._refuse_closed(str(self._tree.host(canonical)), url)
        return canonical, found

    def _is_same(self, source: Path, path: str) -> bool:
        """Tell whether the output was written in place, because its folder is mounted live."""
        with suppress(OSError):
            return os.path.samestat(source.stat(), self._tree.find(path)[1])
        return False

    def _make_folder(self, path: str) -> int:
        """Open the folder at ``path``; missing ones are made for the owner of the deepest that is there."""
        above = PurePosixPath(path)
        while True:
            try:
                canonical, found = self._tree.find(str(above))
                break
            except FileNotFoundError:
                above = above.parent
        self._refuse_closed(str(self._tree.host(canonical)), path)
        owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
        return self._tree.folder(path, make=True, owner=owner)

    def _refuse_closed(self, path: str, url: str) -> None:
        """Keep weft's own folder shut."""
        here = PurePosixPath(path)
        opened = any(here.is_relative_to(root) for root in self._open_in_closed)
        if self._closed is not None and not opened and here.is_relative_to(self._closed):
            raise Forbidden(f"{shown(url)} is the server's own data", field="url")

    def _refuse_whole(self, canonical: str, url: str) -> None:
        """Refuse a folder that would show weft's own with all the rest."""
        if self._closed is not None and self._closed.is_relative_to(self._tree.host(canonical)):
            raise Forbidden(f"{shown(url)} holds the server's own data", field="url")

    def _root_names(self) -> Iterable[str]:
        return dict.fromkeys(str(root.path) for root in (*self._roots, *self._more))


def local_path(url: str) -> str:
    """Return the host's path that a ``file://`` URL or a bare path names.

    :raises InvalidRequest: another host, ``..``, NUL, or not absolute.
    """
    if scheme_of(url) == "":
        path = url
    else:
        if authority(url).lower() not in _HOSTS:
            raise InvalidRequest(f"{shown(url)} names another host", field="url", remedy="file:///path")
        rest = path_of(url) if "://" in url else url.partition(":")[2]
        path = os.fsdecode(unquote_to_bytes(rest))
    if not path.startswith("/") or "\0" in path:
        raise InvalidRequest(f"{shown(url)} is not an absolute path", field="url", remedy="file:///path")
    if ".." in path.split("/"):
        raise InvalidRequest(f"{shown(url)} holds '..'", field="url", remedy="write the path without '..'")
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _shown_at(roots: Iterable[Root]) -> dict[str, Path]:
    """Show each root at the path as it was written and at the one that absolute links may use."""
    shown_at = {}
    for root in roots:
        real = Path(os.path.realpath(root.path))
        shown_at[str(real)] = real
        shown_at[os.path.normpath(root.path.absolute())] = real
    return shown_at


@contextmanager
def _said(url: str) -> Iterator[None]:
    """Say in our words what the system refused."""
    try:
        yield
    except LeadsOut as error:
        raise StagingFailed(f"{shown(url)} is or passes a link that leads out of the folders open here") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        failed = Unavailable if error.errno in _TRANSIENT else StagingFailed
        raise failed(f"{reason} at {shown(url)}") from error


def _copy_anew(source: int, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as stream:
            _copy(source, stream.fileno())
            os.fchmod(stream.fileno(), stat.S_IMODE(os.fstat(source).st_mode) & 0o777)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def store_beneath(source: Path, folder: int, name: str, owner: Owner = None) -> None:
    """Write ``source`` as ``name`` into an open folder, by rename, on disk before it is visible."""
    part = f".weft-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb", buffering=0) as stream:
        written = os.open(part, flags, 0o600, dir_fd=folder)
        try:
            _copy(stream.fileno(), written)
            if owner is not None:
                os.fchown(written, *owner)
            os.fchmod(written, stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o755 | 0o600)
            os.fsync(written)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            raise
        finally:
            os.close(written)


def _copy(source: int, target: int) -> None:
    """Copy all bytes; the kernel shares the blocks where the file system can (``copy_file_range(2)``)."""
    try:
        while os.copy_file_range(source, target, _SHARED):
            halt.check()
        if os.lseek(target, 0, os.SEEK_CUR):
            return
    except OSError:
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
        os.ftruncate(target, 0)
    while chunk := os.read(source, _CHUNK):
        halt.check()
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
