"""The public documents of issuers (discovery, key sets): fetched once, refreshed by the hour, never hammered.

An issuer that cannot be asked is ``Unavailable``, never a bad token. What is known stays good for a second hour.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from weft.clock import Clock
from weft.errors import Unavailable, WeftError

FRESH_SECONDS = 3600.0
STALE_SECONDS = 2 * FRESH_SECONDS
#: The least pause between two fetches that a key nobody knows asks for.
AGAIN_SECONDS = 30.0
#: How long an issuer is left alone after it failed to answer.
FAILED_SECONDS = 5.0

_MOST_BYTES = 1 << 20
_PATIENCE = 5.0

Document = Mapping[str, Any]


class Get(Protocol):
    """The part of the guarded client that is needed here."""

    def get_bytes(
        self, url: str, max_bytes: int, *, headers: Mapping[str, str] | None = None, seconds: float = 60.0
    ) -> bytes:
        """Return the body at ``url``."""
        ...


@dataclass
class _Entry:
    document: Document | None = None
    fetched_at: float = -STALE_SECONDS
    failed_at: float = -STALE_SECONDS
    lock: threading.Lock = field(default_factory=threading.Lock)


class Documents:
    """JSON objects by URL. May be used from any thread."""

    def __init__(self, client: Get, clock: Clock) -> None:
        """Keep the guarded client."""
        self._client = client
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def get(self, url: str) -> Document:
        """Return the document at ``url``, at most an hour old unless its server fell silent.

        :raises Unavailable: it cannot be had now.
        """
        entry = self._entry(url)
        age = self._clock() - entry.fetched_at
        if entry.document is not None and age < FRESH_SECONDS:
            return entry.document
        try:
            return self._fetched(entry, url, older_than=FRESH_SECONDS)
        except Unavailable:
            if entry.document is not None and age < STALE_SECONDS:
                return entry.document
            raise

    def get_newer(self, url: str) -> Document:
        """Return the document as it is now, or as it was at most ``AGAIN_SECONDS`` ago.

        :raises Unavailable: it cannot be had now.
        """
        return self._fetched(self._entry(url), url, older_than=AGAIN_SECONDS)

    def _entry(self, url: str) -> _Entry:
        return self._entries.setdefault(url, _Entry())

    def _fetched(self, entry: _Entry, url: str, *, older_than: float) -> Document:
        if not entry.lock.acquire(timeout=_PATIENCE):
            raise _unavailable(url, "it is slow")
        try:
            now = self._clock()
            if entry.document is not None and now - entry.fetched_at < older_than:
                return entry.document
            if now - entry.failed_at < FAILED_SECONDS:
                raise _unavailable(url, "it failed a moment ago")
            try:
                entry.document = _object(self._client.get_bytes(url, _MOST_BYTES, seconds=_PATIENCE))
            except WeftError as error:
                entry.failed_at = now
                raise _unavailable(url, error.message) from error
            entry.fetched_at = now
            return entry.document
        finally:
            entry.lock.release()


def _object(body: bytes) -> Document:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unavailable("it is not JSON") from error
    if not isinstance(document, dict):
        raise Unavailable("it is no JSON object")
    return document


def _unavailable(url: str, reason: str) -> Unavailable:
    return Unavailable(f"what is needed to check a token cannot be had from {url}: {reason}")


class KeySets:
    """Key sets by their address."""

    def __init__(self, documents: Documents) -> None:
        """Keep where documents come from."""
        self._documents = documents

    def find(self, url: str, choose: Callable[[list[Document]], Any]) -> Any:
        """Return what ``choose`` finds among the keys; when it finds None, look once more at the newest keys.

        :raises Unavailable: the keys cannot be had now.
        """
        found = choose(_keys(self._documents.get(url)))
        return choose(_keys(self._documents.get_newer(url))) if found is None else found


def _keys(document: Document) -> list[Document]:
    keys = document.get("keys")
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
