"""An OpenID provider in the hands of a test: real HTTP on loopback, its keys, its moods, and what it was asked."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import orjson
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

PASSPORT = "urn:ga4gh:params:oauth:token-type:passport"
AUDIENCE = "https://weft.example/"
DATASET = "https://example.org/datasets/1"
DAC = "https://example.org/dac"

_RSA = [RSAKey.generate_key(2048, {"kid": f"k{number}"}) for number in range(2)]
_EC = ECKey.generate_key("P-256", {"kid": "e1"})


def sign(claims: Mapping[str, Any], key: Any, **header: Any) -> str:
    """Return a compact JWS; a header that is None is left out."""
    head = {name: value for name, value in header.items() if value is not None}
    algorithm = str(head["alg"])
    if algorithm == "none":
        return ".".join((_b64(head), _b64(claims), ""))
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = 8192
    return jws.serialize_compact(head, orjson.dumps(claims), key, registry=registry)


def _b64(document: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()


class Provider:
    """One issuer. ``down`` answers 503 to everything; ``asked`` lists the paths of all requests."""

    def __init__(self) -> None:
        self.keys: list[Any] = [_RSA[0], _EC]
        self.down = False
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.userinfo: dict[str, dict[str, Any]] = {}
        self.opaque: dict[str, dict[str, Any]] = {}
        self.passport: str | None = None
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider._answer(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                provider._answer(self, dict(parse_qsl(body.decode())))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.issuer = f"http://{self.host}"
        self.jku = f"{self.issuer}/jwks"

    @contextmanager
    def serving(self) -> Iterator[Provider]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        path = handler.path
        self.asked.append(path)
        self.authorizations.append(handler.headers.get("Authorization", ""))
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        status, document = 200, None
        if self.down:
            status = 503
        elif path == "/.well-known/openid-configuration":
            document = {"issuer": self.issuer, "jwks_uri": self.jku} | {
                f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("userinfo", "introspection", "token")
            }
        elif path == "/jwks":
            document = {"keys": [key.as_dict(private=isinstance(key, OctKey)) for key in self.keys]}
        elif path == "/userinfo":
            document = self.userinfo.get(token)
            status = 401 if document is None else 200
        elif path == "/introspection":
            document = self.opaque.get(form["token"], {"active": False})
        elif path == "/token":
            document = {"access_token": self.passport, "issued_token_type": PASSPORT, "token_type": "N_A"}
        else:
            status = 404
        body = orjson.dumps(document)
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    # -- what it signs -----------------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Sign with another key from now on."""
        self.keys = [_RSA[1]]

    def token(self, subject: str = "ada", *, key: Any = None, **changes: Any) -> str:
        """Return a JWT access token; a claim that is None is left out, and so with ``header_…``."""
        now = time.time()
        claims = {"iss": self.issuer, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 600}
        return self._signed({**claims, "scope": "openid ga4gh_passport_v1"}, {"typ": "at+jwt"}, key, changes)

    def visa(self, subject: str = "ada", *, key: Any = None, **changes: Any) -> str:
        """Return a ControlledAccessGrants visa; ``visa_…`` changes its object."""
        now = time.time()
        about = {"type": "ControlledAccessGrants", "value": DATASET, "source": DAC, "by": "dac", "asserted": now - 60}
        about |= {name[5:]: changes.pop(name) for name in list(changes) if name.startswith("visa_")}
        claims = {"iss": self.issuer, "sub": subject, "iat": now, "exp": now + 600, "ga4gh_visa_v1": _without(about)}
        return self._signed(claims, {"typ": "vnd.ga4gh.visa+jwt", "jku": self.jku}, key, changes)

    def passport_of(self, *visas: str, subject: str = "ada", key: Any = None, **changes: Any) -> str:
        """Return a passport JWT."""
        now = time.time()
        claims = {"iss": self.issuer, "sub": subject, "iat": now, "exp": now + 600, "ga4gh_passport_v1": list(visas)}
        return self._signed(claims, {"typ": "vnd.ga4gh.passport+jwt"}, key, changes)

    def _signed(self, claims: dict[str, Any], header: dict[str, Any], key: Any, changes: dict[str, Any]) -> str:
        key = key or self.keys[0]
        head = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid, **header}
        for name, value in changes.items():
            (head if name.startswith("header_") else claims)[name.removeprefix("header_")] = value
        return sign(_without(claims), key, **head)


def _without(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}
