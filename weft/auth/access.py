"""From the headers of a request to a Principal.

Without a login everybody is the same anonymous person, whatever credentials they send: several clients send
``Basic None:None`` or a left-over bearer token. With a login, credentials that nobody knows are 401. A bearer token
that weft itself gave out to an engine, bound to its run, is always honoured, and over the engines' Unix socket such a
token is required.

Who was found is remembered for a while by the digest of what was shown, so that a token that was seen before costs a
dictionary look-up on the event loop. What an engine shows is looked up each time: its token ends with its run.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from weft.auth import credentials
from weft.auth.credentials import bearer_token
from weft.auth.documents import Documents, KeySets
from weft.auth.oidc import Issuer
from weft.auth.passports import Visas
from weft.auth.people import People
from weft.auth.remembered import Remembered
from weft.auth.tokens import Tokens
from weft.clock import Clock
from weft.errors import Unauthenticated, Unavailable
from weft.model import Principal
from weft.sections.login import AuthSettings
from weft.sections.transfer import FetchSettings
from weft.staging.guard import GuardedClient

ANONYMOUS = Principal(issuer="local", subject="anonymous")

#: A local token that was revoked is refused after so long at the latest.
LOCAL_SECONDS = 2.0

_MOST_REMEMBERED = 10_000
#: Threads that look for people, and the requests that may wait for one: others are told to come again.
_THREADS = 8
_MOST_WAITING = 64


class Access:
    """Decides who asks."""

    def __init__(self, tokens: Tokens, clock: Clock, *, people: People | None = None, seconds: float = 300.0) -> None:
        """Without ``people`` nobody needs to log in; ``seconds``: how long a person is remembered."""
        self._tokens = tokens
        self._clock = clock
        self._people = people
        self._seconds = seconds
        self._known: Remembered[Principal] = Remembered(_MOST_REMEMBERED)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="weft-login")
        self._waiting = 0

    @property
    def required(self) -> bool:
        """Whether people must log in."""
        return self._people is not None

    def remembered(self, authorization: str, passport: str | None) -> Principal | None:
        """Return whom the same headers stood for a moment ago."""
        return self._known.get(_digest(authorization, passport), self._clock())

    async def principal(self, authorization: str | None, passport: str | None, *, engine_door: bool) -> Principal:
        """Return whom the headers of a request stand for.

        :param engine_door: the request came over the Unix socket, which is for engines alone.
        :raises Unauthenticated: nobody, where somebody must be.
        :raises Forbidden: a passport that is not the caller's own.
        :raises Unavailable: what is needed to know cannot be had now.
        """
        if self._people is None or engine_door:
            token = bearer_token(authorization)
            if token is None and not engine_door:
                return ANONYMOUS
            return await self._in_thread(lambda: self._without_login(token, engine_door))
        if authorization is None:
            raise Unauthenticated("who asks must be known here: send a token", remedy="Authorization: Bearer …")
        known = self.remembered(authorization, passport)
        if known is not None:
            return known
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("too many requests wait for their senders to be known")
        self._waiting += 1
        try:
            return await self._in_thread(lambda: self._identified(authorization, passport))
        finally:
            self._waiting -= 1

    async def _in_thread(self, find: Callable[[], Principal]) -> Principal:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(find))

    def _without_login(self, token: str | None, engine_door: bool) -> Principal:
        known = None if token is None else self._tokens.find_token(token, now=self._clock())
        if known is not None and (known.run is not None or not engine_door):
            return known
        if engine_door:
            raise Unauthenticated("this socket is for workflow engines: send the bearer token of the run")
        return ANONYMOUS

    def _identified(self, authorization: str, passport: str | None) -> Principal:
        assert self._people is not None
        shown = credentials.read(authorization, passport)
        principal = self._people.identify(shown)
        if principal.run is None:
            now = self._clock()
            seconds = min(self._seconds, LOCAL_SECONDS) if shown.local else self._seconds
            ends = [visa.expires_at for visa in principal.visas]
            ends += [] if principal.expires_at is None else [principal.expires_at]
            self._known.put(_digest(authorization, passport), principal, until=min([now + seconds, *ends]))
        return principal


def _digest(authorization: str, passport: str | None) -> bytes:
    shown = authorization if passport is None else f"{authorization}\n{passport}"
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).digest()


def open_access(settings: AuthSettings, fetch: FetchSettings, tokens: Tokens, clock: Clock) -> Access:
    """Return the access that the settings describe."""
    if settings.mode == "off":
        return Access(tokens, clock)
    documents, issuers = _issuers(settings, fetch, clock)
    visas = Visas(settings.visa_issuers, KeySets(documents), clock)
    return Access(
        tokens, clock, people=People(tokens, clock, issuers=issuers, visas=visas), seconds=settings.remember_seconds
    )


def reach_issuers(settings: AuthSettings, fetch: FetchSettings, clock: Clock) -> Iterator[tuple[str, str | None]]:
    """Ask each issuer for its keys; yield its name, and what is wrong or None."""
    _, issuers = _issuers(settings, fetch, clock)
    for issuer in issuers:
        try:
            issuer.check()
        except Unavailable as error:
            yield issuer.settings.issuer, error.message
        else:
            yield issuer.settings.issuer, None


def _issuers(settings: AuthSettings, fetch: FetchSettings, clock: Clock) -> tuple[Documents, Sequence[Issuer]]:
    client = GuardedClient(fetch)
    documents = Documents(client, clock)
    return documents, [Issuer(item, documents=documents, client=client, clock=clock) for item in settings.issuers]
