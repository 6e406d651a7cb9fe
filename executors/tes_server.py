"""Speak TES to one server that somebody else runs: find its base path, carry the token, tolerate its age.

Only JSON comes and goes; ``executors.tes_words`` says what it means. Requests go through the guarded client, which is
given this one host and follows no redirect to another.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from weft.errors import ExecutorRefused, InvalidRequest, Unavailable, WeftError
from weft.model import JsonObject
from weft.sections.backends import TesSettings
from weft.sections.transfer import FetchSettings
from weft.staging.addresses import place
from weft.staging.guard import GuardedClient

#: Below a server's address: TES 1.1 first, then what servers of TES 1.0 use.
_PREFIXES = ("/ga4gh/tes/v1", "/v1", "")
#: Where a server tells of itself: TES 1.1 and 1.0.
_ABOUT = ("/service-info", "/tasks/service-info")
_PAGE = 1000
#: An end to pages that a faulty server repeats for ever.
_MOST_PAGES = 1000
_MOST_BYTES = 256 << 20
_MOST_WORDS = 2000
#: What a server may answer to a request that it does not know.
_UNKNOWN_REQUEST = frozenset({400, 403, 404, 405, 409, 422, 501})


class TesServer:
    """The operations of one TES server. May be used from any thread.

    Every method raises ``Unavailable`` when the server does not answer, or answers with its own fault.
    """

    def __init__(self, settings: TesSettings, fetch: FetchSettings) -> None:
        """Keep the address; nothing is sent yet.

        :raises InvalidRequest: the settings name no address, or none of http(s).
        """
        if settings.url is None:
            raise InvalidRequest(
                "tes.url is not set", field="tes.url", remedy="name the TES server, such as https://tes.example.org"
            )
        self.address = settings.url.rstrip("/")
        host = place(self.address).netloc
        limits = {"read_seconds": settings.timeout_seconds, "connect_seconds": min(10.0, settings.timeout_seconds)}
        self._client = GuardedClient(fetch.model_copy(update={"allow_hosts": (host,), "only_listed": True, **limits}))
        self._seconds = settings.timeout_seconds
        self._headers = {"Accept": "application/json", **_authorization(settings)}
        self._base: str | None = None

    def service_info(self) -> JsonObject:
        """Return what the server says of itself; finds the base path."""
        refused: list[int] = []
        for base in self._bases():
            for path in _ABOUT:
                status, body = self._ask("GET", base + path)
                if status == 200 and (document := _object(body)) is not None:
                    self._base = base
                    return document
                refused.append(status)
        if 401 in refused or 403 in refused:
            raise Unavailable(f"{self.address} does not accept the token", remedy="set tes.token")
        raise Unavailable(f"there is no TES server at {self.address}", remedy="check tes.url")

    def create(self, document: Mapping[str, Any], key: str) -> str:
        """Create a task and return its id; a server that knows ``Idempotency-Key`` makes only one of a key.

        :raises ExecutorRefused: the server will not run it, in the server's words.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        status, body = self._ask("POST", f"{self._found()}/tasks", body=orjson.dumps(document), headers=headers)
        answer = _object(body) or {}
        if 200 <= status < 300 and isinstance(answer.get("id"), str) and answer["id"]:
            return str(answer["id"])
        self._raise_if_ill(status, body)
        raise ExecutorRefused(f"{self.address} refused the task ({status}): {_words(body)}")

    def get(self, task_id: str, view: str) -> JsonObject | None:
        """Return a task, or None when the server knows none of this id."""
        status, body = self._ask("GET", f"{self._found()}/tasks/{quote(task_id, safe='')}?view={view}")
        if status in (400, 404, 410):
            return None
        self._raise_if_ill(status, body)
        return _object(body)

    def tasks(self, tags: Mapping[str, str], view: str, state: str | None = None) -> Iterator[JsonObject]:
        """Yield the tasks with these tags, page by page; an old server that has no such filters yields others too."""
        asked = [("view", view), ("page_size", str(_PAGE)), *([("state", state)] if state else [])]
        for name, value in tags.items():
            asked += [("tag_key", name), ("tag_value", value)]
        token = ""
        for _ in range(_MOST_PAGES):
            query = urlencode([*asked, *([("page_token", token)] if token else [])])
            status, body = self._ask("GET", f"{self._found()}/tasks?{query}")
            if status == 400 and tags and not token:  # it does not know the filters
                yield from self.tasks({}, view)
                return
            self._raise_if_ill(status, body)
            page = _object(body) or {}
            yield from (task for task in page.get("tasks") or () if isinstance(task, dict))
            following = page.get("next_page_token")
            if not following or following == token:
                return
            token = str(following)

    def cancel(self, task_id: str) -> None:
        """Ask for the end of a task; one that is over, or unknown, is left alone."""
        path = f"{self._found()}/tasks/{quote(task_id, safe='')}:cancel"
        status, body = self._ask("POST", path, body=b"", headers={"Content-Type": "application/json"})
        if status not in _UNKNOWN_REQUEST:
            self._raise_if_ill(status, body)

    def delete(self, task_id: str) -> bool:
        """Remove a task that is over; False where the server cannot (TES itself has no such operation)."""
        status, body = self._ask("DELETE", f"{self._found()}/tasks/{quote(task_id, safe='')}")
        if status in _UNKNOWN_REQUEST:
            return False
        self._raise_if_ill(status, body)
        return True

    def _found(self) -> str:
        if self._base is None:
            self.service_info()
        assert self._base is not None
        return self._base

    def _bases(self) -> tuple[str, ...]:
        if self._base is not None:
            return (self._base,)
        if urlsplit(self.address).path.endswith("/v1"):
            return (self.address,)
        return tuple(f"{self.address}{prefix}" for prefix in _PREFIXES)

    def _ask(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        sent = {**self._headers, **(headers or {})}
        try:
            return self._client.exchange(
                method, url, body=body, headers=sent, max_bytes=_MOST_BYTES, seconds=3 * self._seconds
            )
        except Unavailable:
            raise
        except WeftError as error:
            raise Unavailable(f"{self.address}: {error.message}", remedy=error.remedy) from error

    def _raise_if_ill(self, status: int, body: bytes) -> None:
        if status == 401:
            raise Unavailable(f"{self.address} does not accept the token", remedy="set tes.token")
        if status >= 500 or status in (408, 425, 429):
            raise Unavailable(f"{self.address} answers {status}: {_words(body)[:200]}")


def _authorization(settings: TesSettings) -> dict[str, str]:
    if settings.token is None:
        return {}
    secret = settings.token.get_secret_value()
    if settings.user is None:
        return {"Authorization": f"Bearer {secret}"}
    pair = base64.b64encode(f"{settings.user}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _object(body: bytes) -> JsonObject | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _words(body: bytes) -> str:
    """Return what an answer says is wrong, whatever its form."""
    document = _object(body) or {}
    for name in ("detail", "msg", "message", "error", "title"):
        if isinstance(document.get(name), str) and document[name]:
            return str(document[name])[:_MOST_WORDS]
    return " ".join(body.decode(errors="replace").split())[:_MOST_WORDS] or "without a word"
