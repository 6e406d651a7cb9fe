"""Speak HTTP to one GA4GH server: find its base path, carry the token, turn bad answers into ``ClientError``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from weft.client.errors import BadRequest, ClientError, Missing, NotAllowed, ServerFailed, Unreachable

#: Where servers keep an API below their address, in the order of py-tes 1.1.4 (``tes/client.py``).
PREFIXES = {"tes": ("/ga4gh/tes/v1", "/v1", ""), "wes": ("/ga4gh/wes/v1", "/v1", "")}

JsonObject = dict[str, Any]


class Bearer(AuthBase):
    """Send ``token``, or nothing; either way ``.netrc`` is not asked."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def bases_of(server: str, api: str) -> tuple[str, ...]:
    """Return the base URLs to try for ``api`` ("tes" or "wes") when a user named ``server``.

    An address that already names the API, or ends in ``/v1``, is taken as it is.

    :raises BadRequest: not an http(s) URL.
    """
    address = server.rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise BadRequest(f"{server!r} is not a server's address", remedy="give one such as http://127.0.0.1:8080")
    for name in PREFIXES:
        if address.endswith(f"/ga4gh/{name}/v1"):
            address = address.removesuffix(f"/ga4gh/{name}/v1")
            return (f"{address}/ga4gh/{api}/v1",)
    if address.endswith("/v1"):
        return (address,)
    return tuple(f"{address}{prefix}" for prefix in PREFIXES[api])


class Connection:
    """One server's TES or WES. The first base path that does not answer 404 is kept."""

    def __init__(self, server: str, api: str, *, token: str | None = None, timeout: float = 30.0) -> None:
        self._server = server
        self._bases = bases_of(server, api)
        self._timeout = timeout
        self._auth = Bearer(token)
        self._session = requests.Session()
        self._session.trust_env = not _is_loopback(server)  # a proxy cannot reach this machine's loopback

    @property
    def base(self) -> str:
        """The API's base URL: the one that answered, or the first to try."""
        return self._bases[0]

    def close(self) -> None:
        """Close the sockets."""
        self._session.close()

    def json(self, method: str, path: str, **options: Any) -> JsonObject:
        """Send a request below the API's base and return the JSON object of its answer.

        :raises ClientError: no answer, a bad answer, or one that is not JSON.
        """
        response = self._first_answer(method, path, **options)
        try:
            document = response.json()
        except ValueError as error:
            raise ServerFailed(
                f"{response.url} did not answer with JSON",
                remedy="check --server: is a TES or WES server there?",
            ) from error
        if not isinstance(document, dict):
            raise ServerFailed(f"{response.url} did not answer with a JSON object")
        return document

    def fetch(self, url: str, *, start: int = 0) -> bytes:
        """Return the bytes of ``url`` from offset ``start`` on; b"" when there are none yet.

        The token goes to the server's own address only.

        :raises ClientError: as above; 404 is ``Missing``.
        """
        # One byte more than is wanted, so that a file that did not grow is not a range that cannot be had.
        headers = {"Range": f"bytes={start - 1}-"} if start else {}
        response = self._send("GET", url, headers=headers)
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return b""
        _raise_for(response)
        partial = start and response.status_code == requests.codes.partial_content
        return response.content[1 if partial else start :]

    def stream(self, url: str) -> Iterator[bytes]:
        """Yield the bytes of ``url`` in pieces.

        :raises ClientError: as above.
        """
        with self._send("GET", url, stream=True) as response:
            _raise_for(response)
            try:
                yield from response.iter_content(1 << 20)
            except requests.RequestException as error:
                raise Unreachable(f"{url} stopped in the middle: {_reason(error)}") from error

    def _first_answer(self, method: str, path: str, **options: Any) -> requests.Response:
        missing: ClientError | None = None
        for base in self._bases:
            response = self._send(method, base + path, **options)
            try:
                _raise_for(response)
            except Missing as error:
                missing = missing or error
                continue
            except ClientError:
                self._bases = (base,)
                raise
            self._bases = (base,)
            return response
        raise missing or Missing()

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        auth = self._auth if _origin(url) == _origin(self._server) else Bearer(None)
        try:
            return self._session.request(method, url, auth=auth, timeout=self._timeout, **options)
        except requests.RequestException as error:
            raise Unreachable(
                f"no answer from {_origin(url)}: {_reason(error)}",
                remedy="is it running? start one with `weft serve`, or name another with --server or WEFT_SERVER",
            ) from error


def _raise_for(response: requests.Response) -> None:
    code = response.status_code
    if code < requests.codes.bad_request:
        return
    words = _words(response)
    match code:
        case 401:
            raise NotAllowed(words["message"], remedy=words["remedy"] or "put a valid token into WEFT_TOKEN")
        case 403:
            raise NotAllowed(**words)
        case 404:
            raise Missing(**words)
        case 429 | 502 | 503 | 504:
            raise Unreachable(words["message"], remedy=words["remedy"] or "try again later")
        case _ if code < requests.codes.internal_server_error:
            raise BadRequest(**words)
        case _:
            raise ServerFailed(**words)


def _words(response: requests.Response) -> dict[str, Any]:
    """Read message, field and remedy out of an error's body, whichever server wrote it."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, Mapping):
        body = {"msg": str(body)}
    said = next((body[key] for key in ("msg", "detail", "message", "title") if body.get(key)), None)
    message = str(said) if said else f"{response.url} answered {response.status_code} {response.reason}"
    return {"message": message, "field": body.get("field"), "remedy": body.get("remedy")}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Give the innermost cause, which is the part that a person understands."""
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None) or inner
    return str(reason).split(": ", 1)[-1] or type(error).__name__
