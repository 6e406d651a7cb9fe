"""Build the one ASGI application: each service's spec, its handler object, and the gate around them.

connexion routes and checks parameters; an operation ``ListTasks`` is answered by the method ``list_tasks`` of the
service's handler object. TES and WES share operation names, so each service has a resolver of its own.

A handler method names what it wants: the operation's parameters, ``request`` (``weft.http.request.Request``), and of
the body either ``body`` (parsed JSON) or ``stream`` (its bytes, ``read(size)``). It returns a document or the bytes
of one, a document and a status, or a ``flask.Response``, and raises ``WeftError``.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import connexion
import orjson
import yaml
from connexion.jsonifier import Jsonifier
from connexion.middleware import ConnexionMiddleware
from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.options import SwaggerUIOptions
from connexion.resolver import Resolver
from werkzeug.exceptions import HTTPException

from weft.auth.access import Access
from weft.authority import OPEN, Authority
from weft.config import Settings
from weft.http import pages
from weft.http.bodies import VALIDATORS, QueryParser
from weft.http.doors import Doors
from weft.http.express import Express, Routes
from weft.http.gate import Gate
from weft.limits import LimitsOf, Rates, site_limits

_METHODS = ("get", "post", "put", "patch", "delete")


class _BrowsableApis(SwaggerUIMiddleware):  # type: ignore[misc]
    """Leaves out the services without a page, which would hide the page of another one at the same base path."""

    def add_api(self, specification: Any, *, swagger_ui_options: SwaggerUIOptions, **options: Any) -> None:
        if swagger_ui_options.swagger_ui:
            super().add_api(specification, swagger_ui_options=swagger_ui_options, **options)


#: The gate explains errors, so connexion's own two layers for them are left out.
_LAYERS = [
    _BrowsableApis if layer is SwaggerUIMiddleware else layer
    for layer in ConnexionMiddleware.default_middlewares
    if layer not in (ServerErrorMiddleware, ExceptionMiddleware)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One API: its spec, where it is served, and the object whose methods answer."""

    name: str
    spec: Path
    #: The first one is the official one.
    base_paths: tuple[str, ...]
    handler: object
    #: A document whose operations are served with those of ``spec``: connexion cannot route two at the same path.
    additions: Path | None = None
    #: Whether it has a browsable page; the second of two services at one base path has none.
    ui: bool = True
    #: Whether the token of a run may use it.
    open_to_engines: bool = False
    #: What the scopes of tokens call it (``tes`` in ``tes:read``); without a word only unlimited tokens open it.
    scope: str = ""
    #: Paths, with all below, whose POSTs find out by themselves who asks: no login of a person is wanted.
    own_login: tuple[str, ...] = ()
    #: Ids of the operations in the express lane (``weft.http.express``).
    express: tuple[str, ...] = ()
    #: Answers requests that wait on purpose, when the server stops.
    close: Callable[[], None] | None = None


class App(connexion.FlaskApp):  # type: ignore[misc]
    """The ASGI application; ``close`` is for the server to call before it waits for its open requests."""

    closers: tuple[Callable[[], None], ...] = ()

    def close(self) -> None:
        """Let all who wait on purpose have their answers now."""
        for close in self.closers:
            close()


