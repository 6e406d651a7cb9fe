"""Read the end of what a step writes, as text that a JSON answer can hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft.folders import log_path
from weft.model import Mount, Step, Tail

Stamp = tuple[int, int]  # size in bytes, mtime in nanoseconds


def read_tail(path: Path, limit: int) -> str:
    """Return at most the last ``limit`` bytes of ``path`` as text; "" when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        stream.seek(max(0, size - limit))
        data = stream.read(limit)
    if size > limit:  # do not begin in the middle of a character
        data = data.lstrip(bytes(range(0x80, 0xC0)))
    return data.decode("utf-8", errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


@dataclass(slots=True)
class TailReader:
    """Remembers what was saved of one attempt, so that only news is read again."""

    attempt: int
    folder: Path
    mounts: Sequence[Mount]
    steps: Sequence[Step]
    limit: int
    _saved: dict[int, tuple[Stamp | None, Stamp | None]] = field(default_factory=dict)
    _read: dict[int, tuple[Stamp | None, Stamp | None]] = field(default_factory=dict)

    def news(self) -> tuple[Tail, ...]:
        """Return the tails of the steps that wrote something since ``saved``."""
        found = []
        for index in range(len(self.steps)):
            paths = [log_path(self.folder, self.mounts, self.steps, index, stream) for stream in ("stdout", "stderr")]
            stamps = (_stamp(paths[0]), _stamp(paths[1]))
            if stamps == (None, None) or stamps == self._saved.get(index):
                continue
            self._read[index] = stamps
            stdout, stderr = (read_tail(path, self.limit) for path in paths)
            found.append(Tail(attempt=self.attempt, step=index, stdout=stdout, stderr=stderr))
        return tuple(found)

    def saved(self) -> None:
        """Note that what ``news`` gave last is on disk; before that it is news again each time."""
        self._saved.update(self._read)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
