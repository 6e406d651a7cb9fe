"""Find again what finished jobs left in a run's folder, so that a run that resumes another need not repeat them.

A job is known by all that decides what it makes: its command, image, environment and streams, and the inputs. An
output of another job counts by its checksum, any other file by its path, size and time of change. What a job left is
taken only if it is as the job left it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: cwltool stages each input in a folder of its own with such a name.
_STAGED = re.compile(r"stg[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FILES = ("File", "WritableFile")
_FOLDERS = ("Directory", "WritableDirectory")
#: Relative path, size, time of change in ns.
_Manifest = list[list[Any]]


class Finished:
    """The finished jobs of a run's folder, kept in ``notes``, a line each."""

    def __init__(self, work: Path, notes: Path) -> None:
        """Read the notes of those who ran here before, if there are any."""
        self._work = work
        self._notes = notes
        self._left: dict[str, list[tuple[Path, _Manifest]]] = {}
        self._checksums: dict[str, str] = {}
        for key, folder, manifest in _read(notes):
            self._left.setdefault(key, []).append((work / folder, manifest))

    def key(self, document: Mapping[str, Any], inputs: Iterable[Any], places: Mapping[str, str]) -> str:
        """Return what a job is known by.

        :param document: what its task does, without what differs from run to run.
        :param inputs: entries of cwltool's path mappers.
        :param places: folder that bears a name of its own in every run -> what to call it.
        """
        entries = [[entry.type, entry.target, self._identity(entry)] for entry in inputs]
        text = json.dumps([document, entries], sort_keys=True, ensure_ascii=False)
        for folder in sorted(places, key=len, reverse=True):
            text = text.replace(_in_json(folder), places[folder])
        names: dict[str, str] = {}
        text = _STAGED.sub(lambda match: names.setdefault(match[0], f"stg{len(names)}"), text)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def take(self, key: str, target: Path) -> bool:
        """Move what a finished job left to ``target``, an empty folder; False where there is nothing to take."""
        for folder, manifest in self._left.pop(key, ()):
            if folder != target and not folder.is_symlink() and folder.is_dir() and _manifest(folder) == manifest:
                target.rmdir()
                folder.rename(target)
                return True
        return False

    def note(self, key: str, folder: Path) -> None:
        """Remember that a job is finished and what it left in ``folder``."""
        line = json.dumps([key, str(folder.relative_to(self._work)), _manifest(folder)])
        with self._notes.open("a") as stream:
            stream.write(f"{line}\n")

    def learn(self, outputs: Any) -> None:
        """Remember the checksums of a job's output files."""
        if isinstance(outputs, Mapping):
            if outputs.get("class") == "File" and "checksum" in outputs and "location" in outputs:
                path = unquote(urlsplit(outputs["location"]).path)
                self._checksums[path] = f"{outputs['checksum']} {outputs.get('size')}"
            for value in outputs.values():
                self.learn(value)
        elif isinstance(outputs, list):
            for value in outputs:
                self.learn(value)

    def _identity(self, entry: Any) -> Any:
        """Return what tells this input from others; the text itself where it is written for the job."""
        if entry.type in _FILES:
            return self._of_file(entry.resolved)
        if entry.type in _FOLDERS:
            root = Path(entry.resolved)
            return [[name, self._of_file(str(root / name))] for name, *_ in _manifest(root)] if root.is_dir() else ""
        return entry.resolved

    def _of_file(self, path: str) -> str:
        known = self._checksums.get(path)
        if known is not None:
            return known
        try:
            found = Path(path).stat()
        except OSError:
            return path
        return f"{path} {found.st_size} {found.st_mtime_ns}"


def _read(notes: Path) -> Iterator[tuple[str, str, _Manifest]]:
    """Yield what can be read; the last line may have been cut off."""
    try:
        lines = notes.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            key, folder, manifest = json.loads(line)
        except (ValueError, TypeError):
            continue
        yield str(key), str(folder), manifest


def _manifest(folder: Path) -> _Manifest:
    """List every file below a folder; a link counts by where it leads."""
    found: _Manifest = []
    for here, folders, files in os.walk(folder):
        for name in sorted((*files, *(name for name in folders if Path(here, name).is_symlink()))):
            path = Path(here, name)
            seen = path.lstat()
            is_link = stat.S_ISLNK(seen.st_mode)
            last = str(path.readlink().name) if is_link else seen.st_mtime_ns
            found.append([str(path.relative_to(folder)), 0 if is_link else seen.st_size, last])
    return sorted(found, key=str)


def _in_json(path: str) -> str:
    return json.dumps(path, ensure_ascii=False)[1:-1]
