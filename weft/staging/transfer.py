"""Bring a task's inputs into place: locate, plan, make the folders, fetch in parallel, each file at once or not at all.

Every file is first fetched whole into ``incoming/`` of the attempt's folder, given its mode and owner, then renamed
to where the steps will see it. So a prepare that a death cut short can simply be done again.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath

from weft.errors import InvalidRequest, StagingFailed, WeftError
from weft.folders import AttemptFolder
from weft.model import FileType, Input, Mount, Task
from weft.paths import Owner, Tree
from weft.ports import Root, Stager
from weft.staging import halt
from weft.staging.file import store_beneath
from weft.staging.parallel import Pause, each, in_words, patiently
from weft.staging.plan import Local, Plan, check, plan
from weft.staging.stagers import Stagers
from weft.staging.urls import shown

#: Where files are fetched to: in the attempt's folder, or in each mount.
_INCOMING, _HIDDEN_INCOMING = "incoming", ".weft-incoming"
_CONTENT_MODE = 0o755  # Funnel's clients run their content as scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the steps will see."""

    mounts: tuple[Mount, ...]
    messages: tuple[str, ...] = ()
    #: Path of each input -> its type as it was found (tesFileType: the server fills it in).
    types: dict[str, FileType] = field(default_factory=dict)


