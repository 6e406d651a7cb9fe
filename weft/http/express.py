"""The express lane: the hottest operations, without the work that connexion does anew for every request.

It stands between the gate and connexion. Routes and parameters are compiled once from the same spec, and the same
handler object answers, on the event loop. Whatever is not plainly good (an unknown query key, a value that the spec
refuses, an odd content type, a body that is no JSON) goes on to connexion as it came, which alone explains it; what a
handler raises is explained by the gate, whichever way the request went.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

import orjson
from jsonschema_rs import Draft4Validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.errors import InvalidRequest
from weft.http.bodies import parse_json

#: Longer queries are rare; they are not worth the memory of remembering them.
_LONGEST_QUERY = 1024
_REMEMBERED = 2048
_JSON = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})
_PLAIN = "[A-Za-z0-9_-]+"
_CONTENT_TYPE = (b"content-type", b"application/json")

Arguments = Mapping[str, Any]


class Operation:
    """One operation of a spec: what its query may hold, and who answers.

    ``handler`` is a method as ``weft.http.api`` describes it, or a coroutine function of the same parameters. It runs
    on the event loop, so it may do nothing longer than a read of a page.
    """

    def __init__(self, spec: Mapping[str, Any], operation: Mapping[str, Any], handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.waits = inspect.iscoroutinefunction(handler)
        self.reads_body = "requestBody" in operation
        self.reads_bytes = "stream" in inspect.signature(handler).parameters
        parameters = [_resolved(spec, item) for item in operation.get("parameters", ())]
        self._query = {item["name"]: _Parameter(spec, item) for item in parameters if item["in"] == "query"}
        self._defaults = {name: item.default for name, item in self._query.items() if item.default is not None}
        self.arguments = lru_cache(maxsize=_REMEMBERED)(self._arguments)

    def _arguments(self, query: bytes) -> Arguments | None:
        """Read a query; None: connexion shall look at it. Unlike the query, what is returned may be kept."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(query.decode("ascii"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
        read = {name: self._query[name].read(values) for name, values in found.items() if name in self._query}
        if len(read) < len(found) or None in read.values():
            return None
        return {**self._defaults, **read}


class _Parameter:
    """One query parameter and its compiled schema."""

    def __init__(self, spec: Mapping[str, Any], parameter: Mapping[str, Any]) -> None:
        schema = dict(_resolved(spec, parameter["schema"]))
        self._type = schema["type"]
        self._schema = Draft4Validator(schema)
        self.default = schema.get("default")

    def read(self, values: list[str]) -> Any:
        """Return the value; None when it is not plainly a good one."""
        value: Any = values
        if self._type != "array":
            if len(values) > 1:
                return None
            value = values[0]
        if self._type == "integer":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                return None
            value = int(value)
        return value if self._schema.is_valid(value) else None


class Routes:
    """The operations in the lane, by method and path."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Operation] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Operation]] = []

    def add(
        self,
        spec: Mapping[str, Any],
        base_paths: Sequence[str],
        operation_ids: Sequence[str],
        handler_of: Callable[[str], Callable[..., Any]],
    ) -> None:
        """Compile these operations of one spec; ``handler_of`` gives who answers an operation id."""
        for path, operations in spec["paths"].items():
            for method, operation in operations.items():
                if operation.get("operationId") in operation_ids:
                    compiled = Operation(spec, operation, handler_of(operation["operationId"]))
                    for base in base_paths:
                        self._place(method.upper(), base + path, compiled)

    def _place(self, method: str, path: str, operation: Operation) -> None:
        if "{" not in path:
            self._exact[method, path] = operation
            return
        pattern = re.sub(r"\\\{([^}]*)\\\}", rf"(?P<\1>{_PLAIN})", re.escape(path))
        self._patterns.append((method, re.compile(pattern), operation))

    def find(self, method: str, path: str) -> tuple[Operation, Arguments] | None:
        """Return the operation and what its path says; None: connexion shall look at it."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        for its_method, pattern, operation in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None and its_method == method:
                return operation, match.groupdict()
        return None


class Express:
    """ASGI middleware: answers what is plainly good, and passes on all else."""

    def __init__(self, app: ASGIApp, *, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        found = self._routes.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        query = None if found is None else _arguments(found[0], scope["query_string"])
        if found is None or query is None:
            await self._app(scope, receive, send)
            return
        operation, path = found
        request = scope["extensions"]["connexion_context"]["request"]
        arguments: dict[str, Any] = {**query, **path, "request": request}
        if operation.reads_body:
            message = await receive()
            try:
                arguments["body"] = _body(message, request.headers)
            except InvalidRequest:
                await self._app(scope, _again(message, receive), send)
                return
            if operation.reads_bytes:
                arguments["stream"] = BytesIO(message["body"])
        answer = operation.handler(**arguments)
        await _send(send, await answer if operation.waits else answer)


def _arguments(operation: Operation, query: bytes) -> Arguments | None:
    return operation.arguments(query) if len(query) <= _LONGEST_QUERY else None


def _body(message: Message, headers: Mapping[str, str]) -> Any:
    """Read a body that the gate has put into one message.

    :raises InvalidRequest: connexion shall look at it.
    """
    if headers.get("content-type") not in _JSON or message["type"] != "http.request":
        raise InvalidRequest
    return parse_json(message["body"])


def _again(message: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that begins with ``message``, which was already read."""
    pending = [message]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _send(send: Send, answer: Any) -> None:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _resolved(spec: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference inside the spec: ``#/components/parameters/view``."""
    while "$ref" in item:
        found: Any = spec
        for part in item["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        item = found
    return item
