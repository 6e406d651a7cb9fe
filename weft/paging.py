"""Page tokens: where a list goes on, in a form that clients cannot take apart or move to another list.

A token holds a version, the cursor and a digest over both and the scope (which list, with which filters), so a
token that was cut, altered or taken from another list is refused. It is no secret: it only names a place in a list
that its bearer may read anyway, and each page checks the right to read again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import orjson

from weft.errors import InvalidRequest

_VERSION = 1
_LONGEST = 1024


def encode(cursor: str, scope: str) -> str:
    """Return the token for the page of ``scope`` that begins after ``cursor``."""
    fields = {"v": _VERSION, "c": cursor, "h": _digest(cursor, scope)}
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode("ascii")


def decode(token: str, scope: str) -> str:
    """Return the cursor in ``token``.

    :raises InvalidRequest: (field ``page_token``) it is not a token of this list with these filters.
    """
    try:
        fields = orjson.loads(base64.b64decode(_padded(token), altchars=b"-_", validate=True))
        cursor = fields["c"]
        genuine = isinstance(cursor, str) and encode(cursor, scope) == token
    except (ValueError, TypeError, KeyError, binascii.Error):
        genuine = False
    if not genuine:
        raise InvalidRequest(
            "page_token is not a token that this list gave",
            field="page_token",
            remedy="send the last answer's next_page_token with the same filters, or none to begin anew",
        )
    return str(cursor)


def _padded(token: str) -> bytes:
    if len(token) > _LONGEST:
        raise ValueError("too long")
    return token.encode("ascii") + b"=" * (-len(token) % 4)


def _digest(cursor: str, scope: str) -> str:
    whole = "\0".join((str(_VERSION), cursor, scope)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(whole).hexdigest()[:24]
