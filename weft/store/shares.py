"""Whose job is next: each owner's fair share of the slots, and the most that an owner may have running.

A free slot goes to the owner who has the fewest jobs of the kind running; equals take turns. Within one owner the
highest priority goes first, then the oldest. So nobody overtakes others by a priority, and whoever sends a thousand
jobs makes somebody else's one wait for a free slot and its turn, and no longer.

The owners who wait are found by steps through an index, from the one whose turn was last: a claim costs what it takes
and the owners who have something running, however many jobs are queued and owners wait.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import chain, count

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    ScalarSelect,
    Select,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
)

from weft.model import Kind
from weft.store.link import Link, Prepared
from weft.store.schema import LEASED, QUEUED, jobs, shares

#: Owners that are read at once.
_PAGE = 64
#: Jobs of one owner that are read at once; twice as many each time that they do not suffice.
_FEW = 8

_NOW = bindparam("now", type_=Double)
_OWNER = bindparam("of_owner", type_=Text)


def _of(kind: Kind) -> ColumnElement[bool]:
    return jobs.c.kind == literal_column(f"'{kind.value}'", Text)


def _queue(kind: Kind, owner: ColumnElement[str]) -> Select[tuple[str]]:
    """Return one owner's jobs that may start now, the next one first."""
    return (
        select(jobs.c.id)
        .where(QUEUED, _of(kind), jobs.c.owner == owner, jobs.c.not_before <= _NOW)
        .order_by(jobs.c.priority.desc(), jobs.c.id)
    )


def _owners(kind: Kind, *, up_to: bool) -> Select[tuple[str]]:
    """Return a page of owners with queued jobs, in the order of their names, after one name and up to another."""

    def next_after(owner: ColumnElement[str]) -> ScalarSelect[str]:
        conditions = [QUEUED, _of(kind), jobs.c.owner > owner]
        if up_to:
            conditions.append(jobs.c.owner <= bindparam("up_to", type_=Text))
        return select(func.min(jobs.c.owner)).where(*conditions).scalar_subquery()

    owners = select(next_after(bindparam("after", type_=Text)).label("owner")).cte("owners", recursive=True)
    owners = owners.union_all(select(next_after(owners.c.owner)).where(owners.c.owner.is_not(None)))
    return select(owners.c.owner).where(owners.c.owner.is_not(None)).limit(_PAGE)


_OWNERS_AFTER = {kind: Prepared(_owners(kind, up_to=False)) for kind in Kind}
_OWNERS_UP_TO = {kind: Prepared(_owners(kind, up_to=True)) for kind in Kind}
_QUEUE = {kind: Prepared(_queue(kind, _OWNER).limit(bindparam("most", type_=Integer))) for kind in Kind}
_part = jobs.alias("part")


def _is_no_whole() -> ColumnElement[bool]:
    """Leave out a job whose parts are of its own kind: it only waits for them, and they need its owner's share."""
    return ~exists().where(_part.c.parent == jobs.c.id, _part.c.parent.is_not(None), _part.c.kind == jobs.c.kind)


_RUNNING = {
    kind: Prepared(select(jobs.c.owner, func.count()).where(LEASED, _of(kind), _is_no_whole()).group_by(jobs.c.owner))
    for kind in Kind
}
_COUNT = {
    kind: Prepared(select(func.count()).select_from(jobs).where(QUEUED, _of(kind), jobs.c.owner == _OWNER))
    for kind in Kind
}
_COUNT_ALL = Prepared(select(func.count()).select_from(jobs).where(QUEUED))
_SHARES = Prepared(select(shares.c.owner, shares.c.running))
_FORGET = Prepared(delete(shares).where(shares.c.owner == _OWNER))
_REMEMBER = Prepared(insert(shares))


