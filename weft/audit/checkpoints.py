"""Signed checkpoints: what a chain alone cannot show, that its tail was cut or all of it written anew.

A checkpoint says which hash stood at which number. It is signed with an Ed25519 key that is made at the first start,
and appended to a file; copies of that file, kept elsewhere, are what makes the record provable against its keeper.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from weft.audit.entry import canonical, milliseconds, time_of
from weft.errors import InvalidRequest, Unavailable
from weft.store.audit_table import AuditRow

_TAG = b"weft-audit-checkpoint-v1\x00"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed line: at ``seq`` the record's hash was ``hash`` (hex)."""

    seq: int
    hash: str
    time: str
    node: str
    key: str
    signature: str

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers."""
        said = {"seq": self.seq, "hash": self.hash, "time": self.time, "node": self.node, "key": self.key}
        return _TAG + canonical(said)


class Sealer:
    """Signs checkpoints and appends them to the file beside its key."""

    def __init__(self, folder: Path, node: str) -> None:
        """Load the key, or make one.

        :raises Unavailable: the folder cannot be written.
        """
        self.file = folder / "checkpoints.jsonl"
        self._node = node
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._key = _own_key(folder)
        except OSError as error:
            raise Unavailable(f"the audit folder {folder} cannot be used: {error.strerror}") from error
        self._key_id = key_id(self._key.public_key())

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What verifies the checkpoints."""
        return self._key.public_key()

    def seal(self, tail: AuditRow, now: float) -> Checkpoint:
        """Append a checkpoint of ``tail``; it is on disk when this returns.

        :raises OSError: it could not be written.
        """
        unsigned = Checkpoint(tail.seq, tail.hash.hex(), time_of(milliseconds(now)), self._node, self._key_id, "")
        signature = base64.b64encode(self._key.sign(unsigned.signed)).decode()
        made = Checkpoint(unsigned.seq, unsigned.hash, unsigned.time, unsigned.node, unsigned.key, signature)
        line = orjson.dumps({name: getattr(made, name) for name in Checkpoint.__slots__}) + b"\n"
        _append(self.file, line)
        return made


def read(file: Path) -> Iterator[Checkpoint]:
    """Read a file of checkpoints; there is none before the first one.

    :raises InvalidRequest: a line is none.
    """
    if not file.is_file():
        return
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            fields: Mapping[str, Any] = orjson.loads(line)
            yield Checkpoint(**fields)
        except (orjson.JSONDecodeError, TypeError) as error:
            raise InvalidRequest(f"{file}: line {number} is no checkpoint") from error


def is_genuine(checkpoint: Checkpoint, public_key: Ed25519PublicKey) -> bool:
    """Tell whether the holder of the key signed this."""
    try:
        public_key.verify(base64.b64decode(checkpoint.signature, validate=True), checkpoint.signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public_key(file: Path) -> Ed25519PublicKey:
    """Read the key that verifies checkpoints.

    :raises InvalidRequest: the file holds none.
    """
    try:
        key = load_pem_public_key(file.read_bytes())
    except FileNotFoundError:
        raise InvalidRequest(
            f"there is no audit record here: {file} is missing",
            remedy="name the data folder of the server with --data, or its settings file with WEFT_CONFIG",
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{file} holds no public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidRequest(f"the key in {file} is no Ed25519 key")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Return a short name of a key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _own_key(folder: Path) -> Ed25519PrivateKey:
    """Load the private key, which only its owner may read; the first to start makes it."""
    file = folder / "key.pem"
    if not file.exists():
        made = Ed25519PrivateKey.generate()
        draft = folder / f".key-{os.getpid()}"
        _write_new(draft, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        try:
            os.link(draft, file)  # whole, and never over another process's
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise Unavailable(f"the key in {file} is no Ed25519 key")
    public = folder / "public.pem"
    if not public.exists():
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key


def _write_new(file: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _append(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
