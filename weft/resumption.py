"""Begin a run with the work folder of one that ended, so that its engine finds the steps that are finished.

What the earlier run left was written by its tasks and is not trusted: no link is followed, only files, folders and
links are taken, and a link into the earlier folder becomes one into the new. Times of change are kept, because engines
go by them; an attachment with the same bytes as before keeps its time too.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from weft.errors import StagingFailed
from weft.folders import Folders
from weft.parameters import engine_parameter

PARAMETER = "resume_from"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def resumed_run(engine_parameters: Mapping[str, str]) -> str | None:
    """Return the id of the run that is to be resumed, if ``workflow_engine_parameters`` name one."""
    return engine_parameter(engine_parameters, "resume-from")


@dataclass(frozen=True, slots=True)
class Resumption:
    """Copies work folders."""

    folders: Folders

    def bring(self, earlier_id: str, run_id: str) -> None:
        """Put what the earlier run left below the attachments of a run, once: a repeated call changes nothing.

        :raises StagingFailed: the earlier run's folder is gone, or cannot be copied.
        """
        earlier, work = self.folders.work(earlier_id), self.folders.work(run_id)
        attached, half = work.with_name("attached"), work.with_name("work.half")
        if attached.exists() and work.exists():
            return
        if attached.exists():
            attached.rename(work)  # a worker died between the two renames below
        shutil.rmtree(half, ignore_errors=True)
        try:
            half.mkdir(mode=0o755)
            _copy_folder(earlier, half, _Links(earlier, work))
            _lay_over(work, half)
        except OSError as error:
            shutil.rmtree(half, ignore_errors=True)
            raise StagingFailed(f"run {earlier_id[:100]} cannot be resumed: {error.strerror or error}") from error
        work.rename(attached)
        half.rename(work)


@dataclass(frozen=True, slots=True)
class _Links:
    """Where absolute links lead after the copy."""

    before: Path
    after: Path

    def target(self, link: str) -> str:
        path = Path(os.path.normpath(link))
        return str(self.after / path.relative_to(self.before)) if path.is_relative_to(self.before) else link


def _copy_folder(source: Path, target: Path, links: _Links) -> None:
    """Copy a folder into one that is there and empty."""
    there, here = os.open(source, _FOLDER), os.open(target, _FOLDER)
    try:
        _copy_entries(there, here, links)
    finally:
        os.close(there)
        os.close(here)


def _copy_entries(there: int, here: int, links: _Links) -> None:
    for name in sorted(os.listdir(there)):
        found = os.stat(name, dir_fd=there, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o755, dir_fd=here)
            inner_there, inner_here = (os.open(name, _FOLDER, dir_fd=handle) for handle in (there, here))
            try:
                _copy_entries(inner_there, inner_here, links)
                os.utime(inner_here, ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                os.close(inner_there)
                os.close(inner_here)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(links.target(os.readlink(name, dir_fd=there)), name, dir_fd=here)
            os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=here, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(name, there, here)


def _copy_file(name: str, there: int, here: int) -> None:
    source = os.open(name, _READ, dir_fd=there)
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            return
        target = os.open(name, _WRITE, 0o600, dir_fd=here)
        try:
            _copy_bytes(source, target)
            os.fchmod(target, stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_bytes(source: int, target: int) -> None:
    """Copy by the kernel, which shares the blocks where the file system can; else by hand."""
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
    except OSError:
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
        while chunk := os.read(source, _CHUNK):
            os.write(target, chunk)


def _lay_over(attachments: Path, target: Path) -> None:
    """Put this run's own attachments over what was copied; they are trusted, what lies in ``target`` is not."""
    for path in sorted(attachments.rglob("*")):
        place = target / path.relative_to(attachments)
        if path.is_dir():
            if place.is_symlink() or not place.is_dir():
                place.unlink(missing_ok=True)
                place.mkdir(mode=0o755)
            continue
        found = path.stat()
        if _is_same(path, place):
            found = place.stat()
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        shutil.copyfile(path, place, follow_symlinks=False)
        place.chmod(0o644)
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns))


def _is_same(path: Path, other: Path) -> bool:
    """Tell whether both are files with the same bytes."""
    with suppress(OSError):
        handle = os.open(other, _READ)
        with os.fdopen(handle, "rb") as stream, path.open("rb") as expected:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size != path.stat().st_size:
                return False
            while chunk := expected.read(_CHUNK):
                if stream.read(len(chunk)) != chunk:
                    return False
            return True
    return False
