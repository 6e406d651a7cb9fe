"""Carry a run's files between its folder here and object storage, for tasks that see no folder of this host.

A task of a run names the files that it needs and makes by ``file://`` URLs below the run's folder. Before such a task
is handed over, the files that it needs are stored below the storage, once for each state of a file, and the URLs
become those of the copies; after its end, what it made is brought home. The run's engine sees its folder and nothing
else. Both ways go by the guarded file stager, as a run's folder may hold links that its workflow made.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from weft.errors import InvalidRequest, StagingFailed, WeftError
from weft.folders import Folders
from weft.model import FileType, Input, Output, Task
from weft.ports import Root, Stager
from weft.staging import halt
from weft.staging.file import local_path
from weft.staging.parallel import Pause, each, in_words, patiently
from weft.staging.stagers import Stagers
from weft.staging.urls import scheme_of, shown
from weft.staging.wildcards import has_wildcards, matches

_OF_HOST = frozenset({"", "file"})
#: Files of which is remembered that they lie in storage.
_MOST_NOTED = 100_000

Stamp = tuple[int, int, int]  # inode, size in bytes, mtime in nanoseconds


@dataclass(slots=True, kw_only=True)
class Ferry:
    """Carries the files of all runs; may be used from any thread."""

    folders: Folders
    stagers: Stagers
    #: ``s3://BUCKET/PREFIX``; each run has a folder of its own below it.
    storage: str | None
    pause: Pause = halt.pause
    #: What lies in storage already: run, path -> the state of the file that was stored.
    _stored: dict[tuple[str, str], Stamp] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def out(self, run: str, task: Task) -> Task:
        """Store what ``task`` needs of the run's folder, and return the task with URLs in storage.

        :raises StagingFailed: names the inputs that could not be stored; or there is no storage.
        """
        trip = _Trip(self, run)
        inputs = [self._input(item, trip) for item in task.inputs]
        outputs = tuple(self._output(item, trip) for item in task.outputs)
        results = each(trip.loads, lambda load: load())
        problems = [result.message for result in results if isinstance(result, WeftError)]
        if problems:
            raise StagingFailed(in_words(problems))
        return replace(task, inputs=tuple(inputs), outputs=outputs)

    def home(self, run: str, task: Task) -> tuple[str, ...]:
        """Bring what ``task`` (with the URLs of the run's folder) made to that folder; returns what is missing."""
        trip = _Trip(self, run)
        found = [pair for output in task.outputs if trip.covers(output.url) for pair in trip.made(output)]
        results = each(found, lambda pair: trip.fetch(*pair))
        return tuple(result.message for result in results if isinstance(result, WeftError))

    def is_stored(self, run: str, path: str, stamp: Stamp) -> bool:
        """Tell whether this state of a file lies in storage."""
        with self._lock:
            return self._stored.get((run, path)) == stamp

    def note(self, run: str, path: str, stamp: Stamp) -> None:
        """Keep that this state of a file lies in storage; what was noted longest ago is stored again, if need be."""
        with self._lock:
            self._stored.pop((run, path), None)
            self._stored[run, path] = stamp
            if len(self._stored) > _MOST_NOTED:
                del self._stored[next(iter(self._stored))]

    def _input(self, item: Input, trip: _Trip) -> Input:
        if item.content or item.url is None or not trip.covers(item.url):
            return item
        trip.load(item)
        return replace(item, url=trip.there(item.url))

    def _output(self, item: Output, trip: _Trip) -> Output:
        return replace(item, url=trip.there(item.url)) if trip.covers(item.url) else item


class _Trip:
    """The files of one task of one run."""

    def __init__(self, ferry: Ferry, run: str) -> None:
        self._ferry, self._run, self._work = ferry, run, ferry.folders.work(run)
        self._stagers = ferry.stagers.with_roots((Root(self._work, writable=True),))
        self.loads: list[Callable[[], None]] = []

    def covers(self, url: str) -> bool:
        """Tell whether a URL names something in the run's folder."""
        return scheme_of(url) in _OF_HOST and Path(local_path(url)).is_relative_to(self._work)

    def there(self, url: str) -> str:
        """Return the URL in storage of what lies at ``url``."""
        if self._ferry.storage is None:
            raise StagingFailed(
                "the executor shares no folder with this run, and there is no storage between them: set engine.storage"
            )
        relative = os.fsencode(Path(local_path(url)).relative_to(self._work)).decode("utf-8", "surrogateescape")
        name = "" if relative == "." else relative
        base = f"{self._ferry.storage.rstrip('/')}/runs/{self._run}"
        return self._storage(base).join(base, f"{name}/" if url.endswith("/") and name else name)

    def load(self, item: Input) -> None:
        """Plan to store an input."""
        url = str(item.url)
        if item.type is FileType.FILE:
            self.loads.append(lambda: self._store(url))
            return
        here = self._stagers.for_url(url)
        for entry in here.list(url):
            inner = here.join(url, entry.path)
            self.loads.append(lambda inner=inner: self._store(inner))  # type: ignore[misc]

    def made(self, output: Output) -> Iterator[tuple[str, str]]:
        """Give the URL in storage and the one at home of each file of an output."""
        there, here = self.there(output.url), self._stagers.for_url(output.url)
        if output.type is FileType.FILE and not has_wildcards(output.path):
            yield there, output.url
            return
        storage = self._storage(there)
        wanted = PurePosixPath(output.path).name if has_wildcards(output.path) else None
        for entry in storage.list(there):
            if wanted is None or matches(wanted, PurePosixPath(entry.path).name):
                yield storage.join(there, entry.path), here.join(output.url, entry.path)

    def fetch(self, there: str, here: str) -> None:
        """Bring one file home."""
        with tempfile.TemporaryDirectory(prefix="weft-ferry-") as folder:
            copy = Path(folder) / "file"
            patiently(lambda: self._storage(there).download(there, copy), self._ferry.pause)
            self._stagers.for_url(here).upload(copy, here)
        self._ferry.note(self._run, local_path(here), self._stamp(here))

    def _store(self, url: str) -> None:
        stamp = self._stamp(url)
        if self._ferry.is_stored(self._run, local_path(url), stamp):
            return
        there = self.there(url)
        with tempfile.TemporaryDirectory(prefix="weft-ferry-") as folder:
            copy = Path(folder) / "file"
            self._stagers.for_url(url).download(url, copy)
            patiently(lambda: self._storage(there).upload(copy, there), self._ferry.pause)
        self._ferry.note(self._run, local_path(url), stamp)

    def _stamp(self, url: str) -> Stamp:
        try:
            found = Path(local_path(url)).stat()
        except OSError as error:
            raise StagingFailed(f"{(error.strerror or str(error)).lower()} at {shown(url)}") from error
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _storage(self, url: str) -> Stager:
        stager = self._ferry.stagers.for_url(url)
        if scheme_of(url) in _OF_HOST:
            raise InvalidRequest("engine.storage is a folder of this host", remedy="s3://BUCKET/PREFIX")
        return stager
