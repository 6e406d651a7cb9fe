"""Read parameters and bodies the way clients send them; what connexion does by default is too strict or too lax.

connexion checks paths, query parameters and media types against the spec. A JSON body is only parsed here: the
``wire`` module of each service checks its content, with messages that name the field.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import orjson
from connexion.datastructures import MediaTypeDict
from connexion.uri_parsing import OpenAPIURIParser
from connexion.validators import AbstractRequestBodyValidator
from connexion.validators.parameter import ParameterValidator
from jsonschema_rs import Draft4Validator
from starlette.types import Message, Receive, Scope

from weft.errors import InvalidRequest, UnsupportedMediaType

#: Deeper documents than any client has reason to send; keeps every later walk over a document shallow.
MAX_DEPTH = 64


class QueryParser(OpenAPIURIParser):  # type: ignore[misc]
    """Takes each ``key=value`` of the query as one item, so that commas survive in tags."""

    @staticmethod
    def _resolve_param_duplicates(values: Any, param_defn: Any, _in: str) -> Any:
        if _in == "query" and param_defn.get("explode", True):
            return values
        return OpenAPIURIParser._resolve_param_duplicates(values, param_defn, _in)

    @staticmethod
    def _split(value: Any, param_defn: Any, _in: str) -> Any:
        return value if isinstance(value, list) else OpenAPIURIParser._split(value, param_defn, _in)


class PlainParameters(ParameterValidator):  # type: ignore[misc]
    """Checks parameters against the spec and says in one line which one is wrong."""

    @staticmethod
    def validate_parameter(
        parameter_type: str, value: Any, param: dict[str, Any], param_name: str | None = None
    ) -> None:
        """Check one parameter.

        :raises InvalidRequest: names the parameter.
        """
        name = param["name"]
        if value is None:
            if param.get("required"):
                raise InvalidRequest(f"the {parameter_type} parameter {name} is missing", field=name)
            return
        error = next(Draft4Validator(param["schema"]).iter_errors(value), None)
        if error is not None:
            raise InvalidRequest(f"{name}: {error.message}", field=name)


class BodyStream:
    """The body of a request for a handler that reads it by itself, in its own thread."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._buffer = b""
        self._more = True

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        :raises TooLarge: the body is larger than the server accepts.
        """
        while not self._buffer and self._more:
            message = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            self._more = message.get("more_body", False)
            self._buffer = message.get("body", b"")
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    async def _next(self) -> Message:
        return await self._receive()


class JsonBody(AbstractRequestBodyValidator):  # type: ignore[misc]
    """Parses a JSON body once and hands it to the handler as ``body``, and unparsed as ``stream``."""

    async def wrap_receive(self, receive: Any, *, scope: Any) -> tuple[Any, Any]:
        """Read the body, which the gate has bounded, and replay it for Flask.

        :raises InvalidRequest: there is none, or it is not a JSON document that weft reads.
        :raises UnsupportedMediaType: the request does not say what it sends.
        """
        message = await receive()
        raw: bytes = message.get("body", b"")
        _require_content_type(scope)
        context = scope["extensions"]["connexion_context"]
        context["body"] = parse_json(raw)
        context["stream"] = BytesIO(raw)
        return self._insert_messages(receive, messages=[message]), scope


class FormBody(AbstractRequestBodyValidator):  # type: ignore[misc]
    """Hands a form to the handler unread, as ``stream``, so that nothing of it is held in memory; Flask sees none."""

    async def wrap_receive(self, receive: Any, *, scope: Any) -> tuple[Any, Any]:
        """Set the body aside.

        :raises UnsupportedMediaType: the request does not say what it sends.
        """
        _require_content_type(scope)
        scope["extensions"]["connexion_context"]["stream"] = BodyStream(receive, asyncio.get_running_loop())
        lengths = (b"content-length", b"transfer-encoding")
        scope["headers"] = [item for item in scope["headers"] if item[0] not in lengths]
        return self._insert_messages(receive, messages=[{"type": "http.request", "body": b""}]), scope


VALIDATORS = {
    "parameter": PlainParameters,
    "body": MediaTypeDict(
        {
            "*/*json": JsonBody,
            "multipart/form-data": FormBody,
            "application/x-www-form-urlencoded": FormBody,
        }
    ),
}


def _require_content_type(scope: Scope) -> None:
    headers = dict(scope["headers"])
    if b"content-type" not in headers and headers.get(b"content-length") != b"0":
        raise UnsupportedMediaType("the request has no Content-Type header", remedy="send application/json")


def parse_json(body: bytes) -> Any:
    """Parse a JSON document as RFC 8259 has it: UTF-8, no NaN, no lone surrogates.

    :raises InvalidRequest: says where it goes wrong.
    """
    if not body.strip():
        raise InvalidRequest("the request has no body", remedy="send a JSON object")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", remedy="send one JSON object in UTF-8") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(document, MAX_DEPTH):
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels", remedy="send a flatter document")
    return document


def _deeper_than(document: Any, limit: int) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(limit):
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
