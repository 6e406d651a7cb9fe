"""The agent of a node: two threads that ask the hub for work and tell it what became of it.

What it knows stands in the site's store (``weft.store.claims``), so it may die between any two calls: an offer whose
answer got lost comes again and finds the job that was made of it, a report that was not confirmed is said again.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from weft.clock import Clock
from weft.errors import TooMany, Unavailable, WeftError
from weft.federation import reports
from weft.federation.desk import Offer
from weft.federation.line import Line
from weft.federation.outbox import Ask
from weft.logs import get_logger
from weft.model import Job, JsonObject, Kind
from weft.states import State
from weft.store import claims
from weft.store.claims import Claim
from weft.store.link import Link
from weft.store.store import Store

log = get_logger(__name__)

#: How long the hub may keep a claim waiting, in seconds.
WAIT_SECONDS = 25.0
#: Pause between looks at live logs and at starts, which ring no bell, in seconds.
BEAT_SECONDS = 2.0
#: Every so often all that is held is compared with what the hub believes, in seconds.
COMPARE_SECONDS = 60.0
#: Pause between looks whether another process of this site still speaks for it, in seconds.
TURN_SECONDS = 5.0
#: Longest pause before a hub that does not answer is asked again, in seconds.
LONGEST_PAUSE = 30.0
_REPORTS_AT_ONCE = 64
#: Claims of jobs that are gone are remembered so long, in seconds.
_REMEMBERED = 30 * 86_400.0
_CANCELLED = "cancelled by the hub"
_DROPPED = "cancelled: the hub has given the job up"
_LOST = "-"  # the id of no job


class Hub(Protocol):
    """The part of ``Line`` that is needed here."""

    offset: float

    def ask(self, action: str, body: JsonObject, *, wait: float = 0.0) -> JsonObject:
        """Send one signed request and return the answer."""
        ...


class Taker(Protocol):
    """The part of ``Desk`` that is needed here."""

    def take(self, offer: Offer) -> str:
        """Store the job of an offer and return its id."""
        ...


class Lets(Protocol):
    """The part of ``Outbox`` that is needed here."""

    def settle(self, key: str, job: Job, report: JsonObject, ask: Ask) -> JsonObject:
        """Return what the hub may hear of a job."""
        ...

    def abandon(self, key: str, reason: str) -> None:
        """Withhold what is not decided on."""
        ...


class Agent:
    """Takes work from a hub and reports on it. ``claim`` and ``report`` are one exchange each."""

    def __init__(
        self,
        *,
        store: Store,
        desk: Taker,
        clock: Clock,
        pool: ThreadPoolExecutor | None = None,
        outbox: Lets | None = None,
    ) -> None:
        """Keep the collaborators.

        :param pool: makes several jobs at once, so that they share a commit.
        :param outbox: lets the files of a job out; without it none is sent.
        """
        self._outbox = outbox
        self._store = store
        self._desk = desk
        self._clock = clock
        self._pool = pool
        self._again = True
        self._compare_at = 0.0
        self._dropped: set[str] = set()
        self.news = threading.Event()

    # -- claims ------------------------------------------------------------------------------------------------

    def claim(self, hub: Hub, wait: float = WAIT_SECONDS) -> None:
        """Ask for work once, and do what the answer says.

        :raises WeftError: the hub does not answer or refuses.
        """
        queued, running = self._store.read(claims.load)
        body: JsonObject = {"wait": wait, "load": {"queued": queued, "running": running}}
        compares = self._clock() >= self._compare_at
        if compares:
            body["holding"] = [claim.key for claim in self._store.read(claims.still_open)]
        if self._again:
            body["again"] = True
        self._again = True
        answer = hub.ask("claim", body, wait=wait)
        if compares:
            self._compare_at = self._clock() + COMPARE_SECONDS
            self._store.write(partial(claims.prune, before=self._clock() - _REMEMBERED))
        self._obey(answer)
        self._again = False

    def _obey(self, answer: Mapping[str, Any]) -> None:
        """Take what is offered first: what is to be cancelled may be a job here that no claim was written for."""
        self._take([_offer(item) for item in answer["offers"]])
        for key in answer["drops"]:
            self._drop(key)
        for key in answer["cancels"]:
            self._cancel(key)
        for key in answer["missing"]:
            self._explain(key)
        if any(answer[name] for name in ("drops", "cancels", "missing", "offers")):
            self.news.set()

    def _take(self, offers: Sequence[Offer]) -> None:
        known = {claim.key: claim for claim in self._store.read(partial(claims.of_keys, keys=[o.key for o in offers]))}
        new = [offer for offer in offers if offer.key not in known]
        results = list(map(self._made, new)) if self._pool is None else list(self._pool.map(self._made, new))

        def keep(link: Link) -> None:
            for offer, (job_id, refusal) in zip(new, results, strict=True):
                if job_id is not None or refusal is not None:
                    claims.add(link, offer.key, job_id=job_id, refusal=refusal)
            for key in known:
                claims.reopen(link, key)

        if offers:
            self._store.write(keep)
        if (None, None) in results:
            self.news.set()
            raise Unavailable("not every offer could be taken now; the hub is asked for them again")

    def _made(self, offer: Offer) -> tuple[str | None, str | None]:
        """Return the job of an offer, or why there is none; neither when that cannot be told now."""
        try:
            return self._desk.take(offer), None
        except (Unavailable, TooMany) as error:  # TooMany: its owner has here what one may have
            log.warning("offer not taken now", key=offer.key, error=error.message)
            return None, None
        except WeftError as error:
            log.info("offer refused", key=offer.key, reason=error.message)
            return None, f"refused: {error.message}" + (f" ({error.remedy})" if error.remedy else "")

    def _cancel(self, key: str) -> None:
        claim = self._store.read(partial(claims.get, key=key))
        if claim is None:
            self._store.write(partial(claims.add, key=key, refusal="cancelled before it came here"))
        elif claim.closed:
            self._store.write(partial(claims.reopen, key=key))
        elif claim.job_id is not None:
            self._store.request_cancel(claim.job_id, now=self._clock(), message=_CANCELLED)
        if self._outbox is not None:
            self._outbox.abandon(key, _CANCELLED)

    def _drop(self, key: str) -> None:
        claim = self._store.read(partial(claims.get, key=key))
        if claim is None:
            self._store.write(partial(claims.add, key=key, refusal="given up before it came here"))
        elif claim.job_id is not None:
            self._store.request_cancel(claim.job_id, now=self._clock(), message=_DROPPED)
        if self._outbox is not None:
            self._outbox.abandon(key, _DROPPED)
        self._store.write(partial(claims.close, key=key, now=self._clock()))
        self._dropped.add(key)

    def _explain(self, key: str) -> None:
        """Say everything anew of what the hub believes to be here, or that nothing is known of it."""

        def look(link: Link) -> None:
            claims.add(link, key, job_id=_LOST)
            claims.reopen(link, key)

        self._store.write(look)

    # -- reports -----------------------------------------------------------------------------------------------

    def report(self, hub: Hub, *, thoroughly: bool) -> None:
        """Tell the hub what it does not know yet.

        :param thoroughly: look for news in live logs too, and not only for changes of state.
        :raises WeftError: the hub does not answer or refuses; nothing is lost by that.
        """
        news = [claim for claim in self._store.read(claims.still_open) if thoroughly or _moved(claim)]
        for start in range(0, max(len(news), 1), _REPORTS_AT_ONCE):
            self._report(hub, news[start : start + _REPORTS_AT_ONCE])

    def _report(self, hub: Hub, batch: Sequence[Claim]) -> None:
        made = [(claim, *self._words(claim, report)) for claim, report in self._reports(batch, hub)]
        changed = [(claim, words, report) for claim, words, report in made if words != claim.said]
        dropped = sorted(self._dropped)
        if not changed and not dropped:
            return
        answer = hub.ask("report", {"reports": [report for *_, report in changed], "dropped": dropped})
        self._dropped.difference_update(dropped)
        unknown, now = frozenset(answer["unknown"]), self._clock()

        def confirm(link: Link) -> None:
            for claim, words, report in changed:
                over = report["stage"] == "ended" or claim.key in unknown
                claims.said(link, claim.key, report["seq"], words, closed_at=now if over else None)

        self._store.write(confirm)
        for claim, *_ in changed:
            if claim.key in unknown and claim.job_id is not None:
                self._store.request_cancel(claim.job_id, now=now, message="cancelled: the hub does not know this job")

    def _reports(self, batch: Sequence[Claim], hub: Hub) -> list[tuple[Claim, JsonObject]]:
        ids = [claim.job_id for claim in batch if claim.job_id is not None and claim.state is not None]
        attempts, events = self._store.attempts(ids), self._store.events_of(ids)
        tails = self._store.tails_of(ids)
        found = []
        for claim in batch:
            job = None if claim.job_id is None or claim.state is None else self._store.get(claim.job_id)
            if claim.refusal is not None:
                found.append((claim, reports.of_refusal(claim.refusal)))
            elif job is None:
                lost = "this site no longer knows the job: was its database restored from a backup?"
                found.append((claim, reports.of_refusal(lost, retry=True)))
            else:
                of_it = (attempts.get(job.id, ()), events.get(job.id, ()), tails.get(job.id, ()))
                report = reports.of_job(job, *of_it, offset=hub.offset)
                found.append(
                    (claim, report if self._outbox is None else self._outbox.settle(claim.key, job, report, hub.ask))
                )
        return found

    def _words(self, claim: Claim, report: JsonObject) -> tuple[str, JsonObject]:
        """Return what marks this report as said, and the report with its number."""
        mark = zlib.crc32(repr(sorted(report.items())).encode("utf-8", "replace"))
        words = f"{_state_word(claim)} {mark:08x}"
        return words, {"key": claim.key, "seq": max(claim.seq + 1, int(self._clock() * 1000)), **report}


class Service:
    """Runs an agent's two exchanges in threads of their own until it is stopped; one process of a site at a time."""

    def __init__(
        self,
        *,
        agent: Agent,
        store: Store,
        line: Callable[[], Line],
        declared: Callable[[], JsonObject],
        turn: Callable[[], bool],
    ) -> None:
        """Keep the collaborators.

        :param line: opens a line to the hub.
        :param declared: what the site says of itself now.
        :param turn: tells whether this process is the one that speaks for the site.
        """
        self._agent = agent
        self._line = line
        self._declared = declared
        self._turn = turn
        self._told: JsonObject | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        store.on_change(agent.news.set)

    def start(self) -> None:
        """Start the threads."""
        self._threads = [
            threading.Thread(target=duty, name=f"node-{name}", daemon=True)
            for name, duty in (("claims", self._claim), ("reports", self._report))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the threads end; a claim that waits at the hub is left to itself."""
        self._stopping.set()
        self._agent.news.set()

    def _claim(self) -> None:
        hub, tries = self._line(), 0
        while self._may_speak():
            try:
                self._declare(hub)
                self._agent.claim(hub)
                tries = 0
            except Exception as error:
                tries += 1
                self._wait(error, tries)

    def _declare(self, hub: Line) -> None:
        declared = self._declared()
        if declared != self._told:
            hub.ask("declare", {"declared": declared})
            self._told = declared

    def _report(self) -> None:
        hub, tries, thorough_at = self._line(), 0, 0.0
        while self._may_speak():
            self._agent.news.wait(BEAT_SECONDS)
            self._agent.news.clear()
            thoroughly = time.monotonic() >= thorough_at
            try:
                self._agent.report(hub, thoroughly=thoroughly)
                tries = 0
                if thoroughly:
                    thorough_at = time.monotonic() + BEAT_SECONDS
            except Exception as error:
                tries += 1
                self._wait(error, tries)
                self._agent.news.set()

    def _may_speak(self) -> bool:
        """Wait for this process's turn; False when it stops."""
        while not self._stopping.is_set():
            if self._turn():
                return True
            self._stopping.wait(TURN_SECONDS)
        return False

    def _wait(self, error: Exception, tries: int) -> None:
        if self._stopping.is_set():
            return
        self._told = None  # the hub may have been set up anew
        if isinstance(error, WeftError):
            log.warning("node waits for its hub", error=error.message, tries=tries)
        else:
            log.exception("node's exchange failed", error=repr(error))
        self._stopping.wait(min(LONGEST_PAUSE, 0.5 * 2 ** min(tries, 10)))


def _offer(item: Mapping[str, Any]) -> Offer:
    return Offer(key=item["key"], kind=Kind(item["kind"]), owner=item["owner"], document=item["document"])


def _state_word(claim: Claim) -> str:
    if claim.refusal is not None:
        return "REFUSED"
    return "LOST" if claim.state is None else State(claim.state).value


def _moved(claim: Claim) -> bool:
    """Tell whether the hub may not know the claim's state yet."""
    return claim.said is None or claim.said.partition(" ")[0] != _state_word(claim)
