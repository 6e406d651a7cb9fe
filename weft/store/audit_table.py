"""The audit record's table: rows go in at the tail, and nothing ever changes or leaves. Who is who stands apart.

With SQLite it is a file of its own, with PostgreSQL a table beside the jobs (or a database of its own). Triggers
refuse what is not an append at the tail, ``INSERT OR REPLACE`` too, whoever asks; against those who may drop a trigger
there are the chain and its checkpoints (``weft.audit``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from weft.store import dialect
from weft.store.link import Link, Prepared, Readers, open_writer

metadata = MetaData()

_INTEGER = BigInteger().with_variant(Integer(), "sqlite")

# No constraint but the key may be UNIQUE: SQLite's INSERT OR REPLACE removes the other row without a trigger.
audit = Table(
    "audit",
    metadata,
    Column("seq", _INTEGER, primary_key=True, autoincrement=False),
    # Milliseconds since the epoch.
    Column("ts", _INTEGER, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("prev", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
#: The one table with personal data; a row may be erased, and the record then speaks of somebody unknown.
audit_actors = Table(
    "audit_actors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pseudonym", Text, nullable=False),
)

GENESIS = bytes(32)
_LOCK = 0x61756469
_SQLITE_TRIGGERS = (
    """CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit
       BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS audit_loses_nothing BEFORE DELETE ON audit
       BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS audit_grows_at_its_tail BEFORE INSERT ON audit
       WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
         OR NEW.prev IS NOT coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))
       BEGIN SELECT RAISE(ABORT, 'the audit record grows at its tail only'); END""",
)
_POSTGRESQL_TRIGGERS = (
    """CREATE OR REPLACE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'the audit record is append-only'; END $$""",
    """CREATE OR REPLACE FUNCTION audit_grows_at_its_tail() RETURNS trigger LANGUAGE plpgsql AS
       $$ DECLARE last record; BEGIN
         SELECT seq, hash INTO last FROM audit ORDER BY seq DESC LIMIT 1;
         IF NEW.seq <> coalesce(last.seq, 0) + 1
            OR NEW.prev <> coalesce(last.hash, decode(repeat('00', 32), 'hex')) THEN
           RAISE EXCEPTION 'the audit record grows at its tail only';
         END IF;
         RETURN NEW;
       END $$""",
    """CREATE OR REPLACE TRIGGER audit_keeps BEFORE UPDATE OR DELETE ON audit
       FOR EACH ROW EXECUTE FUNCTION audit_keeps()""",
    """CREATE OR REPLACE TRIGGER audit_keeps_all BEFORE TRUNCATE ON audit
       FOR EACH STATEMENT EXECUTE FUNCTION audit_keeps()""",
    """CREATE OR REPLACE TRIGGER audit_grows BEFORE INSERT ON audit
       FOR EACH ROW EXECUTE FUNCTION audit_grows_at_its_tail()""",
)

_COLUMNS = (audit.c.seq, audit.c.ts, audit.c.body, audit.c.prev, audit.c.hash)
_INSERT = Prepared(insert(audit))
_TAIL = Prepared(select(*_COLUMNS).order_by(audit.c.seq.desc()).limit(1))
_AFTER = Prepared(
    select(*_COLUMNS)
    .where(audit.c.seq > bindparam("after", type_=_INTEGER))
    .order_by(audit.c.seq)
    .limit(bindparam("most", type_=Integer))
)
_ONE = Prepared(select(*_COLUMNS).where(audit.c.seq == bindparam("seq", type_=_INTEGER)))
_ADD_ACTOR = Prepared(insert(audit_actors))
_PSEUDONYM = Prepared(select(audit_actors.c.pseudonym).where(audit_actors.c.name == bindparam("name")))
_NAMES = Prepared(select(audit_actors.c.pseudonym, audit_actors.c.name))
_FORGET = Prepared(delete(audit_actors).where(audit_actors.c.name == bindparam("name")))


class AuditRow(NamedTuple):
    """One entry as it is stored."""

    seq: int
    ts: int
    body: bytes
    prev: bytes
    hash: bytes


#: Makes the rows that follow the tail; is given the tail and what tells a person's pseudonym.
Extend = Callable[[AuditRow | None, Callable[[str], str]], Sequence[AuditRow]]


class AuditTable:
    """The table and its people. ``append`` and ``forget`` are for one thread; reads may come from any."""

    def __init__(self, url: str) -> None:
        """Assign; ``start`` opens.

        :raises ValueError: like ``Store``.
        """
        self._engine = dialect.open_engine(url)
        self._readers = Readers(self._engine)
        self._link: Link | None = None
        self._pseudonyms: dict[str, str] = {}

    def start(self) -> None:
        """Make the tables where they are missing.

        :raises Unavailable: the database cannot be opened or written.
        """
        dialect.prepare_file(self._engine)
        triggers = _SQLITE_TRIGGERS if dialect.is_sqlite(self._engine) else _POSTGRESQL_TRIGGERS
        try:
            with dialect.schema_change(self._engine) as connection:
                metadata.create_all(connection)
                for trigger in triggers:
                    connection.execute(text(trigger))
        except DBAPIError as error:
            original = error.orig
            raise dialect.translated(original if isinstance(original, Exception) else error) from error
        self._readers = Readers(self._engine)

    def stop(self) -> None:
        """Close all connections."""
        self._drop_link()
        self._readers.close()
        self._engine.dispose()

    def append(self, extend: Extend) -> AuditRow | None:
        """Write what ``extend`` makes in one transaction, and return the new tail once it is on disk.

        :raises Unavailable: nothing was written.
        """
        try:
            with self._transaction() as link:
                found = link.one(_TAIL)
                tail = None if found is None else AuditRow._make(found)
                for row in extend(tail, lambda name: self._pseudonym(link, name)):
                    link.put(_INSERT, **row._asdict())
                    tail = row
        except BaseException:
            self._pseudonyms.clear()  # some may have been undone
            self._drop_link()
            raise
        return tail

    def tail(self) -> AuditRow | None:
        """Return the last row."""
        with self._readers.link() as link:
            found = link.one(_TAIL)
        return None if found is None else AuditRow._make(found)

    def row(self, seq: int) -> AuditRow | None:
        """Return one row."""
        with self._readers.link() as link:
            found = link.one(_ONE, seq=seq)
        return None if found is None else AuditRow._make(found)

    def after(self, seq: int, most: int) -> list[AuditRow]:
        """Return at most ``most`` rows that follow ``seq``, oldest first."""
        with self._readers.link() as link:
            return [AuditRow._make(row) for row in link.all(_AFTER, after=seq, most=most)]

    def names(self) -> dict[str, str]:
        """Return whom each pseudonym stands for, of those that are not erased."""
        with self._readers.link() as link:
            return {str(pseudonym): str(name) for pseudonym, name in link.all(_NAMES)}

    def forget(self, name: str) -> bool:
        """Erase who stands behind a pseudonym; False when nobody of this name is known."""
        with self._transaction() as link:
            self._pseudonyms.pop(name, None)
            return link.run(_FORGET, name=name) == 1

    @contextmanager
    def _transaction(self) -> Iterator[Link]:
        """Open a transaction that has the tail for itself, and commit it."""
        if self._link is not None and self._link.is_stale:
            self._drop_link()
        link = self._link = self._link or open_writer(self._engine)
        link.begin()
        try:
            if link.is_remote:
                link.send(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield link
            link.send("COMMIT")
        except BaseException:
            self._drop_link()
            raise

    def _pseudonym(self, link: Link, name: str) -> str:
        known = self._pseudonyms.get(name)
        if known is None:
            found = link.one(_PSEUDONYM, name=name)
            if found is None:
                known = secrets.token_hex(8)
                link.put(_ADD_ACTOR, name=name, pseudonym=known)
            else:
                known = str(found[0])
            self._pseudonyms[name] = known
        return known

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
