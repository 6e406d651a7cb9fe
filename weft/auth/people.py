"""From credentials to the person behind them: local tokens, the tokens of issuers, and passports beside either."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from weft.auth import signed
from weft.auth.credentials import Credentials
from weft.auth.oidc import Issuer, Known, Passport
from weft.auth.passports import Visas
from weft.auth.remembered import Remembered
from weft.auth.tokens import Tokens
from weft.auth.visas import one_person
from weft.clock import Clock
from weft.errors import Forbidden, InvalidToken
from weft.model import Principal

#: A broker is asked for the visas of one token at most once an hour (AAI profile, access token polling).
_POLL_SECONDS = 3600.0
_MOST_PASSPORTS = 1000


class People:
    """Finds out who sent credentials. May be used from any thread; may ask the network."""

    def __init__(self, tokens: Tokens, clock: Clock, *, issuers: Sequence[Issuer] = (), visas: Visas) -> None:
        """Keep the collaborators; without issuers only local tokens are known."""
        self._tokens = tokens
        self._clock = clock
        self._issuers: Mapping[str, Issuer] = {issuer.settings.issuer: issuer for issuer in issuers}
        self._opaque = next((issuer for issuer in issuers if issuer.settings.opaque != "refuse"), None)
        self._visas = visas
        self._polled: Remembered[Passport] = Remembered(_MOST_PASSPORTS)
        self._asked: Remembered[Known] = Remembered(_MOST_PASSPORTS)

    def identify(self, credentials: Credentials) -> Principal:
        """Return who sent ``credentials``, with the visas that count and the time at which all this ends.

        :raises InvalidToken: nobody, or a passport that is none.
        :raises Forbidden: a passport of another person, or one beyond the limits.
        :raises Unavailable: keys or answers that are needed cannot be had now.
        """
        passports = []
        if credentials.local:
            principal = self._of_local(credentials)
        else:
            issuer, known = self._of_issuer(credentials.token)
            principal = known.principal
            if known.passport is not None:
                passports.append(known.passport)
            elif issuer.has_passport(known):
                passports.append(self._polled_passport(issuer, credentials.token, known))
        passports += [self._shown_passport(text) for text in credentials.passports]
        return self._with_visas(principal, passports) if passports else principal

    def _of_local(self, credentials: Credentials) -> Principal:
        principal = self._tokens.find_token(credentials.token, now=self._clock())
        if principal is None or credentials.user not in (None, principal.subject):
            raise InvalidToken("the token is unknown, expired or revoked")
        return principal

    def _of_issuer(self, token: str) -> tuple[Issuer, Known]:
        if signed.looks_signed(token):
            jwt = signed.read(token)
            issuer = self._issuer_of(jwt, "token")
            return issuer, issuer.of_jwt(jwt)
        if self._opaque is None:
            raise InvalidToken("the token is not a JWT, and no issuer is configured to be asked about others")
        return self._opaque, self._of_opaque(self._opaque, token)

    def _of_opaque(self, issuer: Issuer, token: str) -> Known:
        if not issuer.polled:
            return issuer.of_opaque(token)
        key, now = _digest(token), self._clock()
        known = self._asked.get(key, now)
        if known is None:
            known = issuer.of_opaque(token)
            self._asked.put(key, known, until=now + _POLL_SECONDS)
        return known

    def _issuer_of(self, jwt: signed.Signed, what: str) -> Issuer:
        name = jwt.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise InvalidToken(f"the {what} is of an issuer that is not accepted here")
        return issuer

    def _polled_passport(self, issuer: Issuer, token: str, known: Known) -> Passport:
        key, now = _digest(token), self._clock()
        passport = self._polled.get(key, now)
        if passport is None or passport.subject != known.principal.subject:
            passport = issuer.passport_of(token, known)
            self._polled.put(key, passport, until=min(now + _POLL_SECONDS, passport.expires_at))
        return passport

    def _shown_passport(self, text: str) -> Passport:
        jwt = signed.read(text)
        return self._issuer_of(jwt, "passport").read_passport(jwt)

    def _with_visas(self, principal: Principal, passports: Sequence[Passport]) -> Principal:
        visas = self._visas.checked([visa for passport in passports for visa in passport.visas])
        now = self._clock()
        me = (principal.issuer, principal.subject)
        for passport in passports:
            if not one_person(visas, me, (passport.issuer, passport.subject), now=now):
                raise Forbidden("the passport is of another person than the token")
        ends = [principal.expires_at, *(passport.expires_at for passport in passports)]
        return replace(principal, visas=visas, expires_at=_first(ends))


def _first(ends: Sequence[float | None]) -> float | None:
    """Return the first end; None when there is none."""
    first = min((end for end in ends if end is not None), default=math.inf)
    return None if first == math.inf else first


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
