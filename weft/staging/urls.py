"""What is the same for the URLs of every scheme: the scheme, what is refused in all, and how they are shown."""

from __future__ import annotations

import re

from weft.errors import InvalidRequest

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY_END = re.compile(r"[/?#\\]")


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, "" for a bare absolute path.

    :raises InvalidRequest: neither, or user and password in the URL, or NUL.
    """
    if "\0" in url:
        raise InvalidRequest("a URL with NUL in it", field="url")
    if url.startswith("/"):
        return ""
    match = _SCHEME.match(url)
    if match is None:
        raise InvalidRequest(
            f"{shown(url)!r} is neither a URL nor an absolute path", field="url", remedy="scheme://… or /path"
        )
    if "@" in url and "@" in authority(url):
        raise InvalidRequest(
            f"{shown(url)}: user or password in a URL",
            field="url",
            remedy="ask the site for a credential profile; a URL is stored and shown",
        )
    return match.group(1).lower()


def authority(url: str) -> str:
    """Return what stands between ``//`` and the path."""
    _, separator, rest = url.partition("://")
    return _AUTHORITY_END.split(rest, maxsplit=1)[0] if separator else ""


def path_of(url: str) -> str:
    """Return all that follows the authority, unchanged; for schemes whose paths may hold ``?`` and ``#``."""
    _, _, rest = url.partition("://")
    return rest[len(authority(url)) :]


def shown(url: str) -> str:
    """Return the URL as logs and messages may show it: without query, fragment, user and password."""
    if url.startswith("/"):
        return url
    name = authority(url)
    bare = url.replace(f"//{name}", f"//{name.rpartition('@')[2]}", 1) if "@" in name else url
    return bare if url[:5].lower() == "file:" else re.split(r"[?#]", bare, maxsplit=1)[0]


def with_text(path: str) -> str:
    """Return a path that can be stored as text: bytes that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
