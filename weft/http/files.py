"""Send a file with ranges and conditions (RFC 9110, sections 13 and 14), also one that is still being written."""

from __future__ import annotations

import os
import stat
from io import SEEK_SET
from pathlib import Path
from typing import BinaryIO, Self

from flask import Response, request

from weft.errors import NotFound

_CHUNK = 256 * 1024


def send_file(source: Path | BinaryIO, content_type: str, *, name: str | None = None) -> Response:
    """Answer the present request (GET or HEAD) with a file as long as it is now; Flask routes only.

    :param source: a path, opened without following a link in its last part; or an open file, which is closed.
    :param name: file name to save it under; without it a browser shows the file.
    :raises NotFound: there is no such file; a link or a folder is none.
    """
    stream = _open(source) if isinstance(source, Path) else source
    state = os.fstat(stream.fileno())
    response = Response(_Bounded(stream, state.st_size), direct_passthrough=True)
    response.headers["Content-Type"] = content_type
    response.content_length = state.st_size
    response.last_modified = state.st_mtime  # type: ignore[assignment]
    response.set_etag(f"{state.st_mtime_ns:x}-{state.st_size:x}")
    if name is not None:
        response.headers.set("Content-Disposition", "attachment", filename=name)
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=state.st_size)
    except BaseException:
        stream.close()
        raise
    return response


def _open(path: Path) -> BinaryIO:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:  # also a link (ELOOP), or a part of the way that is no folder
        raise NotFound("there is no such file") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotFound("there is no such file")
    return os.fdopen(handle, "rb")


class _Bounded:
    """The first ``size`` bytes of a file, however much it grows meanwhile; werkzeug seeks in it for ranges."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk = self._stream.read(min(_CHUNK, self._size - self._stream.tell()))
        if not chunk:
            raise StopIteration
        return chunk

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