class Turns:
    """Remembers whose turn was last, for one claimer; a new one begins anywhere."""

    def __init__(self) -> None:
        """Begin with the first owner."""
        self._last: dict[Kind, str] = {}

    def choose(self, link: Link, kind: Kind, limit: int, *, now: float, running: int | None) -> list[str]:
        """Return the ids of at most ``limit`` queued jobs, in the order in which they shall start.

        One claimer at a time chooses, until its transaction ends.

        :param running: the most jobs of the kind that an owner may have running, where ``allow`` did not say otherwise.
        """
        link.take_turn()
        ring = _ring(link, kind, self._last.get(kind, ""))
        first = next(ring, None)
        if first is None:
            return []
        lines = _Lines(link, kind, now, chain([first], ring), running)
        chosen: list[str] = []
        while len(chosen) < limit and (found := lines.next()) is not None:
            self._last[kind], job_id = found
            chosen.append(job_id)
        return chosen


def _ring(link: Link, kind: Kind, last: str) -> Iterator[str]:
    """Give the owners with queued jobs, beginning after ``last``, who comes at the end."""
    after = last
    while page := link.all(_OWNERS_AFTER[kind], after=after):
        yield from (owner for (owner,) in page)
        after = page[-1][0]
        if len(page) < _PAGE:
            break
    after = ""
    while last and (page := link.all(_OWNERS_UP_TO[kind], after=after, up_to=last)):
        yield from (owner for (owner,) in page)
        after = page[-1][0]
        if len(page) < _PAGE:
            break


class _Lines:
    """The owners who wait, each with the queue of his jobs, looked at no further than needed."""

    def __init__(self, link: Link, kind: Kind, now: float, owners: Iterator[str], running: int | None) -> None:
        self._link = link
        self._kind = kind
        self._now = now
        self._owners = owners
        self._running = running
        self._have: dict[str, int] = dict(link.all(_RUNNING[kind]))
        self._most: dict[str, int | None] = dict(link.all(_SHARES))
        #: How many jobs an owner has running, his place in the ring, his queue.
        self._heap: list[tuple[int, int, _Line]] = []
        self._places = count()

    def next(self) -> tuple[str, str] | None:
        """Return who is next and his job; None when nobody is."""
        while True:
            self._look_for_somebody_with_nothing()
            if not self._heap:
                return None
            have, place, line = heapq.heappop(self._heap)
            most = self._most.get(line.owner, self._running)
            job_id = line.next(self._link, self._kind, self._now) if most is None or have < most else None
            if job_id is not None:
                heapq.heappush(self._heap, (have + 1, place, line))
                return line.owner, job_id

    def _look_for_somebody_with_nothing(self) -> None:
        """Go on through the ring until somebody has nothing running: nobody can have less."""
        while not self._heap or self._heap[0][0] > 0:
            owner = next(self._owners, None)
            if owner is None:
                return
            heapq.heappush(self._heap, (self._have.get(owner, 0), next(self._places), _Line(owner)))


class _Line:
    """The queued jobs of one owner, read as far as they were needed."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._jobs: deque[str] = deque()
        self._asked = 0
        self._read = 0

    def next(self, link: Link, kind: Kind, now: float) -> str | None:
        """Take the next job; None at the end."""
        if not self._jobs and self._read == self._asked:
            self._asked = 2 * self._asked or _FEW
            found = link.all(_QUEUE[kind], of_owner=self.owner, most=self._asked, now=now)
            self._jobs.extend(job_id for (job_id,) in found[self._read :])
            self._read = len(found)
        return self._jobs.popleft() if self._jobs else None


def queued(link: Link, owner: str | None) -> int:
    """Count the jobs that wait, of one owner or of all."""
    if owner is None:
        return int(link.all(_COUNT_ALL)[0][0])
    return sum(int(link.all(_COUNT[kind], of_owner=owner)[0][0]) for kind in Kind)


def allow(link: Link, owner: str, running: int | None) -> None:
    """Let an owner have so many jobs of a kind running at once (None: any number), whatever the workers' default."""
    link.run(_FORGET, of_owner=owner)
    link.put(_REMEMBER, owner=owner, running=running)


def allow_default(link: Link, owner: str) -> None:
    """Undo ``allow``."""
    link.run(_FORGET, of_owner=owner)
