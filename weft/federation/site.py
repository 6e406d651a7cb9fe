"""What a site keeps of its membership: the hub's address, its own name and key, and where its data sets are listed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from weft.errors import Conflict, InvalidRequest
from weft.federation import declaration
from weft.federation.proofs import NodeKey
from weft.model import JsonObject

_FILE = "hub.json"
_KEY = "key.pem"
_LOCK = "agent.lock"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Says that this site is node ``name`` of the hub at ``hub``."""

    hub: str
    name: str
    joined_at: float
    #: ``datasets.toml``, read again at each start.
    datasets: str | None = None
    #: Certificates that the hub's is checked with, where it is not of a public authority.
    ca: str | None = None


def read(folder: Path) -> Membership | None:
    """Return the membership that ``save`` wrote; None where this site has joined no hub."""
    try:
        return Membership(**orjson.loads((folder / _FILE).read_bytes()))
    except FileNotFoundError:
        return None


def key_of(folder: Path) -> NodeKey:
    """Return the site's key; a new one is made where there is none.

    :raises InvalidRequest: it cannot be read or made.
    """
    path = folder / _KEY
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            NodeKey.generate().save(path)
        return NodeKey.load(path)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"the node's key {path} cannot be used: {error}", field="data") from error


def save(folder: Path, membership: Membership) -> None:
    """Write the membership, whole or not at all."""
    temporary = folder / f".{_FILE}"
    with temporary.open("wb") as stream:
        stream.write(orjson.dumps(asdict(membership)))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / _FILE)


def remove(folder: Path) -> None:
    """Forget the hub and the key."""
    (folder / _FILE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def hub_url(given: str, *, allow_http: bool = False) -> str:
    """Return the hub's base URL as it is used.

    :raises InvalidRequest: it is no URL of a hub, or its connection would not be encrypted.
    """
    url = given.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
        raise InvalidRequest(
            f"{given!r} is not the URL of a hub", field="hub", remedy="such as https://hub.example.org"
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_http:
        raise InvalidRequest(
            "the hub is named by plain http: anybody on the way could read and change what it says",
            field="hub",
            remedy="use https, or say --allow-http where the network itself is trusted",
        )
    return url


def declared(membership: Membership, services: JsonObject) -> JsonObject:
    """Return what this site says of itself: what its services say, and its list of data sets.

    :raises InvalidRequest: the list cannot be read.
    """
    listed = {} if membership.datasets is None else declaration.read(Path(membership.datasets))
    return declaration.checked({**listed, **services})


def refuse_second(folder: Path) -> None:
    """Refuse to join where the site is a node already.

    :raises Conflict: says of which hub.
    """
    known = read(folder)
    if known is not None:
        raise Conflict(f"this site is node {known.name} of {known.hub} already", remedy="weft node leave, then join")


def only_speaker(folder: Path) -> Callable[[], bool]:
    """Return who tells whether this process speaks for the site; once it does, it does so until it ends.

    The kernel's lock (flock(2)) ends with the process, however that dies.
    """
    held: list[int] = []

    def turn() -> bool:
        if held:
            return True
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        held.append(descriptor)
        return True

    return turn
