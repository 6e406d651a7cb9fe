"""GA4GH passports (AAI profile 1.2.1): from signed visas to checked ones.

A visa counts only when its issuer, the address of its keys and its source are trusted together; keys of any other
address are never asked for. What does not count is left out and logged by its digest; what is beyond the limits
refuses the request. https://ga4gh.github.io/data-security/aai-openid-connect-profile
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from weft.auth import claims as required
from weft.auth import signed
from weft.auth.documents import KeySets
from weft.clock import Clock
from weft.errors import Forbidden, InvalidToken
from weft.logs import get_logger
from weft.model import Visa
from weft.sections.login import VisaIssuerSettings

log = get_logger(__name__)

#: The profile allows these alone.
ALGORITHMS = ("RS256", "ES256")
MOST_VISAS = 200
MOST_VISA_BYTES = 16 << 10
MOST_KEY_SETS = 10

_TYPES = ("vnd.ga4gh.visa+jwt", "jwt", "")
_ASSERTERS = frozenset({"self", "peer", "system", "so", "dac"})
_LONGEST_SOURCE = 255


class Visas:
    """Checks visas against the issuers that the site trusts."""

    def __init__(self, trusted: Sequence[VisaIssuerSettings], keys: KeySets, clock: Clock) -> None:
        """Keep the trusted pairs of issuer and key address."""
        self._trusted = {(item.issuer, item.jku): frozenset(item.sources) for item in trusted}
        self._keys = keys
        self._clock = clock

    def checked(self, tokens: Sequence[str]) -> tuple[Visa, ...]:
        """Return the visas that count, each once.

        :raises Forbidden: more or larger visas, or of more key sets, than weft looks at.
        :raises Unavailable: the keys of a trusted issuer cannot be had now.
        """
        if len(tokens) > MOST_VISAS:
            raise Forbidden(f"the passport holds more than {MOST_VISAS} visas")
        if any(len(token) > MOST_VISA_BYTES for token in tokens):
            raise Forbidden(f"a visa of the passport is larger than {MOST_VISA_BYTES} bytes")
        candidates = [(token, visa) for token in dict.fromkeys(tokens) if (visa := self._candidate(token)) is not None]
        if len({visa.header["jku"] for _, visa in candidates}) > MOST_KEY_SETS:
            raise Forbidden(f"the visas of the passport need more than {MOST_KEY_SETS} key sets")
        checked = (self._checked(token, found) for token, found in candidates)
        return tuple(visa for visa in checked if visa is not None)

    def _candidate(self, token: str) -> signed.Signed | None:
        """Return a visa of a trusted issuer and key address; nothing of it is proven yet."""
        try:
            visa = signed.read(token)
        except InvalidToken as error:
            _left_out(token, error.message)
            return None
        issuer, jku = visa.claims.get("iss"), visa.header.get("jku")
        if not isinstance(issuer, str) or not isinstance(jku, str) or (issuer, jku) not in self._trusted:
            _left_out(token, "its issuer and jku are not trusted together")
            return None
        if visa.type not in _TYPES or visa.algorithm not in ALGORITHMS:
            _left_out(token, "it has a type or an algorithm that a visa may not have")
            return None
        return visa

    def _checked(self, token: str, visa: signed.Signed) -> Visa | None:
        jku = visa.header["jku"]
        key = self._keys.find(jku, lambda keys: signed.find_key(keys, visa.key_id, visa.algorithm))
        try:
            if key is None:
                raise InvalidToken("its key is not among those of its issuer")
            claims = visa.proven(key, ALGORITHMS)
            ends = required.check_times(claims, self._clock())
            return self._read(token, claims, ends, self._trusted[claims["iss"], jku])
        except InvalidToken as error:
            _left_out(token, error.message)
            return None

    def _read(self, token: str, claims: Mapping[str, Any], ends: float, sources: frozenset[str]) -> Visa:
        """Read a visa that its issuer signed.

        :raises InvalidToken: it is not of the form that the profile gives visas, or has conditions.
        """
        if "openid" in required.scopes_of(claims):
            raise InvalidToken("a visa access token is no visa document")
        about = claims.get("ga4gh_visa_v1")
        if not isinstance(about, dict):
            raise InvalidToken("it holds no ga4gh_visa_v1")
        if about.get("conditions"):
            raise InvalidToken("it has conditions, which weft does not evaluate")
        kind, value, source = (about.get(name) for name in ("type", "value", "source"))
        if not (isinstance(kind, str) and isinstance(value, str) and isinstance(source, str)):
            raise InvalidToken("it has no type, value or source")
        if len(source) > _LONGEST_SOURCE or not ({source, "*"} & sources):
            raise InvalidToken("its source is not trusted")
        by = about.get("by")
        if by is not None and by not in _ASSERTERS:
            raise InvalidToken("its by is none of the profile's words")
        asserted = about.get("asserted")
        if isinstance(asserted, bool) or not isinstance(asserted, int | float):
            raise InvalidToken("it does not say when it was asserted")
        if asserted > self._clock() + required.SKEW:
            raise InvalidToken("it was asserted in the future")
        return Visa(
            issuer=claims["iss"],
            subject=required.subject_of(claims),
            type=kind,
            value=value,
            source=source,
            by=by,
            asserted=float(asserted),
            expires_at=ends,
            digest=_digest(token),
        )


def _left_out(token: str, reason: str) -> None:
    log.info("visa left out", visa=_digest(token)[:16], reason=reason)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
