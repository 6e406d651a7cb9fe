"""Where released files come in at a hub: in parts, beside their place, and into it when the hash is right."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.errors import InvalidRequest, TooLarge
from weft.folders import Folders
from weft.paths import LeadsOut, Tree, relative_name

_HEX = frozenset("0123456789abcdef")


def receive(folders: Folders, job_id: str, part: Mapping[str, Any], *, most: int) -> bool:
    """Take in one part of a file of a job; True when the file is whole. A part that came before changes nothing.

    :raises InvalidRequest: it cannot be read, does not fit to what came before, or the whole is not what was said.
    :raises TooLarge: the file is larger than ``most`` bytes.
    """
    path = relative_name(_text(part, "path"), "path")
    size, offset, digest = _number(part, "size_bytes"), _number(part, "offset"), _text(part, "sha256")
    if size > most:
        raise TooLarge(f"{path} has {size} bytes, and this hub takes {most} (setting hub.release_bytes)", field="path")
    if len(digest) != 64 or not _HEX.issuperset(digest):
        raise InvalidRequest("sha256 is no hash", field="sha256")
    data = _data(part)
    target = _place(folders.work(job_id), path)
    if target.is_file() and _hash(target) == digest:
        return True
    partial = target.with_name(f".{digest}.part")
    _write(partial, offset, data, size)
    if offset + len(data) < size:
        return False
    if _hash(partial) != digest:
        partial.unlink()
        raise InvalidRequest(f"{path} is not what its hash says", field="sha256", remedy="send it again from the start")
    partial.replace(target)
    return True


def _place(root: Path, path: str) -> Path:
    """Make the folders above ``path`` and return its place; nothing of it is a link."""
    root.mkdir(parents=True, exist_ok=True)
    tree, above = Tree({str(root): root}), f"{root}/{path}".rpartition("/")[0]
    try:
        os.close(tree.folder(above, make=True))
        return tree.host(tree.find(above)[0]) / path.rpartition("/")[2]
    except (LeadsOut, OSError) as error:
        raise InvalidRequest(f"{path} cannot be stored in the run's folder", field="path") from error


def _write(partial: Path, offset: int, data: bytes, size: int) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o644), "r+b") as stream:
        here = stream.seek(0, os.SEEK_END)
        if offset > here or offset + len(data) > size:
            raise InvalidRequest(f"the part at {offset} does not follow on {here} bytes of {size}", field="offset")
        stream.seek(offset)
        stream.write(data)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def _data(part: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(_text(part, "data"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("data is not base64", field="data") from error


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _text(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is missing", field=name)
    return value


def _number(part: Mapping[str, Any], name: str) -> int:
    value = part.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest(f"{name} is no number", field=name)
    return value
