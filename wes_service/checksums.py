"""SHA-256 of the files that an ended run left: computed when asked for, a bounded part at a time, and remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from weft.staging.checksums import digest
from wes_service.workfolder import WorkFolder

#: How much is read for one answer, beside the one file that is always read; what is left has its turn at the next.
BYTES_AT_ONCE = 256 << 20
#: Files that are larger get no checksum: an answer would take too long.
LARGEST = 4 << 30


class Checksums:
    """The checksums of one work folder, remembered in the file ``kept`` by path, size and time of change."""

    def __init__(self, work: WorkFolder, kept: Path) -> None:
        """Keep the folder, and where to remember; nothing is read yet."""
        self._work = work
        self._kept = kept

    def of(self, paths: Iterable[str]) -> dict[str, str]:
        """Return path -> SHA-256 of the files that have had their turn."""
        known = self._remembered()
        found: dict[str, str] = {}
        left = BYTES_AT_ONCE
        is_first = True
        for path in paths:
            file = self._work.open(path)
            if file is None:
                continue
            with file:
                seen = os.fstat(file.fileno())
                name = f"{path}\n{seen.st_size}\n{seen.st_mtime_ns}"
                if name not in known and seen.st_size <= LARGEST and (is_first or seen.st_size <= left):
                    known[name] = digest(file, "sha256")
                    left -= seen.st_size
                    is_first = False
            if name in known:
                found[path] = known[name]
        if not is_first:
            self._remember(known)
        return found

    def _remembered(self) -> dict[str, str]:
        try:
            document = json.loads(self._kept.read_bytes())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _remember(self, known: dict[str, str]) -> None:
        temporary = self._kept.with_name(f".{self._kept.name}.{os.getpid()}.{id(known)}")
        with suppress(OSError):
            temporary.write_text(json.dumps(known))
            temporary.replace(self._kept)
