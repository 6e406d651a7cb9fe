"""Read parameters and bodies the way clients send them; what connexion does by default is too strict or too lax.

connexion checks paths, query parameters and media types against the spec. A JSON body is only parsed here: the
``wire`` module of each service checks its content, with messages that name the field.
"""

from __future__ import annotations

from typing import Any

import orjson
from connexion.datastructures import MediaTypeDict
from connexion.uri_parsing import OpenAPIURIParser
from connexion.validators import AbstractRequestBodyValidator
from connexion.validators.parameter import ParameterValidator
from jsonschema import Draft4Validator

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
    def validate_parameter(parameter_type: str, value: Any, param: dict[str, Any], param_name: str | None = None) -> None:
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


class JsonBody(AbstractRequestBodyValidator):  # type: ignore[misc]
    """Parses a JSON body once and hands it to the handler as its ``body``."""

    async def wrap_receive(self, receive: Any, *, scope: Any) -> tuple[Any, Any]:
        """Read the body, which the gate has bounded, and replay it for Flask.

        :raises InvalidRequest: there is none, or it is not a JSON document that weft reads.
        :raises UnsupportedMediaType: the request does not say what it sends.
        """
        message = await receive()
        body: bytes = message.get("body", b"")
        require_content_type(scope, body)
        scope["extensions"]["connexion_context"]["body"] = parse_json(body)
        return self._insert_messages(receive, messages=[message]), scope


class FormBody(AbstractRequestBodyValidator):  # type: ignore[misc]
    """Leaves a form to its handler, which streams the parts to disk."""

    async def wrap_receive(self, receive: Any, *, scope: Any) -> tuple[Any, Any]:
        """Pass everything on.

        :raises UnsupportedMediaType: the request does not say what it sends.
        """
        require_content_type(scope, b"?")
        return receive, scope


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


def require_content_type(scope: Any, body: bytes) -> None:
    """Refuse a body without a content type.

    :raises UnsupportedMediaType: there is a body and no ``Content-Type``.
    """
    if body and not any(name == b"content-type" for name, _ in scope["headers"]):
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
    level = [document]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ] if isinstance(level[0], dict | list) else []
        if not level:
            return False
    return True
