"""Claims at a node: what it took from its hub, which job of its own that became, and what the hub knows of it.

Operations for ``Store.read`` and ``Store.write``. A claim stays as long as weft may be asked about it again: a hub
that was restored from a backup offers anew what this site has done already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import BigInteger, Double, Text, bindparam, case, delete, func, insert, null, or_, select, update

from weft.states import DRIVEN, State
from weft.store.batches import batches, in_batch
from weft.store.link import Link, Prepared, Values
from weft.store.schema import claims, is_in, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What became of one assignment here."""

    #: The hub's: job id and attempt.
    key: str
    job_id: str | None
    #: Why this site did not take it, in words.
    refusal: str | None
    #: What the hub has confirmed; see ``weft.federation.reports``.
    said: str | None
    #: Number of the newest report.
    seq: int
    closed: bool
    #: Of the job here; None when it is gone or never was.
    state: State | None


_COLUMNS = (claims.c.key, claims.c.job_id, claims.c.refusal, claims.c.said, claims.c.seq, claims.c.closed_at)
_WITH_JOB = select(*_COLUMNS, jobs.c.state).select_from(claims.outerjoin(jobs, jobs.c.id == claims.c.job_id))
_ONE = Prepared(_WITH_JOB.where(claims.c.key == bindparam("key")))
_OPEN = Prepared(_WITH_JOB.where(claims.c.closed_at.is_(None)).order_by(claims.c.key))
_KEY = claims.c.key == bindparam("of_key", type_=Text)
_ADD = Prepared(insert(claims))
_SAID = Prepared(
    update(claims)
    .where(_KEY, claims.c.seq <= bindparam("new_seq", type_=BigInteger))
    .values(
        said=bindparam("new_said", type_=Text),
        seq=bindparam("new_seq", type_=BigInteger),
        closed_at=bindparam("new_closed_at", type_=Double),
    )
)
_CLOSE = Prepared(update(claims).where(_KEY).values(closed_at=bindparam("now", type_=Double)))
_REOPEN = Prepared(update(claims).where(_KEY).values(closed_at=null(), said=null()))
_LOAD = Prepared(
    select(
        func.coalesce(func.sum(case((jobs.c.state == "QUEUED", 1), else_=0)), 0),
        func.coalesce(func.sum(case((jobs.c.state == "QUEUED", 0), else_=1)), 0),
    ).where(is_in(jobs.c.state, DRIVEN | {State.QUEUED}))
)
_PRUNE = Prepared(
    delete(claims).where(
        claims.c.closed_at < bindparam("before", type_=Double),
        or_(claims.c.job_id.is_(None), claims.c.job_id.not_in(select(jobs.c.id))),
    )
)


def get(link: Link, key: str) -> Claim | None:
    """Return the claim of an assignment."""
    row = link.one(_ONE, key=key)
    return None if row is None else _claim(row)


def of_keys(link: Link, keys: Sequence[str]) -> tuple[Claim, ...]:
    """Return those of these keys that there are."""
    return tuple(_claim(row) for length, params in batches(keys) for row in link.all(_by_keys(length), **params))


def still_open(link: Link) -> tuple[Claim, ...]:
    """Return the claims of which the hub does not know the end."""
    return tuple(_claim(row) for row in link.all(_OPEN))


def add(link: Link, key: str, *, job_id: str | None = None, refusal: str | None = None) -> None:
    """Note what became of an assignment; what is known of this key already stays."""
    if get(link, key) is None:
        link.put(_ADD, key=key, job_id=job_id, refusal=refusal, said=None, seq=0, closed_at=None)


def said(link: Link, key: str, seq: int, words: str, *, closed_at: float | None) -> None:
    """Note what the hub has confirmed."""
    link.run(_SAID, of_key=key, new_seq=seq, new_said=words, new_closed_at=closed_at)


def close(link: Link, key: str, *, now: float) -> None:
    """Say nothing more of it."""
    link.run(_CLOSE, of_key=key, now=now)


def reopen(link: Link, key: str) -> None:
    """Say everything again: the hub has forgotten it."""
    link.run(_REOPEN, of_key=key)


def load(link: Link) -> tuple[int, int]:
    """Return how many jobs of this site wait, and how many run."""
    row = link.one(_LOAD)
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def prune(link: Link, before: float) -> None:
    """Forget the claims that were closed before a moment and whose jobs are gone."""
    link.run(_PRUNE, before=before)


@cache
def _by_keys(length: int) -> Prepared:
    return Prepared(_WITH_JOB.where(in_batch(claims.c.key, length)))


def _claim(row: Values) -> Claim:
    key, job_id, refusal, said, seq, closed_at, state = row
    return Claim(
        key=key,
        job_id=job_id,
        refusal=refusal,
        said=said,
        seq=int(seq),
        closed=closed_at is not None,
        state=None if state is None else State(state),
    )
