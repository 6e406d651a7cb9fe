"""Send what lies in the outbox: each callback until it is taken, for a day, in threads of its own.

The move of a job and its entry in the outbox are one transaction, so none is lost; who sends claims an entry for a
while first, so a death in between only means that it is sent again. Receivers tell repetitions by ``webhook-id``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from weft.callbacks.message import body_of
from weft.callbacks.signature import signed
from weft.clock import Clock
from weft.errors import Forbidden, InvalidRequest, StagingFailed, Unavailable, WeftError
from weft.logs import get_logger
from weft.model import Delivery, Place
from weft.staging.urls import shown

log = get_logger(__name__)

#: How long a callback is tried, in seconds.
LASTS = 86_400.0
#: Pause after the first failure, and the longest one; each is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3_600.0
#: Nobody else sends a claimed entry so long; more than one try takes.
CLAIM_SECONDS = 60.0
STOP_SECONDS = 3.0
#: The receiver is gone for good (RFC 9110, 15.5.11).
_GONE = 410


class Outbox(Protocol):
    """The part of the store that is needed here."""

    def callbacks_are_due(self, *, now: float) -> bool:
        """Tell whether anything waits to be sent."""
        ...

    def claim_callbacks(self, limit: int, *, now: float, until: float) -> tuple[Delivery, ...]:
        """Take what is due; nobody else gets it before ``until``."""
        ...

    def callback_failed(self, delivery: Delivery, *, due_at: float) -> None:
        """Let it be tried again."""
        ...

    def callback_settled(self, delivery: Delivery, *, now: float, message: str | None = None) -> None:
        """Remove it; with a message, say so in the system log of its job."""
        ...


class Post(Protocol):
    """The part of the guarded client that is needed here."""

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        """Send and return the status; redirects are not followed."""
        ...


class Sender:
    """Looks into the outbox once a beat, and sends what is due, several at once."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        client: Post,
        clock: Clock,
        site_secret: str | None = None,
        at_once: int = 8,
        beat_seconds: float = 1.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Keep the collaborators.

        :param site_secret: signs the site's own callbacks; it stands in no database.
        :param jitter: 0 to 1: how much of a pause's last fifth is left out, so that failed ones do not come in herds.
        """
        self._outbox = outbox
        self._client = client
        self._clock = clock
        self._site_secret = site_secret
        self._at_once = at_once
        self._beat_seconds = beat_seconds
        self._jitter = jitter
        self._signal = threading.Event()
        self._stopping = threading.Event()
        self._free = threading.Semaphore(at_once)
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="callback")
        self._thread = threading.Thread(target=self._loop, name="callbacks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new, and let what is under way finish for a while; the rest is sent again at the next start."""
        deadline = time.monotonic() + STOP_SECONDS
        self._stopping.set()
        self._signal.set()
        self._thread.join(STOP_SECONDS)
        for _ in range(self._at_once):
            if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
                break
        self._pool.shutdown(wait=False, cancel_futures=True)

    def turn(self) -> None:
        """Send what is due, as much of it as there are threads free."""
        now = self._clock()
        if not self._outbox.callbacks_are_due(now=now):
            return
        room = 0
        while room < self._at_once and self._free.acquire(blocking=False):
            room += 1
        claimed = self._outbox.claim_callbacks(room, now=now, until=now + CLAIM_SECONDS) if room else ()
        for _ in range(room - len(claimed)):
            self._free.release()
        for delivery in claimed:
            self._pool.submit(self._run, delivery)

    def send(self, delivery: Delivery) -> None:
        """Try one delivery once, and note what became of it."""
        problem, final = self._try(delivery)
        now = self._clock()
        if problem is None:
            self._outbox.callback_settled(delivery, now=now)
        elif final or now >= delivery.at + LASTS:
            tries = "1 try" if delivery.tries == 1 else f"{delivery.tries} tries"
            message = f"callback to {shown(delivery.url)} for {delivery.state} given up after {tries}: {problem}"
            log.warning("callback given up", job=delivery.job_id, url=shown(delivery.url), problem=problem)
            self._outbox.callback_settled(delivery, now=now, message=message)
        else:
            self._outbox.callback_failed(delivery, due_at=now + self._pause(delivery.tries))
            log.info("callback failed", job=delivery.job_id, url=shown(delivery.url), problem=problem)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._signal.clear()
            try:
                self.turn()
            except Unavailable as error:
                log.warning("callbacks wait", error=error.message)
            except Exception as error:
                log.exception("callbacks failed", error=repr(error))
            self._signal.wait(self._beat_seconds)

    def _run(self, delivery: Delivery) -> None:
        try:
            self.send(delivery)
        except Exception as error:  # its claim runs out, and it is sent again
            log.exception("callback failed", job=delivery.job_id, error=repr(error))
        finally:
            self._free.release()
            self._signal.set()

    def _try(self, delivery: Delivery) -> tuple[str | None, bool]:
        """Return what went wrong, None if nothing did, and whether it is of no use to try again."""
        secret = self._site_secret if delivery.place is Place.SITE else delivery.secret
        if secret is None:
            return "there is no secret to sign it with", True
        body = body_of(delivery)
        headers = {"Content-Type": "application/json", **signed(secret, delivery.id, int(self._clock()), body)}
        try:
            status = self._client.post(delivery.url, body, headers=headers)
        except (Forbidden, InvalidRequest) as error:
            return error.message, True
        except (StagingFailed, Unavailable) as error:
            return error.message, False
        except WeftError as error:
            return error.message, True
        return (None, True) if 200 <= status < 300 else (f"the answer was {status}", status == _GONE)

    def _pause(self, tries: int) -> float:
        pause = min(FIRST_PAUSE * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE)
        return pause * (1 - 0.2 * self._jitter())
