"""Limits: who sends too much is told so, in words and with the moment to come back; nobody else notices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import Clock
from weft.config import Settings
from weft.errors import TooMany, Unavailable
from weft.limits import Admission, Limits, Rates, site_limits
from weft.model import Principal

ALICE, BOB = (Principal(issuer="i", subject=name) for name in ("alice", "bob"))
ENGINE = Principal(issuer="i", subject="alice", run="r")


class Queue:
    """A store that notes what it is asked."""

    def __init__(self) -> None:
        self.counts: dict[str | None, int] = {}
        self.asked: list[str | None] = []
        self.told: list[tuple[str, Any]] = []

    def queued(self, owner: str | None) -> int:
        self.asked.append(owner)
        return self.counts.get(owner, 0)

    def allow(self, owner: str, running: int | None) -> None:
        self.told.append((owner, running))

    def allow_default(self, owner: str) -> None:
        self.told.append((owner, "default"))


def an_admission(queue: Queue, clock: Clock, **limits: Any) -> Admission:
    settings = Settings(limits=limits)
    return Admission(site_limits(settings), queue, settings, clock)


def test_requests_come_at_their_rate_after_the_first_burst() -> None:
    clock = Clock()
    rates = Rates(lambda _: Limits(requests=2.0, burst=3), clock)
    for _ in range(3):
        rates.admit(ALICE)
    with pytest.raises(TooMany, match="more than 2 requests a second") as caught:
        rates.admit(ALICE)
    assert caught.value.retry_after == 1
    rates.admit(BOB)
    rates.admit(ENGINE)
    clock.pass_(0.5)
    rates.admit(ALICE)
    with pytest.raises(TooMany):
        rates.admit(ALICE)
    clock.pass_(1000)
    for _ in range(3):
        rates.admit(ALICE)
    with pytest.raises(TooMany):
        rates.admit(ALICE)


def test_a_slow_rate_says_how_long_to_wait() -> None:
    rates = Rates(lambda _: Limits(requests=0.1, burst=1), Clock())
    rates.admit(ALICE)
    with pytest.raises(TooMany) as caught:
        rates.admit(ALICE)
    assert caught.value.retry_after == 10


def test_the_rates_of_many_principals_take_bounded_memory() -> None:
    rates = Rates(lambda _: Limits(requests=1.0, burst=1), Clock())
    for number in range(25_000):
        rates.admit(Principal(issuer="i", subject=str(number)))
    assert len(rates._buckets) <= 10_000


def test_a_queue_that_is_full_for_one_is_open_for_others_until_jobs_start() -> None:
    queue, clock = Queue(), Clock()
    admission = an_admission(queue, clock, queued=3)
    for count in range(3):
        admission.admit(ALICE)
        queue.counts[ALICE.name] = count + 1
    with pytest.raises(TooMany, match="3 jobs in the queue") as caught:
        admission.admit(ALICE)
    assert caught.value.retry_after > 1
    admission.admit(BOB)
    admission.admit(ENGINE)
    queue.counts[ALICE.name] = 2
    admission.admit(ALICE)


def test_the_whole_queue_has_a_limit_too() -> None:
    queue = Queue()
    admission = an_admission(queue, Clock(), queued_in_all=2)
    admission.admit(ALICE)
    admission.admit(BOB)
    queue.counts[None] = 2
    with pytest.raises(Unavailable, match="2 jobs wait") as caught:
        admission.admit(BOB)
    assert caught.value.retry_after > 1


def test_jobs_are_counted_when_the_limit_is_near_or_the_count_is_old_and_not_for_each_create() -> None:
    queue, clock = Queue(), Clock()
    admission = an_admission(queue, clock, queued=100)
    for _ in range(100):
        admission.admit(ALICE)
    assert queue.asked == [ALICE.name]
    admission.admit(ALICE)
    assert len(queue.asked) == 2
    clock.pass_(11)
    queue.counts[ALICE.name] = 100  # another process was busy
    with pytest.raises(TooMany):
        admission.admit(ALICE)


def test_workers_are_told_once_who_may_have_another_number_running() -> None:
    queue = Queue()
    settings = Settings(limits={"running": 5})
    given = {ALICE.name: Limits(running=9), BOB.name: Limits(running=5)}
    admission = Admission(lambda principal: given[principal.name], queue, settings, Clock())
    for principal in (ALICE, ALICE, BOB, BOB, ENGINE):
        admission.admit(principal)
    assert queue.told == [(ALICE.name, 9), (BOB.name, "default")]
    given[ALICE.name] = Limits(running=None)
    admission.admit(ALICE)
    assert queue.told[2:] == [(ALICE.name, None)]
