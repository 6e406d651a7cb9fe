"""One OpenID Connect provider: who its tokens stand for, and the visas that it has for them.

JWT access tokens are checked here (RFC 9068, the GA4GH AAI profile); for opaque ones the provider is asked, by
introspection (RFC 7662) or at userinfo. Nothing that a token says decides where its keys come from.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

import orjson

from weft.auth import claims as required
from weft.auth import signed
from weft.auth.documents import Documents, KeySets
from weft.auth.passports import ALGORITHMS
from weft.clock import Clock
from weft.errors import InvalidToken, Unavailable, WeftError
from weft.model import Principal
from weft.sections.login import IssuerSettings
from weft.staging.guard import Reply

PASSPORT_SCOPE = PASSPORT_CLAIM = "ga4gh_passport_v1"
PASSPORT_TYPE = "vnd.ga4gh.passport+jwt"
#: What weft's own scopes are called (``use_scopes``).
SCOPES = frozenset({"tes:read", "tes:write", "wes:read", "wes:write"})

_ACCESS_TOKEN_TYPES = ("jwt", "at+jwt")
#: What Keycloak writes into the claim ``typ`` of tokens that are no access tokens.
_OTHER_TOKENS = frozenset({"ID", "Refresh", "Offline", "Logout"})
_EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ga4gh:params:oauth:token-type:passport",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
}
_MOST_ANSWER = 8 << 20
_SECONDS = 10.0


class Ask(Protocol):
    """The part of the guarded client that is needed here."""

    def ask(
        self,
        url: str,
        max_bytes: int,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Reply:
        """Send a GET, or a POST of ``form``, and return what came."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Passport:
    """A passport that its broker signed; its visas are not checked yet."""

    issuer: str
    subject: str
    expires_at: float
    visas: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Whom a token stands for, and all scopes that it has."""

    principal: Principal
    scopes: frozenset[str]
    #: What came along where the provider was asked for the person.
    passport: Passport | None = None


class Issuer:
    """Checks the tokens of one provider. May be used from any thread."""

    def __init__(self, settings: IssuerSettings, *, documents: Documents, client: Ask, clock: Clock) -> None:
        """Keep the settings; nothing is fetched before a token needs it."""
        self.settings = settings
        self._documents = documents
        self._keys = KeySets(documents)
        self._client = client
        self._clock = clock

    def check(self) -> None:
        """Fetch what is needed to check a token.

        :raises Unavailable: says what cannot be had.
        """
        self._documents.get(self._keys_url())

    # -- tokens ------------------------------------------------------------------------------------------------

    def of_jwt(self, token: signed.Signed) -> Known:
        """Check a JWT access token that names this issuer.

        :raises InvalidToken: says what is wrong with it.
        :raises Unavailable: the provider's keys cannot be had now.
        """
        if token.type not in _ACCESS_TOKEN_TYPES:
            raise InvalidToken(f"the token is not an access token: its type is {token.type[:40]!r}")
        claims = self._proven(token, self.settings.algorithms)
        ends = required.check_times(claims, self._clock())
        if claims.get("typ") in _OTHER_TOKENS:
            raise InvalidToken("the token is not an access token")
        return self._known(claims, ends)

    def of_opaque(self, token: str) -> Known:
        """Ask the provider whom a token stands for.

        :raises InvalidToken: for nobody.
        :raises Unavailable: the provider does not answer as it should.
        """
        if self.settings.opaque == "userinfo":
            claims = self.userinfo(token)
            known = self._named(claims, None)
            return replace(known, passport=self._unsigned_passport(claims, known.principal)) if self.polled else known
        reply = self._asked(
            self._endpoint("introspection_endpoint"),
            headers=self._client_login(),
            form={"token": token, "token_type_hint": "access_token"},
        )
        claims = _object(reply)
        if claims.get("active") is not True:
            raise InvalidToken("the token is unknown, expired or revoked")
        if claims.get("iss", self.settings.issuer) != self.settings.issuer:
            raise InvalidToken("the token is of another issuer")
        ends = None
        if "exp" in claims:
            ends = required.check_times({"iat": 0, **claims}, self._clock())
        return self._known(claims, ends)

    def _proven(self, token: signed.Signed, algorithms: tuple[str, ...]) -> Mapping[str, Any]:
        if token.claims.get("iss") != self.settings.issuer:
            raise InvalidToken("the token is of another issuer")
        if token.algorithm not in algorithms:
            raise InvalidToken("the token is signed by an algorithm that is not accepted")
        key = self._keys.find(self._keys_url(), lambda keys: signed.find_key(keys, token.key_id, token.algorithm))
        if key is None:
            raise InvalidToken("the token's key is not among those of its issuer")
        return token.proven(key, algorithms)

    def _known(self, claims: Mapping[str, Any], ends: float | None) -> Known:
        if self.settings.require_audience:
            required.check_audience(claims, self.settings.audience)
        return self._named(claims, ends)

    def _named(self, claims: Mapping[str, Any], ends: float | None) -> Known:
        roles = required.values_at(claims, self.settings.roles_claim)
        scopes = required.scopes_of(claims)
        principal = Principal(
            issuer=self.settings.issuer,
            subject=required.subject_of(claims),
            roles=frozenset(self.settings.roles[name] for name in roles if name in self.settings.roles),
            groups=required.values_at(claims, self.settings.groups_claim),
            expires_at=ends,
            scopes=scopes & SCOPES if self.settings.use_scopes else None,
        )
        return Known(principal=principal, scopes=scopes)

    # -- passports ---------------------------------------------------------------------------------------------

    @property
    def polled(self) -> bool:
        """Whether one question at userinfo gives person and passport together."""
        return self.settings.opaque == "userinfo" and self.settings.passport == "userinfo"

    def has_passport(self, known: Known) -> bool:
        """Tell whether the provider can be asked for the visas of whom this token stands for."""
        return self.settings.passport != "ignore" and PASSPORT_SCOPE in known.scopes

    def passport_of(self, token: str, known: Known) -> Passport:
        """Ask the provider for the passport that belongs to an access token.

        :raises InvalidToken: what it gives is of somebody else, or not signed by it.
        :raises Unavailable: the provider does not answer as it should.
        """
        principal = known.principal
        if self.settings.passport == "exchange":
            passport = self.read_passport(signed.read(self._exchanged(token)))
            if passport.subject != principal.subject:
                raise InvalidToken("the passport is of another subject than the token")
            return passport
        claims = self.userinfo(token)
        if claims.get("sub") != principal.subject:
            raise InvalidToken("userinfo is of another subject than the token")
        return self._unsigned_passport(claims, principal)

    @staticmethod
    def _unsigned_passport(claims: Mapping[str, Any], principal: Principal) -> Passport:
        """Take the visas from userinfo: that it came from the broker itself is what proves it."""
        visas = tuple(required.strings(claims.get(PASSPORT_CLAIM)))
        ends = principal.expires_at if principal.expires_at is not None else math.inf
        return Passport(issuer=principal.issuer, subject=principal.subject, expires_at=ends, visas=visas)

    def read_passport(self, token: signed.Signed) -> Passport:
        """Check a passport JWT that names this issuer.

        :raises InvalidToken: says what is wrong with it.
        :raises Unavailable: the provider's keys cannot be had now.
        """
        if self.settings.passport == "ignore":
            raise InvalidToken("the passport's issuer is not trusted for passports")
        if token.type != PASSPORT_TYPE:
            raise InvalidToken("the passport is of another type of token")
        claims = self._proven(token, ALGORITHMS)
        ends = required.check_times(claims, self._clock())
        mine = {*self.settings.audience, *((self.settings.client_id,) if self.settings.client_id else ())}
        if "aud" in claims and mine:
            required.check_audience(claims, mine)
        visas = claims.get(PASSPORT_CLAIM)
        if not isinstance(visas, list) or not all(isinstance(item, str) for item in visas):
            raise InvalidToken("the passport holds no list of visas")
        return Passport(
            issuer=self.settings.issuer, subject=required.subject_of(claims), expires_at=ends, visas=tuple(visas)
        )

    def userinfo(self, token: str) -> Mapping[str, Any]:
        """Return the claims at userinfo, which some providers sign.

        :raises InvalidToken: the provider does not know the token.
        :raises Unavailable: the provider does not answer as it should.
        """
        url = self._endpoint("userinfo_endpoint")
        reply = self._asked(url, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
        if reply.content_type == "application/jwt":
            answer = signed.read(reply.body.decode("ascii", "replace").strip())
            return self._proven(answer, self.settings.algorithms)
        return _object(reply)

    def _exchanged(self, token: str) -> str:
        form = {**_EXCHANGE, "subject_token": token}
        document = _object(self._asked(self._endpoint("token_endpoint"), headers=self._client_login(), form=form))
        passport = document.get("access_token")
        if document.get("issued_token_type") != _EXCHANGE["requested_token_type"] or not isinstance(passport, str):
            raise Unavailable(f"{self.settings.issuer} gave no passport for a token")
        return passport

    # -- the provider ------------------------------------------------------------------------------------------

    def _keys_url(self) -> str:
        return self.settings.jwks_uri or self._discovered("jwks_uri")

    def _endpoint(self, name: str) -> str:
        configured: str | None = getattr(self.settings, name)
        return configured or self._discovered(name)

    def _discovered(self, name: str) -> str:
        """Return an address of the provider's discovery document (OpenID Connect Discovery 1.0, 4)."""
        issuer = self.settings.issuer
        document = self._documents.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise Unavailable(f"the discovery document of {issuer} is of another issuer")
        url = document.get(name)
        if not isinstance(url, str):
            raise Unavailable(f"the discovery document of {issuer} names no {name}")
        return url

    def _client_login(self) -> dict[str, str]:
        secret = self.settings.client_secret
        pair = f"{quote(self.settings.client_id or '')}:{quote(secret.get_secret_value() if secret else '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}", "Accept": "application/json"}

    def _asked(self, url: str, *, headers: Mapping[str, str], form: Mapping[str, str] | None = None) -> Reply:
        """Ask the provider about a token that somebody sent.

        :raises InvalidToken: it refuses the token: 400, 401 or 403 to a token shown at userinfo, 400 to an exchange.
        """
        try:
            reply = self._client.ask(url, _MOST_ANSWER, headers=headers, form=form, seconds=_SECONDS)
        except WeftError as error:
            raise Unavailable(f"{self.settings.issuer} cannot be asked about a token: {error.message}") from error
        if reply.status == 200:
            return reply
        if reply.status in ((400, 401, 403) if form is None else (400,)):
            raise InvalidToken("the token's issuer refuses it")
        raise Unavailable(f"{self.settings.issuer} answers {reply.status} when it is asked about a token")


def _object(reply: Reply) -> Mapping[str, Any]:
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise Unavailable("the issuer's answer is not JSON") from error
    if not isinstance(document, dict):
        raise Unavailable("the issuer's answer is no JSON object")
    return document
