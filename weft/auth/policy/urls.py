"""URLs of the policy: does this place hold that object? Compared part by part, never as text."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from weft.errors import InvalidRequest


class Place(NamedTuple):
    """A scheme, a host (of object stores: the bucket) and the parts of a path, decoded."""

    scheme: str
    host: str
    parts: tuple[str, ...]

    def holds(self, other: Place) -> bool:
        """Tell whether ``other`` is this place or lies below it."""
        return self.scheme == other.scheme and self.host == other.host and other.parts[: len(self.parts)] == self.parts


#: What most URLs look like: nothing in them has a second spelling, so there is nothing to decode.
_SIMPLE = re.compile(r"([a-z0-9]+)://([a-z0-9.-]*[a-z0-9])((?:/(?!\.\.?(?:/|$))[A-Za-z0-9_.=+,~-]+)*)/?")


def read(text: str, field: str) -> Place:
    """Read a place as the policy's file writes it.

    :raises InvalidRequest: it is none, or is not in its plain form.
    """
    place = plain(text)
    if place is None:
        raise InvalidRequest(
            f"{text!r} is no URL in its plain form", field=field, remedy="such as s3://bucket/prefix/ or drs://host/"
        )
    return place


def plain(text: str) -> Place | None:
    """Read a URL or an absolute path; None where two spellings could name one object (``..``, ``//``, a login).

    http and https are one place: which of them may be spoken is not the policy's business.
    """
    simple = _SIMPLE.fullmatch(text)
    if simple is not None and simple[1] not in ("http", "file"):
        return Place(simple[1], simple[2], tuple(simple[3].split("/")[1:]))
    try:
        url = urlsplit(f"file://{text}" if text.startswith("/") and not text.startswith("//") else text)
        host = _host(url)
    except ValueError:
        return None
    parts = unquote(url.path).removeprefix("/").split("/")
    if parts[-1] == "":
        parts.pop()
    if not url.scheme or host is None or any(part in ("", ".", "..") for part in parts):
        return None
    return Place("https" if url.scheme == "http" else url.scheme, host, tuple(parts))


def _host(url: SplitResult) -> str | None:
    """Return host and port in lower case without what is said by default; None for a login."""
    if "@" in url.netloc or "\\" in url.netloc:
        return None
    host = unquote(url.netloc).lower().rstrip(".")
    if url.scheme == "file":
        return "" if host == "localhost" else host
    default = {"https": ":443", "http": ":80", "ftp": ":21", "drs": ":443"}.get(url.scheme)
    return host.removesuffix(default).rstrip(".") if default else host
