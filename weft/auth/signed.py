"""The one door to joserfc: read what a JWT says, and prove who signed it.

Only public-key signatures pass, and only by the algorithms that the caller names; the key comes from the caller and
never from the token. A header with ``crit`` is refused, because weft knows no extension (RFC 7515, 4.1.11).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from weft.errors import InvalidToken

Claims = Mapping[str, Any]
PublicKey = RSAKey | ECKey

_MOST_HEADER_BYTES = 4096
_MOST_SIGNATURE_BYTES = 2048
_LEAST_RSA_BITS = 2048
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}


class _Registry(jws.JWSRegistry):
    max_header_length = _MOST_HEADER_BYTES
    max_payload_length = 1 << 22
    max_signature_length = _MOST_SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Signed:
    """A JWT whose signature nobody has looked at yet: nothing in it may be believed."""

    header: Claims
    claims: Claims
    _parts: jws.CompactSignature

    @property
    def algorithm(self) -> str:
        """``alg``."""
        return str(self.header.get("alg"))

    @property
    def key_id(self) -> str | None:
        """``kid``."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else None

    @property
    def type(self) -> str:
        """``typ`` in lower case, without ``application/``."""
        return str(self.header.get("typ", "")).lower().removeprefix("application/")

    def proven(self, key: PublicKey, algorithms: Collection[str]) -> Claims:
        """Return the claims, which are now known to be the signer's.

        :raises InvalidToken: another algorithm, or a bad signature.
        """
        registry = _Registry(algorithms=list(algorithms), strict_check_header=False)
        try:
            good = jws.validate_compact(self._parts, key, registry=registry)
        except (JoseError, ValueError, TypeError) as error:
            raise InvalidToken("the token's signature cannot be checked") from error
        if not good:
            raise InvalidToken("the token's signature is wrong")
        return self.claims


def read(token: str) -> Signed:
    """Take a JWT apart.

    :raises InvalidToken: it is none, or has a header that weft does not understand.
    """
    try:
        parts = jws.extract_compact(token.encode("ascii"), registry=_Registry(strict_check_header=False))
        header, claims = parts.headers(), orjson.loads(parts.payload)
    except (JoseError, ValueError, TypeError) as error:
        raise InvalidToken("the token is not a JWT that weft can read") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise InvalidToken("the token is not a JWT that weft can read")
    if "crit" in header or "b64" in header:
        raise InvalidToken("the token's header asks for an extension")
    return Signed(header, claims, parts)


def looks_signed(token: str) -> bool:
    """Tell a JWT from an opaque token."""
    return token.count(".") == 2 and token.startswith("ey")


def find_key(keys: Sequence[Mapping[str, Any]], key_id: str | None, algorithm: str) -> PublicKey | None:
    """Return the key of a JWK set (RFC 7517) that a header names; without ``kid``, the only one that could be meant.

    Secret keys, keys for encryption, of another algorithm, or too short ones do not count.
    """
    usable = [key for key in keys if _fits(key, algorithm) and key_id in (None, key.get("kid"))]
    if not usable or (key_id is None and len(usable) > 1):
        return None
    try:
        public = {name: value for name, value in usable[0].items() if name in ("kty", "kid", "n", "e", "crv", "x", "y")}
        return (RSAKey if public["kty"] == "RSA" else ECKey).import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    if key.get("kty") != _KEY_TYPES.get(algorithm[:2]) or key.get("use", "sig") != "sig":
        return False
    if key.get("alg", algorithm) != algorithm:
        return False
    return key["kty"] != "RSA" or len(str(key.get("n", ""))) * 6 >= _LEAST_RSA_BITS
