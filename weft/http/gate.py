"""The outermost layer of every request: its id, its principal, its bounds, and one shape for every error."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import getrandbits
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.auth.access import ANONYMOUS, Access
from weft.auth.credentials import PASSPORT_HEADER
from weft.authority import Authority
from weft.config import Settings
from weft.errors import InvalidRequest, Unauthenticated, Unavailable
from weft.http.cors import Cors
from weft.http.doors import Doors
from weft.http.errors import Problem, problem_of
from weft.http.intake import ClientGone, Intake
from weft.http.origin import check_origin
from weft.http.request import Headers, Request
from weft.limits import Rates
from weft.logs import bound, get_logger
from weft.model import Principal
from weft.protocol import WHOLE, Whole

log = get_logger(__name__)

_MOST_HEADERS = 64 << 10
_SLASHES = re.compile("/{2,}")
#: Asked by machines that must be told the truth in any case.
_HEALTH = ("/healthz", "/readyz")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
#: For documents and for the files of runs: whatever they hold, a browser runs none of it.
_INERT = (
    *_SAFE,
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"no-store"),
)
_PAGE = (
    *_SAFE,
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"),
)


_STRICT = ((b"strict-transport-security", b"max-age=31536000"),)


class Gate:
    """ASGI middleware around connexion and all else; nothing but answers leaves it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        settings: Settings,
        authority: Authority,
        doors: Doors,
        allowed: Callable[[str], Sequence[str]],
        rates: Rates,
    ) -> None:
        self._app = app
        self._access = access
        self._settings = settings
        self._authority = authority
        self._doors = doors
        self._cors = Cors(settings.cors_origins, doors)
        secure = _STRICT if settings.tls_cert is not None else ()
        self._page, self._inert = (*_PAGE, *secure), (*_INERT, *secure)
        self._allowed = allowed
        self._rates = rates
        self._in_hand = 0
        self._max_form = settings.max_attachment_bytes + settings.max_body_bytes  # attachments, and the rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "//" in scope["path"]:  # many a client is told a base URL that ends in a slash
            scope["path"] = _SLASHES.sub("/", scope["path"])
        headers = Headers(scope["headers"])
        self._in_hand += 1
        stamps = self._stamps(scope["path"], headers.get("origin"))
        whole = scope.get("extensions", {}).pop(WHOLE, None)  # holds the connection, which holds the scope
        answer = _Answer(send, _request_id(headers), stamps, whole)
        token = bound.set({"request": answer.id})
        began = time.perf_counter()
        intake: Intake | None = None
        try:
            intake = Intake(
                scope,
                receive,
                max_body=self._settings.max_body_bytes,
                max_form=self._max_form,
                patience=self._settings.body_seconds,
            )
            preflight = self._cors.preflight(scope["method"], headers, scope["path"])
            if preflight is not None:
                await answer.nothing(preflight)
                return
            await self._admit(scope, headers, answer.id)
            await self._app(scope, await intake.open(), answer.send)
        except ClientGone:
            log.debug("client gone", path=scope["path"])
        except Exception as error:
            if answer.status is not None:
                log.exception("answer broken off", path=scope["path"])
                raise
            await self._explain(error, scope, answer, intake)
        finally:
            if log.debugs:
                milliseconds = round((time.perf_counter() - began) * 1000, 1)
                log.debug("answered", method=scope["method"], path=scope["path"], status=answer.status, ms=milliseconds)
            bound.reset(token)
            self._in_hand -= 1

    async def _admit(self, scope: Scope, headers: Mapping[str, str], request_id: str) -> None:
        """Find out who asks and put it where handlers find it.

        :raises WeftError: why this request goes no further.
        """
        if self._in_hand > self._settings.limits.at_once and scope["path"] not in _HEALTH:
            raise Unavailable("this server has as many requests in hand as it may have", remedy="try again later")
        if sum(map(len, chain.from_iterable(scope["headers"]))) > _MOST_HEADERS:
            raise HTTPException(431, f"the headers are larger than {_MOST_HEADERS} bytes")
        if "\n" in scope["path"]:  # Starlette's and Flask's routers do not agree on these
            raise HTTPException(404)
        if not scope["query_string"].isascii():
            raise InvalidRequest("the query holds bytes that are not percent-encoded", remedy="encode them as UTF-8")
        check_origin(scope["method"], headers, self._settings)
        principal = await self._principal(scope, headers)
        if scope["path"] not in _HEALTH and not self._doors.has_own_login(scope["method"], scope["path"]):
            self._rates.admit(principal)
        self._doors.check(principal, scope["method"], scope["path"])
        request = Request(principal=principal, base_url=self._base_url(scope, headers), headers=headers, id=request_id)
        scope.setdefault("app", self)  # else Starlette's router answers 405 by itself, as plain text
        scope["extensions"] = {**scope.get("extensions", {}), "connexion_context": {"request": request}}

    async def _principal(self, scope: Scope, headers: Mapping[str, str]) -> Principal:
        authorization, passport = headers.get("authorization"), headers.get(PASSPORT_HEADER)
        server = scope.get("server")
        engine_door = server is not None and server[1] is None
        if authorization is not None and not engine_door:
            known = self._access.remembered(authorization, passport)
            if known is not None:
                return known
        if not engine_door and self._doors.has_own_login(scope["method"], scope["path"]):
            return ANONYMOUS
        try:
            return await self._access.principal(authorization, passport, engine_door=engine_door)
        except (Unauthenticated, Unavailable):
            if engine_door or not self._doors.is_open(scope["path"]):
                raise
            return ANONYMOUS

    def _stamps(self, path: str, origin: str | None) -> Sequence[tuple[bytes, bytes]]:
        """Return the headers that an answer bears if it does not say otherwise."""
        stamps = self._page if self._doors.is_page(path) else self._inert
        shared = () if origin is None else self._cors.headers(origin, path)
        if not shared:
            return stamps
        names = {name for name, _ in shared}
        return (*shared, *(item for item in stamps if item[0] not in names))

    async def _recorded(self, error: Exception, scope: Scope, request_id: str) -> Exception:
        """Record a refusal, and return it; without the record there is no answer but 503."""
        request = scope.get("extensions", {}).get("connexion_context", {}).get("request")
        asker = None if request is None else request.principal
        try:
            await self._authority.refused(error, asker, request_id, f"{scope['method']} {scope['path']}")
        except Unavailable as unrecorded:
            return unrecorded
        return error

    def _base_url(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if self._settings.base_url:
            return self._settings.base_url.rstrip("/")
        return f"{scope.get('scheme', 'http')}://{headers.get('host', 'localhost')}"

    async def _explain(self, error: Exception, scope: Scope, answer: _Answer, intake: Intake | None) -> None:
        problem = problem_of(await self._recorded(error, scope, answer.id))
        if problem.status >= 500 and problem.status != 503:
            log.exception("request failed", method=scope["method"], path=scope["path"])
        else:
            log.info("request refused", path=scope["path"], status=problem.status, reason=problem.message)
        headers = {name.lower(): value for name, value in problem.headers.items()}
        if problem.status == 405:
            headers["allow"] = ", ".join(self._allowed(scope["path"])) or headers.get("allow", "GET, HEAD")
        await answer.explain(problem, headers, intake)


class _Answer:
    """The way back: stamps the headers that every answer bears."""

    def __init__(
        self, send: Send, request_id: str, policy: Sequence[tuple[bytes, bytes]], whole: Whole | None = None
    ) -> None:
        """Keep where to send; ``whole`` is the server's shorter way for an answer that is there at once."""
        self._send = send
        self._policy = policy
        self._whole = whole
        self._head: Message | None = None
        self.id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Send on; the head waits for the first piece of the body, so that both may go at once."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message.get("headers", ())
            names = {name for name, _ in given}
            stamped = [item for item in self._policy if item[0] not in names]
            message["headers"] = [*given, *stamped, (b"x-request-id", self.id.encode())]
            self._head = message
            return
        head, self._head = self._head, None
        if head is None:
            await self._send(message)
        elif not self._sent_at_once(head, message):
            await self._send(head)
            await self._send(message)

    def _sent_at_once(self, head: Message, message: Message) -> bool:
        if self._whole is None or message.get("more_body", False):
            return False
        return self._whole(head["status"], head["headers"], message.get("body", b""))

    async def nothing(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Answer 204."""
        await self.send({"type": "http.response.start", "status": 204, "headers": list(headers)})
        await self.send({"type": "http.response.body", "body": b""})

    async def explain(self, problem: Problem, headers: Mapping[str, str], intake: Intake | None) -> None:
        unread = intake is None or not intake.finished
        body = problem.body(self.id)
        fields: dict[str, Any] = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        if unread:
            fields["connection"] = "close"
        pairs = [(name.lower().encode(), str(value).encode("latin-1")) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body, "more_body": unread})
        if unread:
            if intake is not None:
                await intake.linger()
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get("x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else f"{getrandbits(64):016x}"  # no secret
