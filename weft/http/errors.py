"""Turn any exception into the one error document of both APIs.

The document has the two members that WES asks for (``msg``, ``status_code``) and those of RFC 9457 problem
details (``type``, ``title``, ``detail``, ``status``), then ``field`` and ``remedy`` where they are known, and
``request_id``. TES names no error schema, and further members are legal in WES's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from connexion.exceptions import ProblemException
from starlette.exceptions import HTTPException as StarletteHTTPException
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException

from weft.errors import InsufficientScope, InvalidToken, TooMany, Unauthenticated, Unavailable, WeftError
from weft.model import JsonObject, without_nulls

#: What is said where the framework's own words would not help.
_PLAIN_WORDS = {
    404: ("there is nothing at this path", "the front page / lists the APIs"),
    405: ("this path does not answer this method", "see the Allow header"),
    413: ("the request is larger than this server accepts", None),
    415: ("the content type of the request is not one that this operation reads", "send application/json"),
}
_NOT_QUOTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_HIDDEN = "weft failed to answer this request; the reason is in the server's log under this request_id"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a client may see it."""

    status: int
    message: str
    field: str | None = None
    remedy: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def document(self, request_id: str) -> JsonObject:
        """Give the error document; ``msg`` alone is enough to act on."""
        where = f"{self.field}: " if self.field and self.field not in self.message else ""
        what_to_do = f" ({self.remedy})" if self.remedy else ""
        return without_nulls(
            {
                "msg": f"{where}{self.message}{what_to_do}",
                "status_code": self.status,
                "type": "about:blank",
                "title": HTTPStatus(self.status).phrase,
                "detail": self.message,
                "status": self.status,
                "field": self.field,
                "remedy": self.remedy,
                "request_id": request_id,
            }
        )

    def body(self, request_id: str) -> bytes:
        """Give the error document as JSON."""
        return orjson.dumps(self.document(request_id))


def problem_of(error: BaseException) -> Problem:
    """Explain ``error``; what is not meant for clients becomes a plain 500 that tells nothing."""
    match error:
        case WeftError():
            return _from_weft(error)
        case ProblemException():  # connexion's own; before its base class
            return _from_http(error.status, error.detail, {})
        case StarletteHTTPException():
            return _from_http(error.status_code, error.detail, error.headers or {})
        case WerkzeugHTTPException():
            return _from_werkzeug(error)
        case _:
            return Problem(status=500, message=_HIDDEN)


def _from_weft(error: WeftError) -> Problem:
    if error.status >= 500 and not isinstance(error, Unavailable):
        return Problem(status=500, message=_HIDDEN)
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable | TooMany):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthenticated | InsufficientScope):
        headers["www-authenticate"] = _challenge(error)
    return Problem(status=error.status, message=error.message, field=error.field, remedy=error.remedy, headers=headers)


def _challenge(error: WeftError) -> str:
    """Give the challenge of RFC 6750: without credentials no error code, else which and why."""
    match error:
        case InvalidToken():
            code = "invalid_token"
        case InsufficientScope():
            code = "insufficient_scope"
        case _:
            return 'Bearer realm="weft"'
    reason = _NOT_QUOTABLE.sub("'", error.message)[:200]
    return f'Bearer realm="weft", error="{code}", error_description="{reason}"'


def _from_http(status: int, detail: Any, headers: Mapping[str, str]) -> Problem:
    if status >= 500:
        return Problem(status=500, message=_HIDDEN)
    message, remedy = _PLAIN_WORDS.get(status, (str(detail or HTTPStatus(status).phrase), None))
    return Problem(status=status, message=message, remedy=remedy, headers=headers)


def _from_werkzeug(error: WerkzeugHTTPException) -> Problem:
    kept = {name: value for name, value in error.get_headers() if name.lower() in ("allow", "content-range")}
    return _from_http(error.code or 500, error.description, kept)
