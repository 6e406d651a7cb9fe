"""Keep the end of a stream in a file that cannot fill the disk. Standard library only."""

# ruff: noqa: PTH104
from __future__ import annotations

import os


class CapturedFile:
    """A captured stream on disk: never larger than twice ``limit`` bytes, and always the end of it."""

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.limit = path, limit
        self.size = 0
        self.descriptor = self._open(path)

    @staticmethod
    def _open(path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def write(self, chunk: bytes) -> None:
        """Append; when the file has grown to twice the limit, drop its first part."""
        while chunk:
            written = os.write(self.descriptor, chunk)
            self.size += written
            chunk = chunk[written:]
        if self.size > 2 * self.limit:
            self._keep_the_end()

    def _keep_the_end(self) -> None:
        fresh = self._open(self.path + ".new")
        offset, end = self.size - self.limit, self.size
        while offset < end:
            offset += os.sendfile(fresh, self.descriptor, offset, end - offset)
        os.rename(self.path + ".new", self.path)
        os.close(self.descriptor)
        self.descriptor, self.size = fresh, self.limit

    def tail(self, count: int) -> bytes:
        """Return the last ``count`` bytes."""
        return os.pread(self.descriptor, count, max(0, self.size - count))

    def close(self) -> None:
        """Close the file; it stays."""
        os.close(self.descriptor)
