"""Store a task's outputs after its last step stopped: find them by handle, upload in parallel, say what was skipped.

Paths are looked up in the tree of the mounts, as the steps saw it: a link is followed wherever it leads inside the
mounts (an absolute one means the container's path) and never out of them. Regular files only.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from weft.errors import StagingFailed, WeftError
from weft.model import FileType, Mount, Output, StoredOutput, Task
from weft.paths import LeadsOut, Tree
from weft.ports import Root
from weft.staging.parallel import Pause, each, in_words, patiently
from weft.staging.stagers import Stagers
from weft.staging.urls import with_text
from weft.staging.wildcards import expand, has_wildcards, literal, pruned


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was stored, in the order of the task's outputs, and what is to be said of the rest."""

    stored: tuple[StoredOutput, ...] = ()
    messages: tuple[str, ...] = ()
    #: Path of each output whose type was not what the task said -> the type that was found.
    types: Mapping[str, FileType] = field(default_factory=dict)


class CollectFailed(StagingFailed):
    """An output is missing or could not be stored; ``collected`` is what could be."""

    def __init__(self, message: str, collected: Collected) -> None:
        """Keep what was stored all the same."""
        super().__init__(message)
        self.collected = collected


def collect(
    task: Task,
    mounts: Sequence[Mount],
    stagers: Stagers,
    best_effort: bool = False,
    *,
    roots: Sequence[Root] = (),
    pause: Pause = time.sleep,
) -> Collected:
    """Store every output of ``task``; all that can be stored is, before the first failure is told.

    :param best_effort: after a step failed: what is missing is said in ``messages`` only.
    :raises CollectFailed: a ``StagingFailed`` that names the outputs that are missing or could not be stored.
    """
    stagers = stagers.with_roots(roots)
    search = _Search(mounts, stagers)
    found = [file for output in task.outputs for file in search.files(output)]
    results = each(found, lambda file: _upload(file, search.tree, stagers, pause))
    failed = [(file, result) for file, result in zip(found, results, strict=True) if isinstance(result, WeftError)]
    problems = search.problems + [f"output {with_text(file.path)}: {error.message}" for file, error in failed]
    collected = Collected(
        stored=tuple(result for result in results if isinstance(result, StoredOutput)),
        messages=(*search.messages, *(problems if best_effort else ())),
        types=search.types,
    )
    if problems and not best_effort:
        failure = CollectFailed(in_words(problems), collected)
        waits = all(isinstance(error, StagingFailed) and error.may_pass for _, error in failed)
        failure.may_pass = waits and not search.problems
        raise failure
    return collected


@dataclass(frozen=True, slots=True)
class _File:
    """One file to store: its path as the steps saw it, and its URL."""

    path: str
    url: str


class _Search:
    """Finds the files behind outputs, and remembers what is to be said."""

    def __init__(self, mounts: Sequence[Mount], stagers: Stagers) -> None:
        self.tree = Tree({mount.target: mount.source for mount in mounts})
        self.messages: list[str] = []
        self.problems: list[str] = []
        self.types: dict[str, FileType] = {}
        self._stagers = stagers

    def files(self, output: Output) -> Iterator[_File]:
        try:
            yield from self._matches(output) if has_wildcards(output.path) else self._literal(output)
        except WeftError as error:
            self.problems.append(f"output {output.path}: {error.message}")
        except OSError as error:
            self.problems.append(f"output {output.path}: {(error.strerror or str(error)).lower()}")

    def _literal(self, output: Output) -> Iterator[_File]:
        path = literal(str(PurePosixPath(output.path)))
        is_folder = self._is_folder(path)
        if is_folder is None:
            return
        if is_folder != (output.type is FileType.DIRECTORY):
            self.types[output.path] = FileType.DIRECTORY if is_folder else FileType.FILE
            self.messages.append(f"output {path}: type corrected to {self.types[output.path]}")
        if is_folder:
            yield from self._below(path, output.url, path)
        elif output.type is FileType.DIRECTORY and output.url.endswith("/"):
            yield self._file(path, self._join(output.url, PurePosixPath(path).name))
        elif output.url.endswith("/"):
            raise StagingFailed("the url ends with '/', but it must name the file itself")
        else:
            yield self._file(path, output.url)

    def _matches(self, output: Output) -> Iterator[_File]:
        matches = expand(output.path, self._names)
        if not matches:
            self.messages.append(f"output {output.path}: nothing matches")
        for path in matches:
            try:
                mode = self.tree.find(path)[1].st_mode
            except LeadsOut:
                self._skipped(path, "a link that leads out")
            except OSError as error:
                self._skipped(path, (error.strerror or str(error)).lower())
            else:
                if stat.S_ISDIR(mode):
                    yield from self._below(path, output.url, output.path_prefix)
                elif stat.S_ISREG(mode):
                    yield self._file(path, self._join(output.url, pruned(path, output.path_prefix)))
                else:
                    self._skipped(path, "neither a file nor a folder")

    def _below(self, folder: str, url: str, prefix: str | None) -> Iterator[_File]:
        """Flatten a folder."""
        empty = True
        for path, _ in self.tree.files(folder, self._skipped):
            empty = False
            yield self._file(path, self._join(url, pruned(path, prefix)))
        if empty:
            self.messages.append(f"output {with_text(folder)}: the folder holds no files")

    def _is_folder(self, path: str) -> bool | None:
        """Look at a path that must be there; None if it cannot be stored."""
        try:
            mode = self.tree.find(path)[1].st_mode
        except (FileNotFoundError, NotADirectoryError):
            self.problems.append(f"output {path}: the task did not write it")
        except LeadsOut:
            self.problems.append(f"output {path}: a link that leads out of the task's folders")
        except OSError as error:
            self.problems.append(f"output {path}: {(error.strerror or str(error)).lower()}")
        else:
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                return stat.S_ISDIR(mode)
            self.problems.append(f"output {path}: neither a file nor a folder")
        return None

    def _file(self, path: str, url: str) -> _File:
        if with_text(path) != path:
            self.messages.append(f"output {with_text(path)}: its name is not UTF-8")
        return _File(path, url)

    def _names(self, folder: str) -> list[str]:
        try:
            return self.tree.names(folder)
        except OSError:
            return []

    def _join(self, url: str, relative: str) -> str:
        return self._stagers.for_url(url).join(url, relative)

    def _skipped(self, path: str, reason: str) -> None:
        self.messages.append(f"output {with_text(path)}: skipped, {reason}")


def _upload(file: _File, tree: Tree, stagers: Stagers, pause: Pause) -> StoredOutput:
    """Store one file by its handle, so that no later link can stand for it."""
    stager = stagers.for_url(file.url)
    stager.check(file.url, writing=True)
    handle = tree.open(file.path)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StagingFailed("not a regular file")
        patiently(lambda: stager.upload(Path(f"/proc/self/fd/{handle}"), file.url), pause)
    finally:
        os.close(handle)
    return StoredOutput(url=with_text(file.url), path=with_text(file.path), size_bytes=found.st_size)