def prepare(
    task: Task,
    folder: AttemptFolder,
    stagers: Stagers,
    *,
    roots: Sequence[Root] = (),
    uid: int | None = None,
    gid: int | None = None,
    writable_inputs: bool = False,
    in_place: bool = True,
    mounted: bool = False,
    pause: Pause = halt.pause,
) -> Prepared:
    """Stage all inputs of one attempt and make every folder that its steps may write to.

    May be called again after a crash, as long as no step has started.

    :param roots: folders that this task may name beyond the settings, as in ``stagers.with_roots``.
    :param uid, gid: whose the files shall be; used where weft is root.
    :param writable_inputs: what is mounted in place is writable.
    :param in_place: False where the steps run on another host, so that everything must be copied.
    :param mounted: a file system of its own is mounted at the source of each mount already, so that nothing can be
        renamed into it from outside: files come by way of a hidden folder in each.
    :raises StagingFailed: names the inputs that could not be fetched, and why.
    :raises InvalidRequest: paths that contradict each other.
    """
    check(task)
    stagers = stagers.with_roots(roots)
    owner = (uid, gid if gid is not None else uid) if uid is not None and os.geteuid() == 0 else None
    task, local = _located(task, stagers, uid, gid)
    wanted = plan(
        task,
        folder,
        local=local if in_place else {path: found for path, found in local.items() if found.there},
        roots=stagers.roots,
        writable_inputs=writable_inputs,
    )
    staging = _Staging(folder, wanted, stagers, owner, pause, mounted=mounted)
    staging.make_folders()
    staging.fetch_all()
    types = {item.path: staging.types.get(item.path, item.type) for item in task.inputs}
    return Prepared(mounts=wanted.mounts, messages=(*wanted.messages, *staging.messages), types=types)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file to bring."""

    item: Input
    path: str
    url: str | None = None
    size_bytes: int | None = None


class _Staging:
    """The work of one ``prepare``."""

    def __init__(
        self, folder: AttemptFolder, wanted: Plan, stagers: Stagers, owner: Owner, pause: Pause, *, mounted: bool
    ) -> None:
        self.messages: list[str] = []
        self.types: dict[str, FileType] = {}
        self._wanted = wanted
        self._stagers = stagers
        self._owner = owner
        self._pause = pause
        self._folder = folder
        self._incoming = folder.root / _INCOMING
        self._mounted = mounted
        self._numbers = count()
        self._sources = {mount.target: mount.source for mount in wanted.mounts}

    def make_folders(self) -> None:
        if not self._mounted:
            self._clear_away()
        for incoming in self._ways_in():
            incoming.mkdir(mode=0o700, exist_ok=self._mounted)
        for mount in self._wanted.mounts:
            if mount.source.is_relative_to(self._folder.mounts):
                self._make(mount.source, FileType.FILE if mount.target in self._wanted.files else FileType.DIRECTORY)
        tree = self._tree()
        for path in self._wanted.folders:
            try:
                os.close(tree.folder(path, make=True, owner=self._owner))
            except OSError as error:
                raise StagingFailed(f"folder {path}: {(error.strerror or str(error)).lower()}") from error
        for place, kind in self._wanted.places:
            self._make(self._folder.mounts / place.lstrip("/"), kind)

    def _clear_away(self) -> None:
        """Remove what an earlier prepare may have left by half."""
        for halfway in (self._folder.mounts, self._incoming):
            if halfway.exists():
                shutil.rmtree(halfway)
        for needed in (self._folder.mounts, self._folder.logs):
            needed.mkdir(parents=True, exist_ok=True)

    def fetch_all(self) -> None:
        tree = self._tree()
        files, problems = self._expanded()
        results = each(files, lambda file: self._bring(file, tree))
        problems += [
            f"input {file.path}: {result.message}"
            for file, result in zip(files, results, strict=True)
            if isinstance(result, WeftError)
        ]
        for incoming in self._ways_in():
            shutil.rmtree(incoming, ignore_errors=True)
        if problems:
            raise StagingFailed(in_words(problems))

    def _expanded(self) -> tuple[list[_File], list[str]]:
        """Return every single file of all downloads, and what could not be listed."""
        files: list[_File] = []
        problems = []
        items = self._wanted.downloads
        for item, result in zip(items, each(items, self._files_of), strict=True):
            if isinstance(result, WeftError):
                problems.append(f"input {item.path}: {result.message}")
            else:
                files += result
        return files, problems

    def _files_of(self, item: Input) -> list[_File]:
        url = url_of(item)
        path = str(PurePosixPath(item.path))
        if item.type is FileType.FILE or url is None:
            return [_File(item=item, path=path, url=url)]
        stager = self._stagers.for_url(url)
        entries = patiently(lambda: list(stager.list(url)), self._pause)
        if not entries and stager.kind(url) is FileType.FILE:
            self._retype(item, FileType.FILE)
            return [_File(item=item, path=path, url=url)]
        if not entries:
            self.messages.append(f"input {item.path}: nothing is stored below {shown(url)}; the folder is empty")
        return [
            _File(
                item=item,
                path=f"{path}/{_checked(entry.path)}",
                url=stager.join(url, entry.path),
                size_bytes=entry.size_bytes,
            )
            for entry in entries
        ]

    def _ways_in(self) -> list[Path]:
        return [source / _HIDDEN_INCOMING for source in self._sources.values()] if self._mounted else [self._incoming]

    def _way_in(self, path: str) -> Path:
        """Return the folder from which a file can be renamed to its place."""
        if not self._mounted:
            return self._incoming
        above = next(str(parent) for parent in PurePosixPath(path).parents if str(parent) in self._sources)
        return self._sources[above] / _HIDDEN_INCOMING

    def _bring(self, file: _File, tree: Tree) -> None:
        staged = self._way_in(file.path) / str(next(self._numbers))
        if file.url is None:
            staged.write_text(file.item.content or "", encoding="utf-8", newline="")
            staged.chmod(_CONTENT_MODE)
        else:
            url, stager = file.url, self._stagers.for_url(file.url)
            stager.check(url, writing=False)
            try:
                patiently(lambda: stager.download(url, staged), self._pause)
            except (StagingFailed, InvalidRequest):
                if not self._is_folder(file, stager):
                    raise
                self._bring_folder(file, tree)
                return
        size = staged.stat().st_size
        if file.size_bytes is not None and size != file.size_bytes:
            raise StagingFailed(f"{size} bytes instead of {file.size_bytes} at {shown(file.url or '')}")
        self._give(staged)
        self._place(staged, file.path, tree)

    def _is_folder(self, file: _File, stager: Stager) -> bool:
        """Tell whether what was called a file is a folder, after it could not be fetched."""
        if file.item.type is not FileType.FILE or file.url is None or file.item.path in self.types:
            return False
        try:
            return stager.kind(file.url) is FileType.DIRECTORY
        except WeftError:
            return False

    def _bring_folder(self, file: _File, tree: Tree) -> None:
        self._retype(file.item, FileType.DIRECTORY)
        if file.path in self._wanted.files:
            self._sources[file.path].unlink()
            self._sources[file.path].mkdir()
            self._give(self._sources[file.path])
            tree = self._tree()
        os.close(tree.folder(file.path, make=True, owner=self._owner))
        for inner in self._files_of(replace(file.item, type=FileType.DIRECTORY)):
            self._bring(inner, tree)

    def _retype(self, item: Input, found: FileType) -> None:
        self.types[item.path] = found
        self.messages.append(f"input {item.path}: type corrected to {found.value}")

    def _place(self, staged: Path, path: str, tree: Tree) -> None:
        """Rename a complete file to where the steps will see it."""
        if path in self._sources:
            source = self._sources[path]
            if source.is_dir():  # it was called a folder and is a file
                source.rmdir()
            staged.replace(source)
            return
        folder = tree.folder(str(PurePosixPath(path).parent), make=True, owner=self._owner)
        name = PurePosixPath(path).name
        try:
            _rename_into(folder, staged, name, self._owner)
        finally:
            os.close(folder)

    def _make(self, path: Path, kind: FileType) -> None:
        """Make an empty file or folder in the attempt's own folder, where no step has been yet."""
        if kind is FileType.DIRECTORY:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.touch()
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner)

    def _tree(self) -> Tree:
        return Tree(self._sources)


