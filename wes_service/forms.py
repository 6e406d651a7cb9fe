"""Read the body of ``POST /runs``: multipart, urlencoded or JSON become fields by name; files go straight to disk.

Real clients send all three (``reference/wes.md``, B1), and some send every text field as a part with a file name
(B3). The multipart decoder is Werkzeug's, fed by hand, so that no attachment is ever held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import NEED_DATA, Data, Epilogue, Event, Field, File, MultipartDecoder

from weft.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from wes_service.attachments import FIELD, Intake
from wes_service.values import decode_json

#: The text fields of ``RunRequest``.
TEXT_FIELDS = frozenset(
    {
        "workflow_params",
        "workflow_type",
        "workflow_type_version",
        "tags",
        "workflow_engine",
        "workflow_engine_version",
        "workflow_engine_parameters",
        "workflow_url",
    }
)
#: The name that Sapporo's first clients give to attachments stands beside the one of the spec.
_ATTACHMENT_NAMES = frozenset({FIELD, f"{FIELD}[]"})
_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_JSON = "application/json"
_ACCEPTED = f"send {_MULTIPART}, {_URLENCODED} or {_JSON}"
_CHUNK = 64 << 10
_LONGEST_HEADERS = 64 << 10
_LONGEST_BOUNDARY = 200  # characters; RFC 2046 allows 70
_MOST_FIELDS = 200
#: A parameter of a header: its name, and its value with the quotes.
_PARAMETER = re.compile(r';\s*([^=;\s]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
#: What browsers send for a quote and for line breaks; a name may also have these very characters.
_AMBIGUOUS = re.compile("%22|%0[AD]", re.IGNORECASE)


class Readable(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        ...


@dataclass(slots=True)
class Fields:
    """The fields of one request: text, or the value that JSON gave. ``unknown`` were sent but mean nothing in WES."""

    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any) -> None:
        """Keep one field.

        :raises InvalidRequest: the same field came before.
        """
        if name not in TEXT_FIELDS:
            self.unknown.append(name)
        elif name in self.values:
            raise InvalidRequest(f"{name} was sent more than once", field=name, remedy="send each field once")
        else:
            self.values[name] = value


def read_body(content_type: str, body: Readable, intake: Intake, *, most_text: int) -> Fields:
    """Read the whole body; attachments go to ``intake``.

    :param content_type: the header; "" when there is none.
    :param most_text: the most bytes of everything that is not an attachment.
    :raises InvalidRequest: there is no body, or it is not what its content type says.
    :raises UnsupportedMediaType: another content type.
    :raises TooLarge: a limit is exceeded.
    """
    kind, options = parse_options_header(content_type)
    match kind.lower():
        case "":
            raise InvalidRequest("the request has no body", remedy=_ACCEPTED)
        case "multipart/form-data":
            return _Multipart(options.get("boundary", ""), intake, most_text).read(body)
        case "application/x-www-form-urlencoded":
            return _urlencoded(_all(body, most_text))
        case "application/json":
            return _json(_all(body, most_text))
        case _:
            raise UnsupportedMediaType(f"runs are not sent as {kind[:100]}", remedy=_ACCEPTED)


def _all(body: Readable, most: int) -> bytes:
    pieces, size = [], 0
    while piece := body.read(_CHUNK):
        size += len(piece)
        if size > most:
            raise TooLarge(f"the request is larger than {most} bytes", remedy="send large values as attachments")
        pieces.append(piece)
    return b"".join(pieces)


def _urlencoded(text: bytes) -> Fields:
    fields = Fields()
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:  # UnicodeError is one
        raise InvalidRequest(f"the body is not {_URLENCODED}: {error}", remedy=_ACCEPTED) from error
    if not pairs:
        raise InvalidRequest("the request has no body", remedy=_ACCEPTED)
    for name, value in pairs:
        _refuse_attachment(name)
        fields.add(name, value)
    return fields


def _json(text: bytes) -> Fields:
    """Read a JSON object; a field that is null counts as not sent."""
    if not text.strip():
        raise InvalidRequest("the request has no body", remedy=_ACCEPTED)
    document = decode_json(text, "the body")
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object", remedy='send {"workflow_url": "…", …}')
    fields = Fields()
    for name, value in document.items():
        _refuse_attachment(name)
        if value is not None:
            fields.add(name, value)
    return fields


def _refuse_attachment(name: str) -> None:
    if name in _ATTACHMENT_NAMES:
        raise InvalidRequest(f"{FIELD} needs {_MULTIPART}", field=FIELD, remedy=f"send the files as {_MULTIPART}")


class _Multipart:
    """Reads one multipart body, part by part."""

    def __init__(self, boundary: str, intake: Intake, most_text: int) -> None:
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
            raise InvalidRequest(f"{_MULTIPART} has no usable boundary", remedy="let your HTTP library set it")
        self.decoder = MultipartDecoder(boundary.encode())
        self.intake = intake
        self.most_text = most_text
        self.room = most_text
        self.fields = Fields()
        self.parts = 0

    def read(self, body: Readable) -> Fields:
        """Read to the end of the body."""
        events = self._events(body)
        for event in events:
            if isinstance(event, Field | File):
                self._part(event, _data(events))
        if not self.parts:
            raise InvalidRequest("the request has no fields", remedy=_ACCEPTED)
        return self.fields

    def _events(self, body: Readable) -> Iterator[Event]:
        while True:
            event = self._next()
            if event is NEED_DATA:
                if len(self.decoder.buffer) > _LONGEST_HEADERS + _CHUNK:
                    raise _malformed("the headers of a part do not end")
                self.decoder.receive_data(body.read(_CHUNK) or None)
                continue
            yield event
            if isinstance(event, Epilogue):
                return

    def _next(self) -> Event:
        try:
            return self.decoder.next_event()
        except (RequestEntityTooLarge, ValueError, AttributeError) as error:  # AttributeError: no line break in sight
            raise _malformed(str(error).partition("\n")[0][:200]) from error

    def _part(self, part: Field | File, data: Iterable[bytes]) -> None:
        self.parts += 1
        if self.parts > self.intake.limits.parts + _MOST_FIELDS:
            raise TooLarge("the request has too many parts", remedy="attach fewer files")
        if not part.name:
            raise InvalidRequest("a part has no name", remedy='Content-Disposition: form-data; name="workflow_url"')
        _check_encoding(part)
        if part.name in _ATTACHMENT_NAMES:
            self.intake.add(_file_name(part), data)
        elif isinstance(part, File) and part.name not in TEXT_FIELDS:
            remedy = f"send the files of the workflow as {FIELD}"
            raise InvalidRequest(f"a file was sent as '{part.name[:100]}'", field=part.name[:100], remedy=remedy)
        else:
            self.fields.add(part.name, self._text(part.name, data))

    def _text(self, name: str, data: Iterable[bytes]) -> str:
        pieces = []
        for piece in data:
            self.room -= len(piece)
            if self.room < 0:
                refused = f"the text fields are larger than {self.most_text} bytes"
                raise TooLarge(refused, field=name, remedy="send large values as attachments")
            pieces.append(piece)
        try:
            return b"".join(pieces).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{name} is not UTF-8", field=name, remedy="send text in UTF-8") from error


def _data(events: Iterator[Event]) -> Iterator[bytes]:
    for event in events:
        if not isinstance(event, Data):
            raise _malformed("a part has no end")
        yield event.data
        if not event.more_data:
            return


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"the body is not well-formed {_MULTIPART}: {why}", remedy="let your HTTP library write it")


def _check_encoding(part: Field | File) -> None:
    encoding = part.headers.get("content-transfer-encoding", "binary").lower()
    if encoding not in ("binary", "8bit", "7bit"):
        refused = f"{part.name}: the transfer encoding '{encoding[:50]}' is not read"
        raise InvalidRequest(refused, field=part.name, remedy="send plain bytes")


def _file_name(part: Field | File) -> str:
    r"""Return the file name exactly as it was sent.

    Werkzeug's own reading is not used, because it drops backslashes and turns "%22" into a quote: that would rename
    files. Read are RFC 7578 (a quoted string, with ``\"`` for a quote) and RFC 5987 (``filename*=UTF-8''…``).
    """
    parameters = _PARAMETER.findall(part.headers["content-disposition"])
    sent = [(key.lower(), value.strip()) for key, value in parameters if key.lower().startswith("filename")]
    names: dict[str, str] = dict(sent)
    if len(names) != len(sent) or not names.keys() <= {"filename", "filename*"}:
        raise _bad_file_name("is sent twice or in pieces")
    if "filename*" in names:
        return _extended(names["filename*"])
    if not names:
        raise _bad_file_name("is missing")
    value = names["filename"]
    if not value.startswith('"'):
        return value
    if len(value) == 1 or not value.endswith('"'):
        raise _bad_file_name("has a quotation mark or a backslash that does not end")
    if _AMBIGUOUS.search(value):
        raise _bad_file_name("has a character that forms do not carry unambiguously (%22, %0A, %0D)")
    return value[1:-1].replace('\\"', '"')


def _extended(value: str) -> str:
    charset, _, rest = value.partition("'")
    try:
        if charset.lower() == "utf-8":
            return unquote(rest.partition("'")[2], errors="strict")
    except UnicodeDecodeError:
        pass
    raise _bad_file_name("is not UTF-8")


def _bad_file_name(what: str) -> InvalidRequest:
    remedy = 'Content-Disposition: form-data; name="workflow_attachment"; filename="Snakefile"'
    return InvalidRequest(f"{FIELD}: the file name {what}", field=FIELD, remedy=remedy)
