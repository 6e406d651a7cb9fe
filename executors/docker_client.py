"""The one door to docker-py, and to the raw connections that it does not offer: streams that a selector can watch."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound
from docker.utils import parse_host, parse_repository_tag

from weft.errors import ExecutorRefused, Unavailable
from weft.model import JsonObject

#: Seconds for one answer of the Engine; starting a container on a busy host takes some.
TIMEOUT = 60.0
CONNECT_TIMEOUT = 5.0
_POOL = 32
_MOST_LINKS = 8


@dataclass(frozen=True, slots=True)
class Image:
    """What a tag was resolved to."""

    id: str
    #: The repository digest where the image came from a registry, else the id.
    digest: str


class DockerClient:
    """One Docker Engine, connected at the first call."""

    def __init__(self, host: str | None) -> None:
        """Take an address as ``DOCKER_HOST`` has it; None for that variable, or the default socket."""
        self.host = host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._api: docker.APIClient | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of all connections; a later call connects again."""
        with self._lock:
            api, self._api = self._api, None
        if api is not None:
            api.close()

    @contextmanager
    def answers(self) -> Iterator[docker.APIClient]:
        """Give the API; who can do something about one of its ``APIError``s catches it inside.

        :raises Unavailable: the Engine does not answer, or with an error that nobody caught.
        """
        try:
            yield self._connected()
        except APIError as error:
            raise Unavailable(f"the Docker Engine at {self.host} failed: {explain(error)}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError) as error:
            self.close()
            raise Unavailable(f"the Docker Engine at {self.host} does not answer: {_innermost(error)}") from error

    def _connected(self) -> docker.APIClient:
        with self._lock:
            if self._api is None:
                _connect(self.host).close()  # docker-py leaks a socket where nobody listens
                self._api = docker.APIClient(self.host, version="auto", timeout=int(TIMEOUT), max_pool_size=_POOL)
            return self._api

    def image(self, name: str) -> Image:
        """Resolve ``name``; pull it only if it is missing.

        :raises ExecutorRefused: there is no such image, or it cannot be pulled.
        """
        with self.answers() as api:
            try:
                try:
                    found = api.inspect_image(name)  # type: ignore[no-untyped-call]
                except NotFound:
                    self._pull(api, name)
                    found = api.inspect_image(name)  # type: ignore[no-untyped-call]
            except APIError as error:
                raise ExecutorRefused(f"image {name} not found: {explain(error)}") from error
        repository = parse_repository_tag(name)[0]
        digests = found.get("RepoDigests") or [f"@{found['Id']}"]
        best = next((digest for digest in digests if digest.startswith(f"{repository}@")), digests[0])
        return Image(found["Id"], best.partition("@")[2])

    def _pull(self, api: docker.APIClient, name: str) -> None:
        repository, tag = parse_repository_tag(name)
        for line in api.pull(repository, tag=tag or "latest", stream=True, decode=True):
            if "error" in line:
                raise ExecutorRefused(f"image {name} not found: it cannot be pulled: {line['error']}")

    def containers(self, *labels: str) -> list[JsonObject]:
        """List all containers, also stopped ones, that bear all ``labels`` (``name=value``)."""
        with self.answers() as api:
            found: list[JsonObject] = api.containers(all=True, filters={"label": list(labels)})
        return found

    def inspect(self, container: str) -> JsonObject | None:
        """Return a container's document; None when there is no such container."""
        with self.answers() as api:
            try:
                document: JsonObject = api.inspect_container(container)
            except NotFound:
                return None
        return document

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; nothing happens when it is gone."""
        with self.answers() as api:
            try:
                api.remove_container(container, force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone, or somebody is removing it right now
                    raise Unavailable(f"container {container} cannot be removed: {explain(error)}") from error

    def read_file(self, container: str, path: str) -> BinaryIO | None:
        """Copy a file out of a container that was created, links followed inside it; None when there is none."""
        with self.answers() as api:
            for _link in range(_MOST_LINKS):
                try:
                    chunks, status = api.get_archive(container, path)
                except APIError:  # 404, or a file where a folder should be
                    return None
                with tempfile.TemporaryFile() as archive:
                    for chunk in chunks:
                        archive.write(chunk)
                    archive.seek(0)
                    if not status["linkTarget"]:
                        return _only_member(archive)
                path = status["linkTarget"]
        return None

    def open_stream(self, method: str, path: str, query: Mapping[str, Any]) -> tuple[socket.socket, bytes]:
        """Send a request whose answer never ends; return its connection and what was read of the body.

        HTTP/1.0 keeps the Engine from chunking the body; ``POST …/attach`` turns the connection over to raw bytes.

        :raises Unavailable: no connection, or an answer other than success.
        """
        with self.answers() as api:
            request = (
                f"{method} /v{api.api_version}{path}?{urlencode(query)} HTTP/1.{1 if method == 'POST' else 0}\r\n"
                "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
            )
            stream = _connect(self.host)
            try:
                stream.sendall(request.encode())
                status, rest = _read_head(stream)
            except OSError:
                stream.close()
                raise
            if status not in (101, 200):
                stream.close()
                raise Unavailable(f"the Docker Engine answered {status} to {method} {path}")
            stream.settimeout(None)
            return stream, rest


def explain(error: APIError) -> str:
    """Give the Engine's own words."""
    return str(error.explanation or error)


def is_streamable(host: str) -> bool:
    """Tell whether raw connections to ``host`` are possible: a Unix socket, or TCP without TLS."""
    scheme = urlsplit(parse_host(host)).scheme
    return scheme in ("http+unix", "http") and not os.environ.get("DOCKER_TLS_VERIFY")


def _connect(host: str) -> socket.socket:
    address = urlsplit(parse_host(host))
    if address.scheme == "http":
        return socket.create_connection((address.hostname or "127.0.0.1", address.port or 2375), CONNECT_TIMEOUT)
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(CONNECT_TIMEOUT)
        stream.connect(address.path)
    except OSError:
        stream.close()
        raise
    return stream


def _read_head(stream: socket.socket) -> tuple[int, bytes]:
    """Read an HTTP head; return its status and what came after it."""
    data = b""
    stream.settimeout(TIMEOUT)
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            raise ConnectionError("the connection was closed")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split(None, 2)[1]), rest


def _only_member(archive: BinaryIO) -> BinaryIO | None:
    with tarfile.open(fileobj=archive) as tar:
        member = tar.next()
        content = None if member is None or not member.isfile() else tar.extractfile(member)
        if content is None:
            return None
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        while chunk := content.read(io.DEFAULT_BUFFER_SIZE):
            copy.write(chunk)
        copy.seek(0)
        return copy


def _innermost(error: BaseException) -> str:
    """Find the operating system's words below the layers of the HTTP client."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error)
