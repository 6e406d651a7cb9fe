"""Which workers on this machine live: each holds a lock on a file of its own for as long as its process does.

A worker that was killed leaves leases behind that last for a while. Where it provably died, nobody has to wait for
them: the kernel gives a dead process's lock away at once, and a process that only stands still keeps it. That is
known of processes under this very kernel alone (the boot id says so); whoever ran elsewhere is waited for.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Presence:
    """One worker's file among those of all workers of one data folder.

    ::

        DATA/workers/WORKER     locked while the worker lives; holds the boot id of its machine
    """

    def __init__(self, folder: Path, worker: str) -> None:
        """Assign; ``enter`` makes the file."""
        self._folder = folder
        self._worker = worker
        self._boot = _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
        self._held: int | None = None

    def enter(self) -> None:
        """Let others see that this worker lives, until ``leave`` or the death of this process."""
        if self._held is not None or not self._boot:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / self._worker
        temporary = file.with_name(f".{self._worker}")  # nobody sees the file before it is locked
        self._held = os.open(temporary, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        os.write(self._held, self._boot.encode())
        temporary.rename(file)

    def leave(self) -> None:
        """Take the file away. May be called twice."""
        if self._held is not None:
            (self._folder / self._worker).unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def dead(self) -> Iterator[str]:
        """Give the workers that died without a word; each is forgotten when the next one is asked for."""
        if not self._boot or not self._folder.is_dir():
            return
        for file in sorted(self._folder.iterdir()):
            if file.name.startswith(".") or file.name == self._worker:
                continue
            with suppress(FileNotFoundError):
                if self._is_free(file):
                    yield file.name
                    file.unlink()

    def _is_free(self, file: Path) -> bool:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.read(descriptor, 100) != self._boot.encode():
                return False
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