def url_of(item: Input) -> str | None:
    """Return the URL that counts, None for content (tesInput: content wins unless it is empty)."""
    return None if item.content or item.url is None else item.url


def _located(task: Task, stagers: Stagers, uid: int | None, gid: int | None) -> tuple[Task, dict[str, Local]]:
    """Correct the inputs' types as far as can be told now, and find those that may be seen in place."""
    inputs = []
    local: dict[str, Local] = {}
    problems = []
    for item in task.inputs:
        try:
            found = _local(item, stagers)
        except WeftError as error:
            problems.append(f"input {item.path}: {error.message}")
            continue
        if found is not None and (found.there or _is_readable(found.source, uid, gid)):
            local[item.path] = found
        inputs.append(item if found is None else replace(item, type=found.type))
    if problems:
        raise StagingFailed(in_words(problems))
    return replace(task, inputs=tuple(inputs)), local


def _local(item: Input, stagers: Stagers) -> Local | None:
    url = url_of(item)
    if url is None:
        return None
    source = stagers.for_url(url).local(url)
    if source is None:
        return None
    path = PurePosixPath(item.path)
    live = any(root.writable and path.is_relative_to(root.path) for root in stagers.roots)
    return Local(
        source=source,
        type=FileType.DIRECTORY if source.is_dir() else FileType.FILE,
        there=live and os.path.realpath(path) == str(source),
    )


def _is_readable(path: Path, uid: int | None, gid: int | None) -> bool:
    """Tell by the mode bits whether the job's user can read a file, or list and enter a folder."""
    if uid is None or uid == 0:
        return True
    found = path.stat()
    wanted = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    if found.st_uid == uid:
        return (found.st_mode >> 6) & wanted == wanted
    if found.st_gid == gid:
        return (found.st_mode >> 3) & wanted == wanted
    return found.st_mode & wanted == wanted


def _checked(relative: str) -> str:
    """Return a name that a listing gave, if it can be a path below a folder: object stores allow more than that."""
    if "\0" in relative or any(part in ("", ".", "..") for part in relative.split("/")):
        raise StagingFailed(f"the name {relative!r} in the listing cannot be a file's path")
    return relative


def _rename_into(folder: int, staged: Path, name: str, owner: Owner) -> None:
    try:
        os.rename(staged, name, dst_dir_fd=folder)
    except IsADirectoryError:  # it was called a folder and is a file
        os.rmdir(name, dir_fd=folder)
        os.rename(staged, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        store_beneath(staged, folder, name, owner)
