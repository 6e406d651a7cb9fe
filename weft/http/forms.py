"""Write a ``multipart/form-data`` body while it is sent, so that no file of it is ever held in memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartEncoder, Preamble

from weft.paths import open_beneath

_CHUNK = 256 * 1024


def send_form(fields: Mapping[str, str], folder: Path, files: Iterable[str], *, name: str) -> Response:
    """Answer the present request with a form: text fields, and files below ``folder`` under the field ``name``.

    An answer that breaks off in its middle has no end that a reader could take for one.
    """
    boundary = secrets.token_hex(16)
    body = _form(boundary, fields, folder, files, name)
    return Response(body, content_type=f"multipart/form-data; boundary={boundary}", direct_passthrough=True)


def _form(boundary: str, fields: Mapping[str, str], folder: Path, files: Iterable[str], name: str) -> Iterator[bytes]:
    encoder = MultipartEncoder(boundary.encode())
    yield encoder.send_event(Preamble(data=b""))
    for field, text in fields.items():
        yield encoder.send_event(Field(name=field, headers=Headers()))
        yield encoder.send_event(Data(data=text.encode(), more_data=False))
    for path in files:
        headers = Headers([("Content-Type", "application/octet-stream")])
        yield encoder.send_event(File(name=name, filename=path, headers=headers))
        with open(open_beneath(folder, path), "rb") as stream:  # noqa: PTH123 - a descriptor, and no path
            for chunk in _chunks(stream):
                yield encoder.send_event(Data(data=chunk, more_data=True))
        yield encoder.send_event(Data(data=b"", more_data=False))
    yield encoder.send_event(Epilogue(data=b""))


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk
