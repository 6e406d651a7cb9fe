"""Signed requests: a node proves with each one that it holds the key that it enrolled, and what it asks for.

A proof is a compact JWS (RFC 7515, Ed25519) over method, path, the body's SHA-256, the time and a nonce, in the header
``Authorization: Weft-Node JWS``. The idea is DPoP's (RFC 9449), with the body in it. A proof counts once, and only
near the hub's time.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from weft.errors import InvalidRequest, Unauthenticated
from weft.model import JsonObject

#: Where a hub serves its nodes; a proof names the path below it, so that a proxy may move it.
BASE_PATH = "/weft/v1"
SCHEME = "Weft-Node"
#: How far a proof's time may be from the hub's, in seconds.
SKEW = 300.0
_ALGORITHM = "Ed25519"
_TYPE = "weft-node+jwt"
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was signed, and by whom it says."""

    node: str
    nonce: str
    at: float


class NodeKey:
    """The private key of a node."""

    def __init__(self, key: OKPKey) -> None:
        """Keep the key."""
        self._key = key

    @classmethod
    def generate(cls) -> NodeKey:
        """Make a new key pair."""
        return cls(OKPKey.generate_key("Ed25519"))

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """Read a key that ``save`` wrote.

        :raises OSError: there is none, or it may not be read.
        """
        return cls(OKPKey.import_key(path.read_bytes()))

    def save(self, path: Path) -> None:
        """Write the key where nobody else may read it; a key that is there is not replaced.

        :raises FileExistsError: there is one.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(self._key.as_pem(private=True))
            stream.flush()
            os.fsync(stream.fileno())

    @property
    def public(self) -> JsonObject:
        """The public half as a JWK."""
        return _public(self._key)

    def sign(self, node: str, method: str, path: str, body: bytes, *, now: float) -> str:
        """Return the ``Authorization`` header of one request."""
        claims = {
            "htm": method,
            "htu": path,
            "sha256": _digest(body),
            "iat": round(now, 3),
            "jti": secrets.token_urlsafe(16),
        }
        header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": node}
        return f"{SCHEME} {jws.serialize_compact(header, orjson.dumps(claims), self._key, algorithms=[_ALGORITHM])}"


def signer(authorization: str | None) -> str:
    """Return who a request says that it is of; nothing is proven yet.

    :raises Unauthenticated: it bears no proof.
    """
    return str(_protected(_token(authorization)).get("kid", ""))


def check(
    authorization: str | None, public_key: JsonObject, method: str, path: str, body: bytes, *, now: float
) -> Proof:
    """Return the proof of a request if it is good; that it came before is for the caller to find out.

    :raises Unauthenticated: it is of another key, for another request, or of another time.
    """
    token = _token(authorization)
    try:
        key = OKPKey.import_key(dict(public_key))
        signed = jws.deserialize_compact(token, key, algorithms=[_ALGORITHM])
        claims = orjson.loads(signed.payload)
        node, nonce, at = signed.headers()["kid"], claims["jti"], float(claims["iat"])
        about = (signed.headers()["typ"], claims["htm"], claims["htu"], claims["sha256"])
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise _refused("its signature is not that of the node's key") from error
    if about != (_TYPE, method, path, _digest(body)) or not isinstance(nonce, str) or not 16 <= len(nonce) <= 64:
        raise _refused("it was signed for another request")
    if abs(now - at) > SKEW:
        raise _refused(f"it is {now - at:+.0f} s from the hub's time, which the Date header tells")
    return Proof(node=node, nonce=nonce, at=at)


def public_key(document: object) -> JsonObject:
    """Read a public key that a node sends.

    :raises InvalidRequest: it is not an Ed25519 key as a JWK, or has its private half in it.
    """
    if isinstance(document, Mapping) and "d" not in document and document.get("crv") == "Ed25519":
        try:
            return _public(OKPKey.import_key({str(name): value for name, value in document.items()}))
        except (JoseError, ValueError, TypeError, KeyError):
            pass
    raise InvalidRequest(
        "public_key is not the public half of an Ed25519 key", field="public_key", remedy="send it as a JWK (RFC 8037)"
    )


def thumbprint(public: JsonObject) -> str:
    """Return the key's name as RFC 7638 makes it."""
    return OKPKey.import_key(dict(public)).thumbprint()


def _public(key: OKPKey) -> JsonObject:
    document = key.as_dict(private=False)
    return {name: document[name] for name in ("kty", "crv", "x")}


def _token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != SCHEME.lower() or not token or len(token) > _LONGEST:
        raise Unauthenticated("the request is not signed by a node", remedy="weft node join signs it")
    return token.strip()


def _protected(token: str) -> JsonObject:
    try:
        part = token.split(".", 1)[0]
        header = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError as error:
        raise _refused("it is not a JWS") from error
    if not isinstance(header, dict):
        raise _refused("it is not a JWS")
    return header


def _digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"the proof of this request does not count: {why}")