def build_app(
    services: Sequence[Service],
    *,
    settings: Settings,
    access: Access,
    ready: Callable[[], bool],
    authority: Authority = OPEN,
    express: bool = True,
    limits_of: LimitsOf | None = None,
) -> App:
    """Return the ASGI application of ``services``, with a front page, ``/healthz`` and ``/readyz``.

    Without ``express`` connexion answers everything; nothing but the time it takes tells the difference.
    Everybody has the limits of ``settings`` unless ``limits_of`` says otherwise.
    It finishes building itself when the server starts it; an operation without a method in its handler is a
    ``connexion.exceptions.ResolverError`` then.
    """
    logging.getLogger("connexion.operations.openapi3").setLevel(logging.ERROR)  # warns at each form request
    gate = functools.partial(
        Gate,
        access=access,
        settings=settings,
        authority=authority,
        doors=Doors(
            {base: service.scope for service in services for base in service.base_paths},
            [base for service in services if service.open_to_engines for base in service.base_paths],
            [base + path for service in services for base in service.base_paths for path in service.own_login],
        ),
        allowed=_allowed_methods(services),
        rates=Rates(limits_of or site_limits(settings), time.monotonic),
    )
    app = App(
        "weft.http",
        middlewares=[gate, *([functools.partial(Express, routes=_routes(services))] if express else []), *_LAYERS],
        server_args={"static_folder": None},
        jsonifier=_Json(),
        uri_parser_class=QueryParser,
        validator_map=VALIDATORS,
    )
    app.closers = tuple(service.close for service in services if service.close is not None)
    app.app.register_error_handler(HTTPException, _raise)
    for service in services:
        _add(app, service)
    app.add_url_rule("/", "front", pages.front_page([(item.name, item.base_paths[0]) for item in services if item.ui]))
    app.add_url_rule("/healthz", "healthz", pages.healthz)
    app.add_url_rule("/readyz", "readyz", pages.readyz(ready))
    return app


def spec_path(name: str) -> Path:
    """Return the path of a spec: beside the package in a checkout, inside it where weft is installed."""
    package = Path(__file__).parents[1]
    installed = package / "openapi" / name
    return installed if installed.is_file() else package.parent / "openapi" / name


def _add(app: connexion.FlaskApp, service: Service) -> None:
    resolver = Resolver(functools.partial(_method, service.handler))
    options = SwaggerUIOptions(serve_spec=service.ui, swagger_ui=service.ui)
    for base in service.base_paths:
        name = f"{service.name} {base}".replace(".", "_")
        app.add_api(_document(service), base_path=base, name=name, resolver=resolver, swagger_ui_options=options)


def _document(service: Service) -> dict[str, Any]:
    """Return a service's spec with its additions."""
    document: dict[str, Any] = yaml.safe_load(service.spec.read_text(encoding="utf-8"))
    if service.additions is not None:
        more = yaml.safe_load(service.additions.read_text(encoding="utf-8"))
        for path, operations in more["paths"].items():
            document["paths"].setdefault(path, {}).update(operations)
        for kind, named in more["components"].items():
            document["components"][kind] = {**named, **document["components"].get(kind, {})}
    return document


def _method(handler: object, operation_id: str) -> Callable[..., Any]:
    """Return the method ``list_tasks`` for the operation ``ListTasks``."""
    method: Callable[..., Any] = getattr(handler, re.sub(r"(?<!^)(?=[A-Z])", "_", operation_id).lower())
    return method


def _quick_method(handler: object, operation_id: str) -> Callable[..., Any]:
    """Return the coroutine function ``list_tasks_soon`` where there is one, for the event loop; else ``_method``."""
    method = _method(handler, operation_id)
    quick: Callable[..., Any] = getattr(handler, f"{method.__name__}_soon", method)
    return quick


def _routes(services: Sequence[Service]) -> Routes:
    routes = Routes()
    for service in services:
        spec = yaml.safe_load(service.spec.read_text(encoding="utf-8"))
        routes.add(spec, service.base_paths, service.express, functools.partial(_quick_method, service.handler))
    return routes


def _allowed_methods(services: Sequence[Service]) -> Callable[[str], Sequence[str]]:
    """Return a function that tells the methods of a path, for the ``Allow`` header of a 405."""
    table: dict[re.Pattern[str], list[str]] = {}
    for service in services:
        paths: Mapping[str, Any] = _document(service)["paths"]
        for base in service.base_paths:
            for path, operations in paths.items():
                literal = re.sub(r"\\\{[^}]*\\\}", "[^/:]+", re.escape(base + path))
                methods = [method.upper() for method in _METHODS if method in operations]
                table[re.compile(literal)] = [*methods, *(["HEAD"] if "GET" in methods else [])]
    return lambda path: next((methods for pattern, methods in table.items() if pattern.fullmatch(path)), ())


def _raise(error: HTTPException) -> None:
    raise error


class _Json(Jsonifier):  # type: ignore[misc]
    """Writes compact JSON, and passes on what is JSON already."""

    def dumps(self, data: Any, **_: Any) -> bytes:
        return data if isinstance(data, bytes) else orjson.dumps(data)
