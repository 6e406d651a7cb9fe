"""Take a run's attachments in: names kept exactly or refused, bytes straight to disk, within limits.

WES 1.1.0 RunWorkflow allows sub-directories and forbids ``..``. weft renames nothing, because a workflow that
imports ``rules/a b.smk`` would break; what it cannot keep as it is gets 400 (``reference/wes.md``, B4).
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from weft.errors import InvalidRequest, TooLarge
from wes_service.workfolder import WorkFolder

FIELD = "workflow_attachment"
RESERVED = ".weft"  # the run's own notes lie in this sub-folder of its working folder
_LONGEST_PART = 255  # bytes: NAME_MAX of Linux file systems
_LONGEST_NAME = 1024  # bytes: well below PATH_MAX together with the data folder
_KEEP = "file names are kept exactly as they come, or refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one request may attach."""

    part_bytes: int
    total_bytes: int
    parts: int = 1000


def split_name(name: str) -> tuple[str, ...]:
    """Return the components of an attachment's file name.

    :raises InvalidRequest: the name is empty, absolute, too long, or has ``..``, ``.``, a backslash, a control
        character or an empty component.
    """
    _check_characters(name)
    if name.startswith("/"):
        raise _refused(name, "is absolute", "send a path relative to the run's folder")
    parts = tuple(name.split("/"))
    if _folded(parts[:1]) == RESERVED:
        raise _refused(name, f"lies in '{RESERVED}', which is the server's", "choose another folder")
    for part in parts:
        if part in ("", ".", ".."):
            raise _refused(name, f"has the component '{part}'", "send a plain relative path such as rules/align.smk")
        if len(part.encode()) > _LONGEST_PART:
            raise _refused(name, f"has a component of more than {_LONGEST_PART} bytes", "use a shorter name")
    if len(name.encode()) > _LONGEST_NAME:
        raise _refused(name, f"is longer than {_LONGEST_NAME} bytes", "use a shorter name")
    return parts


def _check_characters(name: str) -> None:
    if not name:
        raise _refused(name, "is empty", 'give every part a filename: Content-Disposition: …; filename="Snakefile"')
    if "\\" in name:
        raise _refused(name, "has a backslash", "separate sub-directories with '/'")
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise _refused(name, f"has the control character {character!r}", "use printable characters")
        if character == "\N{REPLACEMENT CHARACTER}":
            raise _refused(name, "is not UTF-8", "send file names in UTF-8")


def _refused(name: str, what: str, remedy: str) -> InvalidRequest:
    shown = name.encode("unicode_escape").decode()[:200]
    return InvalidRequest(
        f"{FIELD}: the file name '{shown}' {what} ({_KEEP})",
        field=FIELD,
        remedy=remedy,
    )


def _folded(parts: Iterable[str]) -> str:
    """Return what names are compared by: the same on file systems that ignore case or Unicode form."""
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


@dataclass(slots=True, kw_only=True)
class Intake:
    """The attachments of one request, on their way into ``folder``, which is made when the first one comes."""

    folder: Path
    limits: Limits
    names: list[str] = field(default_factory=list)
    _files: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, str] = field(default_factory=dict)
    _made: set[tuple[str, ...]] = field(default_factory=set)
    _bytes: int = 0

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one attachment to disk as its bytes come.

        :raises InvalidRequest: the name cannot be kept, or collides with an earlier one.
        :raises TooLarge: too many attachments, or too many bytes in one or in all of them.
        """
        parts = split_name(name)
        self._reserve(name, parts)
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with WorkFolder(self.folder).create(parts) as file:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                self._count(name, len(chunk), size)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        self.names.append(name)

    def seal(self) -> None:
        """Put the folder itself on disk; the files are there already."""
        if not self.names:
            return
        work = WorkFolder(self.folder)
        for parts in sorted(self._made, key=len, reverse=True):
            work.sync(parts)
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            WorkFolder(folder).sync()

    def discard(self) -> None:
        """Remove the job's whole folder: the run was refused."""
        if self.folder.exists():
            shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _reserve(self, name: str, parts: tuple[str, ...]) -> None:
        if len(self._files) >= self.limits.parts:
            raise TooLarge(f"{FIELD}: more than {self.limits.parts} files", field=FIELD, remedy="attach fewer files")
        key = _folded(parts)
        other = self._files.get(key) or self._folders.get(key)
        above = [parts[:depth] for depth in range(1, len(parts))]
        for folder in above:
            other = other or self._files.get(_folded(folder))
        if other is not None:
            raise _refused(name, f"collides with '{other}'", "give every file a name of its own")
        self._files[key] = name
        self._folders.update({_folded(folder): name for folder in above})
        self._made.update(above)

    def _count(self, name: str, chunk: int, size: int) -> None:
        self._bytes += chunk
        if size > self.limits.part_bytes:
            raise TooLarge(f"{FIELD}: '{name}' is larger than {self.limits.part_bytes} bytes", field=FIELD)
        if self._bytes > self.limits.total_bytes:
            raise TooLarge(f"{FIELD}: all files together are larger than {self.limits.total_bytes} bytes", field=FIELD)
