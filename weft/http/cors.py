"""What pages of other sites may do from a visitor's browser (https://fetch.spec.whatwg.org/#http-cors-protocol).

service-info is for every page, as GA4GH asks; all else for the origins that the settings list. A page sends its token
itself, so cookies and the browser's own logins are never allowed along.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from weft.http.doors import Doors

Headers = Sequence[tuple[bytes, bytes]]

_EXPOSED = (b"access-control-expose-headers", b"x-request-id, www-authenticate, retry-after, content-range")
_SENT = b"authorization, content-type, ga4gh-passport, idempotency-key, range, x-request-id"
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_SHARED = (b"cross-origin-resource-policy", b"cross-origin")


class Cors:
    """Answers for the ``Origin`` of a request."""

    def __init__(self, origins: Collection[str], doors: Doors) -> None:
        """Keep the origins that may use the API."""
        self._origins = frozenset(origins)
        self._doors = doors

    def headers(self, origin: str, path: str) -> Headers:
        """Return what an answer to this origin says besides; nothing where the page may not read it."""
        if origin in self._origins:
            allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
            return (allowed, (b"vary", b"origin"), _EXPOSED, _SHARED)
        if self._doors.is_information(path):
            return ((b"access-control-allow-origin", b"*"), _EXPOSED, _SHARED)
        return ()

    def preflight(self, method: str, headers: Mapping[str, str], path: str) -> Headers | None:
        """Return the answer to a browser that asks before it sends; None when this is no such question."""
        asked = headers.get("access-control-request-method")
        origin = headers.get("origin")
        if method != "OPTIONS" or asked is None or origin is None:
            return None
        allowed = self.headers(origin, path)
        if not allowed:
            return None
        return (
            *allowed,
            (b"access-control-allow-methods", _METHODS if origin in self._origins else b"GET, HEAD"),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", b"600"),
            (b"content-length", b"0"),
        )
