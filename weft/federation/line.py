"""The node's one way out: signed requests to the hub, through whatever proxy the environment names.

The hub's address is the administrator's word and not a stranger's, so the guarded client, which knows no proxies, is
not the one to use. Redirects are not followed: a proof is for one path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import orjson
import requests
import urllib3

from weft.clock import Clock
from weft.errors import Conflict, Forbidden, InvalidRequest, NotFound, TooLarge, Unauthenticated, Unavailable, WeftError
from weft.federation.proofs import BASE_PATH, SKEW, NodeKey
from weft.logs import get_logger
from weft.model import JsonObject

log = get_logger(__name__)

#: What an answer's status means to a node.
_REFUSALS: Mapping[int, type[WeftError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
}
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
#: A clock that is off by less than this is left alone: the Date header counts whole seconds.
_TOLERATED = 2.0


class Line:
    """Speaks to one hub; for one thread at a time."""

    def __init__(self, hub: str, name: str, key: NodeKey, *, clock: Clock, ca: str | None = None) -> None:
        """Keep who speaks to whom; nothing is opened yet."""
        self._hub = hub
        self._name = name
        self._key = key
        self._clock = clock
        self._session = requests.Session()
        if ca is not None:
            self._session.verify = ca
        #: What to add to this site's time to have the hub's, in seconds.
        self.offset = 0.0

    def now(self) -> float:
        """Return the hub's time, as far as it is known here."""
        return self._clock() + self.offset

    def join(self, token: str, declared: JsonObject) -> JsonObject:
        """Enrol with a token; may be repeated."""
        body = {"token": token, "name": self._name, "public_key": self._key.public, "declared": declared}
        return self._post("/nodes", body, 0.0)

    def ask(self, action: str, body: JsonObject, *, wait: float = 0.0) -> JsonObject:
        """Send one signed request of this node and return the answer.

        :param wait: seconds that the hub may take on purpose.
        :raises Unavailable: there is no answer, or one that says to try again.
        :raises Unauthenticated, Forbidden, InvalidRequest, Conflict: the hub refused, in its words.
        """
        return self._post(f"/nodes/{self._name}/{action}", body, wait)

    @contextmanager
    def fetch(self, action: str, body: JsonObject) -> Iterator[tuple[str, Body]]:
        """Open an answer that is too large to hold: its content type, and its bytes as they come.

        :raises WeftError: as ``ask``; ``Unavailable`` also while it is read.
        """
        with self._send(f"/nodes/{self._name}/{action}", orjson.dumps(body), 0.0, stream=True) as answer:
            _refuse(answer)
            if not _has_an_end(answer):
                raise Unavailable("the hub's answer broke off in its headers")
            yield answer.headers.get("Content-Type", ""), Body(answer)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _post(self, path: str, document: JsonObject, wait: float) -> JsonObject:
        body = orjson.dumps(document)
        answer = self._send(path, body, wait)
        _refuse(answer)
        try:
            found = orjson.loads(answer.content)
        except ValueError as error:
            raise Unavailable("the hub's answer is not JSON: is something else at its address?") from error
        if not isinstance(found, dict):
            raise Unavailable("the hub's answer is not a JSON object: is something else at its address?")
        return found

    def _send(self, path: str, body: bytes, wait: float, *, stream: bool = False) -> requests.Response:
        answer = self._sent(path, body, wait, stream)
        if answer.status_code == 401 and self._set_clock(answer):
            answer = self._sent(path, body, wait, stream)
        return answer

    def _sent(self, path: str, body: bytes, wait: float, stream: bool) -> requests.Response:
        headers = {
            "Authorization": self._key.sign(self._name, "POST", path, body, now=self.now()),
            "Content-Type": "application/json",
        }
        try:
            return self._session.post(
                f"{self._hub}{BASE_PATH}{path}",
                data=body,
                headers=headers,
                timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS + wait),
                allow_redirects=False,
                stream=stream,
                auth=_as_it_is,  # else a .netrc entry for the hub would replace the proof
            )
        except requests.RequestException as error:
            raise Unavailable(f"the hub does not answer: {error}") from error

    def _set_clock(self, answer: requests.Response) -> bool:
        """Learn the hub's time from a refusal; True when it was the reason, so that signing anew may help."""
        try:
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return False
        offset = theirs - self._clock()
        if abs(offset - self.offset) < SKEW / 2:
            return False
        self.offset = 0.0 if abs(offset) < _TOLERATED else offset
        log.warning("this site's clock is not the hub's", seconds=round(-offset), remedy="set the clock by NTP")
        return True


class Body:
    """The bytes of an answer as they come."""

    def __init__(self, answer: requests.Response) -> None:
        """Keep the open answer."""
        self._answer = answer

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        :raises Unavailable: the connection broke before the end.
        """
        try:
            return bytes(self._answer.raw.read(size, decode_content=True))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"the hub's answer broke off: {error}") from error


def _refuse(answer: requests.Response) -> None:
    refusal = _REFUSALS.get(answer.status_code)
    if refusal is not None:
        raise refusal(f"the hub refused: {_words(answer)}")
    if answer.status_code != 200:
        raise Unavailable(f"the hub answered {answer.status_code}: {_words(answer)}")


def _has_an_end(answer: requests.Response) -> bool:
    """Tell whether a cut of the body would be noticed: http.client takes headers that were cut for whole ones."""
    return answer.headers.get("Transfer-Encoding") == "chunked" or "Content-Length" in answer.headers


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _words(answer: requests.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["msg"])
    except (ValueError, KeyError, TypeError):
        return answer.reason or "without a word"
