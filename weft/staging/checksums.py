"""Checksums as the APIs of GA4GH write them: ``{"type": "sha-256", "checksum": HEX}``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from weft.errors import StagingFailed

#: Types that can be computed here, the strongest first -> name in ``hashlib``.
_KNOWN = {
    "sha-512": "sha512",
    "sha512": "sha512",
    "sha-256": "sha256",
    "sha256": "sha256",
    "sha1": "sha1",
    "md5": "md5",
}
_CHUNK = 1 << 20


def digest(stream: BinaryIO, algorithm: str) -> str:
    """Return the checksum of what is left in ``stream``, in hexadecimal digits."""
    return _digest(_chunks(stream), algorithm)


def check_file(path: Path, given: Iterable[Mapping[str, Any]], what: str) -> None:
    """Hold a file against the strongest checksum that is given of it; nothing where none is known here.

    :raises StagingFailed: it is another one; names ``what``.
    """
    with path.open("rb") as stream:
        _check(_chunks(stream), given, what)


def check_bytes(body: bytes, given: Iterable[Mapping[str, Any]], what: str) -> None:
    """Hold bytes against the strongest checksum that is given of them, as ``check_file``."""
    _check(iter((body,)), given, what)


def _check(chunks: Iterator[bytes], given: Iterable[Mapping[str, Any]], what: str) -> None:
    by_type = {str(item.get("type", "")).lower(): str(item.get("checksum", "")) for item in given}
    for name, algorithm in _KNOWN.items():
        if name in by_type:
            computed = _digest(chunks, algorithm)
            if computed != by_type[name].lower():
                raise StagingFailed(f"the {name} of what was fetched is {computed}, not {by_type[name]}, at {what}")
            return


def _digest(chunks: Iterator[bytes], algorithm: str) -> str:
    found = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk
