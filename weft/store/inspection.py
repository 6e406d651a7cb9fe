"""Look a database over: whether the file is sound, and whether what stands in it obeys the law.

Nothing is changed and nobody is held up: all is read from one state of the database while others go on writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Engine, Text, bindparam, func, select, text

from weft.errors import Unavailable, WeftError
from weft.states import TERMINAL, State, is_legal
from weft.store import dialect
from weft.store.link import Link, Prepared
from weft.store.schema import HEAD, attempts, events, jobs
from weft.store.upgrade import revision_of

#: Jobs that are looked at in one go, and findings after which the rest is not looked for.
_BATCH = 1000
_ENOUGH = 20

_INTEGRITY = Prepared(text(f"PRAGMA integrity_check({_ENOUGH})"))
_FOREIGN_KEYS = Prepared(text("PRAGMA foreign_key_check"))
_SETTINGS = Prepared(
    text("SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name")
)
_AFTER, _LAST = bindparam("after", type_=Text), bindparam("last", type_=Text)
_JOBS = Prepared(
    select(jobs.c.id, jobs.c.state, jobs.c.attempt, jobs.c.ended_at)
    .where(jobs.c.id > _AFTER)
    .order_by(jobs.c.id)
    .limit(_BATCH)
)
_MOVES = Prepared(
    select(events.c.job_id, events.c.source, events.c.target)
    .where(events.c.job_id > _AFTER, events.c.job_id <= _LAST, events.c.target.is_not(None))
    .order_by(events.c.job_id, events.c.seq)
)
_ATTEMPTS = Prepared(
    select(attempts.c.job_id, func.count())
    .where(attempts.c.job_id > _AFTER, attempts.c.job_id <= _LAST)
    .group_by(attempts.c.job_id)
)

_DAMAGED = "stop weft, keep a copy of the file, and restore the last backup: weft db restore BACKUP --force"
_UNLAWFUL = "report this: weft itself never writes such a job"

Move = tuple[str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One part of the answer; ``remedy`` says what to do where it is not sound."""

    sound: bool
    text: str
    remedy: str | None = None


def inspect(address: str) -> Iterator[Finding]:
    """Look at the schema, the structure and the law, and say of each what was found.

    :raises Unavailable: there is no database, or it does not answer.
    :raises ValueError: the address is none of a database that weft can use.
    """
    engine = dialect.open_engine(address)
    file = dialect.database_file(engine.url)
    if file is not None and not file.is_file():
        raise Unavailable(f"there is no database at {file}")
    for part in (_schema, _structure, _law):
        try:
            findings = list(part(engine))
        except WeftError as error:
            yield Finding(sound=False, text=error.message, remedy=error.remedy)
            return
        yield from findings
        if part is _schema and not all(finding.sound for finding in findings):
            return


def broken_law(state: str, ended: bool, attempt: int, moves: Sequence[Move], tries: int) -> str | None:
    """Say how a job's history breaks the law; None when it does not.

    :param moves: (source, target) of its events, in order.
    :param tries: how many attempts are recorded.
    """
    if not moves or moves[0] != (None, State.QUEUED.value):
        return "its history does not begin with QUEUED"
    for (_before, here), (source, target) in pairwise(moves):
        if source != here:
            return f"it moved from {source} when it was {here}"
        if not is_legal(State(here), State(target)):
            return f"it moved from {here} to {target}, which the law does not know"
    if moves[-1][1] != state:
        return f"it is {state}, but its last event says {moves[-1][1]}"
    if ended is not (State(state) in TERMINAL):
        return f"it is {state} {'with' if ended else 'without'} an end time"
    if tries != attempt:
        return f"it counts {attempt} attempts and has {tries}"
    return None


def _schema(engine: Engine) -> Iterator[Finding]:
    found = revision_of(engine)
    if found == HEAD:
        yield Finding(sound=True, text=f"schema: revision {HEAD}")
    elif found is None:
        yield Finding(sound=False, text="schema: the database has none", remedy="weft db migrate makes it")
    elif found < HEAD:
        yield Finding(sound=False, text=f"schema: revision {found}, not {HEAD}", remedy="weft db migrate upgrades it")
    else:
        yield Finding(sound=False, text=f"schema: revision {found} is of a newer weft", remedy="use that weft")


def _structure(engine: Engine) -> Iterator[Finding]:
    link = Link(engine)
    try:
        if dialect.is_sqlite(engine):
            yield from _pages(link)
        else:
            yield from _careless_settings(link)
    finally:
        link.close()


def _pages(link: Link) -> Iterator[Finding]:
    said = [str(row[0]) for row in link.all(_INTEGRITY)]
    if said != ["ok"]:
        lines = [line for part in said for line in part.splitlines()]
        for line in lines[:_ENOUGH]:
            yield Finding(sound=False, text=f"structure: {line}", remedy=_DAMAGED if line is lines[0] else None)
        return
    yield Finding(sound=True, text="structure: every page and every index is sound")
    orphans = link.all(_FOREIGN_KEYS)
    if orphans:
        tables = ", ".join(sorted({str(row[0]) for row in orphans}))
        yield Finding(sound=False, text=f"structure: {len(orphans)} rows of no job in {tables}", remedy=_DAMAGED)


def _careless_settings(link: Link) -> Iterator[Finding]:
    for (name,) in link.all(_SETTINGS):
        remedy = f"set {name} = on in postgresql.conf"
        yield Finding(sound=False, text=f"server: {name} is off, so a power cut loses jobs", remedy=remedy)


def _law(engine: Engine) -> Iterator[Finding]:
    link = Link(engine)
    try:
        link.send(dialect.snapshot_statement(engine))
        seen, broken = 0, 0
        for job_id, problem in _judged(link):
            seen += 1
            if problem is not None:
                broken += 1
                remedy = _UNLAWFUL if broken == 1 else None
                yield Finding(sound=False, text=f"law: job {job_id}: {problem}", remedy=remedy)
                if broken == _ENOUGH:
                    return
        if not broken:
            yield Finding(sound=True, text=f"law: {seen} jobs, each with a legal history")
    finally:
        link.close()


def _judged(link: Link) -> Iterator[tuple[str, str | None]]:
    after = ""
    while rows := link.all(_JOBS, after=after):
        last = rows[-1][0]
        moves: dict[str, list[Move]] = {row[0]: [] for row in rows}
        for job_id, source, target in link.all(_MOVES, after=after, last=last):
            moves[job_id].append((source, target))
        tries: dict[str, int] = dict(link.all(_ATTEMPTS, after=after, last=last))
        for job_id, state, attempt, ended_at in rows:
            yield job_id, broken_law(state, ended_at is not None, attempt, moves[job_id], tries.get(job_id, 0))
        after = last
