"""The one HTTP client for everything that is fetched on a stranger's word: inputs, workflow URLs, keys, callbacks.

A name is resolved once, every address is checked, and the connection goes to a checked address with the original
``Host`` and SNI, so a name that resolves differently the second time gains nothing. Redirects are followed by hand,
at most three, and checked again. What is refused stands in ``weft.staging.addresses``.

The pool of ``urllib3`` (the transport of ``requests``) is used directly, because it alone lets the address and the
name of a connection differ. Proxies of the environment are not used.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlencode, urljoin

import certifi
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from weft.errors import StagingFailed, TooLarge, Unavailable
from weft.sections.transfer import FetchSettings
from weft.staging import halt
from weft.staging.addresses import Place, check_address, check_place, place
from weft.staging.urls import shown

#: (host, port) -> addresses.
Resolve = Callable[[str, int], Sequence[str]]
Headers = Mapping[str, str]
Response: TypeAlias = urllib3.BaseHTTPResponse

_CHUNK = 1 << 18
_MOST_REDIRECTS = 3
_MOST_STALLS = 3  # interruptions in a row without one new byte
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered, whatever its status."""

    status: int
    #: Without parameters, in lower case.
    content_type: str
    body: bytes


class Interrupted(Unavailable):
    """The connection broke in the middle of the body."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver.

    :raises OSError: ``socket.gaierror``.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(where: Place, resolver: Resolve, allow_hosts: Collection[str]) -> list[str]:
    """Resolve once; every address must pass, or none is used.

    :raises Forbidden: an address is not public, and the host is not listed.
    :raises StagingFailed: there is no such name.
    :raises Unavailable: the resolver does not answer now.
    """
    if where.address is not None:
        found: Sequence[str] = [str(where.address)]
    else:
        try:
            found = resolver(where.host, where.port)
        except (OSError, UnicodeError) as error:
            if getattr(error, "errno", None) == socket.EAI_AGAIN:
                raise Unavailable(f"the name {where.host} cannot be resolved now") from error
            raise StagingFailed(f"the name {where.host} cannot be resolved") from error
    for address in found:
        check_address(where, ipaddress.ip_address(address), allow_hosts)
    return list(found)


class GuardedClient:
    """Fetches over https, or http from listed hosts. May be used from any thread."""

    def __init__(
        self,
        settings: FetchSettings,
        *,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the settings; tests pass a resolver and a TLS context of their own."""
        self._settings = settings
        self._resolve = resolver
        self._tls = tls
        self._now = now

    def check(self, url: str) -> Place:
        """Refuse a URL that can never be fetched. No network, no resolver.

        :raises InvalidRequest: malformed, or credentials in it.
        :raises Forbidden: not allowed by the settings.
        """
        where = place(url)
        check_place(where, self._settings.allow_hosts, only_listed=self._settings.only_listed)
        return where

    def get_bytes(self, url: str, max_bytes: int, *, headers: Headers | None = None, seconds: float = 60.0) -> bytes:
        """Return the body at ``url``.

        :raises InvalidRequest, Forbidden: as ``check``, for the URL or for one that it redirects to.
        :raises TooLarge: more than ``max_bytes``.
        :raises StagingFailed: the server refused; says the status.
        :raises Unavailable: no answer, or one that says to try again.
        """
        parts = []
        left = max_bytes
        with self._got(url, dict(headers or {})) as response:
            for chunk in self._body(response, url, self._now() + seconds):
                left -= len(chunk)
                if left < 0:
                    raise TooLarge(f"{shown(url)} is larger than {max_bytes} bytes")
                parts.append(chunk)
        return b"".join(parts)

    def ask(
        self,
        url: str,
        max_bytes: int,
        *,
        headers: Headers,
        form: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Reply:
        """Send a GET, or a POST of ``form``, and return the answer; no redirect is followed, for it holds a secret.

        :raises InvalidRequest, Forbidden: as ``check``.
        :raises TooLarge: the answer is larger than ``max_bytes``.
        :raises Unavailable: no answer.
        """
        sent = dict(headers)
        body: IO[bytes] | None = None
        if form is not None:
            encoded = urlencode(form).encode()
            body = io.BytesIO(encoded)
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(encoded))}
        response = self._sent("GET" if form is None else "POST", url, sent, body)
        try:
            chunks = bytearray()
            for chunk in self._body(response, url, self._now() + seconds):
                chunks += chunk
                if len(chunks) > max_bytes:
                    raise TooLarge(f"{shown(url)} is larger than {max_bytes} bytes")
        finally:
            response.close()
            response.release_conn()
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Reply(response.status, kind, bytes(chunks))

    def download(self, url: str, target: Path, *, headers: Headers | None = None) -> None:
        """Write the body at ``url`` to ``target``, complete or not at all; an interrupted body is resumed.

        :raises WeftError: as ``get_bytes``, with ``fetch.max_bytes``.
        """
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as stream:
                self._fill(url, stream, dict(headers or {}))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def upload(self, source: Path, url: str, *, headers: Headers | None = None) -> None:
        """Store the file ``source`` at ``url`` with PUT.

        :raises WeftError: as ``get_bytes``.
        """
        size = source.stat().st_size
        sent = {**(headers or {}), "Content-Length": str(size)}
        with source.open("rb") as stream, self._answer("PUT", url, sent, stream) as response:
            if not 200 <= response.status < 300:
                raise _refusal(response.status, url)

    def post(self, url: str, body: bytes, *, headers: Headers) -> int:
        """Send ``body`` by POST and return the status; what else is answered is not read, redirects are not followed.

        :raises InvalidRequest, Forbidden: as ``check``, or the name has an address that is not public.
        :raises StagingFailed: no such name, or no trusted TLS connection.
        :raises Unavailable: no answer.
        """
        response = self._sent("POST", url, {**headers, "Content-Length": str(len(body))}, io.BytesIO(body))
        response.close()
        response.release_conn()
        return response.status

    def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Headers | None = None,
        max_bytes: int = 16 << 20,
        seconds: float = 60.0,
    ) -> tuple[int, bytes]:
        """Send a small request and return the status and the body of its answer, whatever the status.

        :raises WeftError: as ``get_bytes``, but for the status.
        """
        parts: list[bytes] = []
        stream = None if body is None else io.BytesIO(body)
        length = {} if body is None else {"Content-Length": str(len(body))}
        with self._answer(method, url, {**(headers or {}), **length}, stream) as response:
            for chunk in self._body(response, url, self._now() + seconds):
                parts.append(chunk)
                if sum(map(len, parts)) > max_bytes:
                    raise TooLarge(f"{shown(url)} is larger than {max_bytes} bytes")
            return response.status, b"".join(parts)

    def _fill(self, url: str, stream: IO[bytes], headers: dict[str, str]) -> None:
        """Read the whole body into ``stream``, going on where it broke if the server can prove it is the same."""
        deadline = self._now() + self._settings.total_seconds
        validator: str | None = None
        stalls = 0
        while True:
            before = stream.tell()
            resume = {"Range": f"bytes={before}-", "If-Range": validator} if before and validator else {}
            try:
                with self._got(url, {**headers, **resume}) as response:
                    if not _continues(response, before):
                        stream.seek(0)
                        stream.truncate()
                    validator = _validator(response)
                    for chunk in self._body(response, url, deadline):
                        stream.write(chunk)
                        if stream.tell() > self._settings.max_bytes:
                            raise TooLarge(f"{shown(url)} is larger than {self._settings.max_bytes} bytes")
                return
            except Interrupted:
                stalls = 0 if stream.tell() > before else stalls + 1
                if stalls >= _MOST_STALLS or self._now() > deadline or validator is None:
                    raise

    @contextmanager
    def _got(self, url: str, headers: dict[str, str]) -> Iterator[Response]:
        with self._answer("GET", url, headers) as response:
            if response.status not in (200, 206):
                raise _refusal(response.status, url)
            if response.status == 206 and "Range" not in headers:
                raise StagingFailed(f"a part that nobody asked for at {shown(url)}")
            yield response

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: dict[str, str], body: IO[bytes] | None = None
    ) -> Iterator[Response]:
        """Send a request and follow its redirects, each of them checked as the first URL was."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._sent(method, url, headers, body)
            try:
                target = response.headers.get("Location")
                if response.status not in _REDIRECTS or not target:
                    yield response
                    return
                if body is not None and response.status not in (307, 308):
                    raise StagingFailed(f"{response.status} (redirect) to a {method} at {shown(url)}")
            finally:
                response.close()
                response.release_conn()
            following = urljoin(url, target)
            if _site(place(following)) != _site(place(url)):
                headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
            url = following
        raise StagingFailed(f"more than {_MOST_REDIRECTS} redirects, the last to {shown(url)}")

    def _sent(self, method: str, url: str, headers: dict[str, str], body: IO[bytes] | None) -> Response:
        where = self.check(url)
        failure: Exception | None = None
        for address in checked_addresses(where, self._resolve, self._settings.allow_hosts):
            try:
                return self._sent_to(address, method, where, headers, body)
            except SSLError as error:
                raise StagingFailed(f"no trusted TLS connection to {shown(url)}: {error}") from error
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            except (HTTPError, OSError) as error:
                raise Unavailable(f"no answer from {shown(url)}: {type(error).__name__}") from error
        raise Unavailable(f"no connection to {where.netloc} for {shown(url)}") from failure

    def _sent_to(
        self, address: str, method: str, where: Place, headers: Mapping[str, str], body: IO[bytes] | None
    ) -> Response:
        secure = {"server_hostname": where.host} if where.scheme == "https" else {}
        pool = self._pools.connection_from_host(address, where.port, where.scheme, pool_kwargs=secure)
        if body is not None:
            body.seek(0, os.SEEK_SET)
        return pool.urlopen(
            method,
            where.request,
            body=body,
            headers={"Accept-Encoding": "identity", "User-Agent": "weft", **headers, "Host": where.netloc},
            redirect=False,
            retries=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=self._settings.connect_seconds, read=self._settings.read_seconds),
        )

    def _body(self, response: Response, url: str, deadline: float) -> Iterator[bytes]:
        """Yield the body as it comes; an end that came too early is ``Interrupted``."""
        while True:
            if self._now() > deadline:
                raise Interrupted(f"{shown(url)} took too long")
            try:
                chunk = response.read1(_CHUNK, decode_content=False)
            except (HTTPError, OSError) as error:
                raise Interrupted(f"the connection broke while reading {shown(url)}") from error
            if not chunk:
                return
            yield chunk
            halt.check()

    @cached_property
    def _pools(self) -> urllib3.PoolManager:
        tls = self._tls or trusting_context()
        return urllib3.PoolManager(num_pools=32, maxsize=16, retries=False, ssl_context=tls)


def trusting_context() -> ssl.SSLContext:
    """Return a TLS context that trusts whom the system trusts, and certifi's list."""
    tls = ssl.create_default_context()
    tls.load_verify_locations(certifi.where())
    return tls


def _site(where: Place) -> tuple[str, str, int]:
    return where.scheme, where.host, where.port


def _continues(response: Response, at: int) -> bool:
    """Tell whether the body goes on at byte ``at``, or begins anew.

    :raises StagingFailed: it is a part that begins elsewhere.
    """
    if response.status != 206:
        return False
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != at:
        raise StagingFailed("the server sent another part than was asked for")
    return True


def _validator(response: Response) -> str | None:
    """Return what proves that a later part is of the same body (RFC 9110, 13.1.5): a strong ETag or a date."""
    tag = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _refusal(status: int, url: str) -> StagingFailed | Unavailable:
    return (Unavailable if status in _TRANSIENT else StagingFailed)(f"{status} at {shown(url)}")
