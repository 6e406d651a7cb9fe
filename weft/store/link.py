"""Connections: statements are built by SQLAlchemy Core, compiled once, and sent straight to the driver.

Core's own execution costs 2 to 3 times the driver's CPU on these statements (measured), and every
request passes here. So each statement is a ``Prepared``: Core compiles it, for the dialect in use, on first use.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from sqlalchemy import Engine, Executable
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql import ClauseElement

from weft.errors import InvalidRequest
from weft.store import dialect

Values = tuple[Any, ...]

#: Idle read connections that are kept.
_KEPT = 16
#: Pause between looks whether another process has finished writing.
_TURN_SECONDS = 0.0005


class Prepared:
    """One statement and its text for each dialect that asked."""

    __slots__ = ("_statement", "_texts")

    def __init__(self, statement: Executable) -> None:
        """Keep ``statement``; its parameters are named ``bindparam``s."""
        self._statement = statement
        self._texts: dict[str, tuple[str, dict[str, Any]]] = {}

    def text(self, engine: Engine) -> tuple[str, dict[str, Any]]:
        """Return the driver's text and the parameters that are constant."""
        known = self._texts.get(engine.dialect.name)
        if known is None:
            assert isinstance(self._statement, ClauseElement)  # for the type checker
            compiled = self._statement.compile(dialect=engine.dialect)
            constants = {name: value for name, value in compiled.params.items() if value is not None}
            known = self._texts[engine.dialect.name] = (str(compiled), constants)
        return known


class Link:
    """One connection; used by one thread at a time."""

    __slots__ = ("_call", "_call_each", "_engine", "_errors", "_pipeline", "_pooled", "_spoilt", "driver")

    def __init__(self, engine: Engine) -> None:
        """Connect.

        :raises Unavailable: the database does not answer.
        """
        self._engine = engine
        driver: Any = engine.dialect.loaded_dbapi
        self._errors: type[Exception] = driver.Error
        try:
            self._pooled: PoolProxiedConnection = engine.raw_connection()
        except (self._errors, DBAPIError) as error:
            raise dialect.translated(_original(error)) from error
        #: The driver's own connection.
        self.driver: Any = self._pooled.dbapi_connection
        self._pipeline: Any = None
        self._spoilt = False
        self._call = dialect.executor_of(self.driver)
        self._call_each = dialect.executor_of_many(self.driver)

    def run(self, statement: Prepared, **params: Any) -> int:
        """Execute and return how many rows were changed."""
        cursor = self._execute(statement, params)
        if self._pipeline is not None:
            self._sync(self._pipeline)
        return int(cursor.rowcount)

    def put(self, statement: Prepared, **params: Any) -> None:
        """Execute what cannot but succeed: inside ``together``, a failure may be raised by a later call."""
        self._execute(statement, params)

    def put_all(self, statement: Prepared, rows: Sequence[dict[str, Any]]) -> None:
        """Execute once for each row, as ``put``; the rows hold all parameters of the statement."""
        if not rows:
            return
        try:
            self._call_each(statement.text(self._engine)[0], rows)
        except self._errors as error:
            raise dialect.translated(error) from error
        except UnicodeEncodeError as error:
            raise InvalidRequest("a text of the request is not Unicode") from error

    def all(self, statement: Prepared, **params: Any) -> list[Values]:
        """Return all rows."""
        return self._rows(statement, params)

    def one(self, statement: Prepared, **params: Any) -> Values | None:
        """Return the only row, or None."""
        rows = self._rows(statement, params)
        return rows[0] if rows else None

    def send(self, text: str) -> DBAPICursor:
        """Send a statement without parameters, such as COMMIT."""
        try:
            cursor: DBAPICursor = self.driver.execute(text)
        except self._errors as error:
            raise dialect.translated(error) from error
        return cursor

    def begin(self) -> None:
        """Open a transaction that will write, waiting for the write of another process.

        SQLite's own waiting sleeps up to 0.1 s between tries, so that a process that writes without a pause starves
        the others (measured: p99 82 ms); looking often gets a turn in one of the gaps.

        :raises Unavailable: another process kept the database locked for ``dialect.BUSY_SECONDS``.
        """
        statement = dialect.begin_statement(self._engine)
        deadline = time.monotonic() + dialect.BUSY_SECONDS
        while True:
            try:
                self.driver.execute(statement)
            except self._errors as error:
                if not dialect.is_busy(error) or time.monotonic() > deadline:
                    raise dialect.translated(error) from error
                time.sleep(_TURN_SECONDS)
            else:
                return

    def take_turn(self) -> None:
        """Wait until no other process claims jobs, and keep the others waiting until this transaction ends."""
        statement = dialect.turn_statement(self._engine)
        if statement is not None:
            self.send(statement)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send what is put without waiting for each answer; at the end, wait for all.

        Only a server is far enough away for that to pay; with SQLite nothing is different.
        """
        if not self.is_remote:
            yield
            return
        try:
            with self.driver.pipeline() as self._pipeline:
                yield
        except self._errors as error:
            raise dialect.translated(error) from error
        finally:
            self._pipeline = None
            self._spoilt = dialect.has_failed(self.driver)

    def _sync(self, pipeline: Any) -> None:
        try:
            pipeline.sync()
        except self._errors as error:
            raise dialect.translated(error) from error

    @property
    def in_transaction(self) -> bool:
        """Whether what was begun is still open."""
        return dialect.in_transaction(self.driver)

    @property
    def is_stale(self) -> bool:
        """Whether it is of no use any more: the server went away while it was idle, or a pipeline of it failed.

        After a failed pipeline psycopg (3.2, 3.3) takes statements for prepared that the server never came to.
        """
        return self._spoilt or dialect.is_stale(self.driver)

    @property
    def is_remote(self) -> bool:
        """Whether each statement is a journey to a server."""
        return not dialect.is_sqlite(self._engine)

    def close(self) -> None:
        """Close the connection, whatever its state."""
        with suppress(self._errors, DBAPIError):
            self._pooled.close()

    def _rows(self, statement: Prepared, params: dict[str, Any]) -> list[Values]:
        try:
            return cast(list[Values], self._execute(statement, params).fetchall())
        except self._errors as error:
            raise dialect.translated(error) from error

    def _execute(self, statement: Prepared, params: dict[str, Any]) -> DBAPICursor:
        text, constants = statement.text(self._engine)
        if constants:
            params.update(constants)
        try:
            cursor: DBAPICursor = self._call(text, params)
        except self._errors as error:
            raise dialect.translated(error) from error
        except UnicodeEncodeError as error:
            raise InvalidRequest("a text of the request is not Unicode") from error
        return cursor


def open_writer(engine: Engine) -> Link:
    """Return a connection for transactions; SQLite's waits for its turn in ``Link.begin`` alone."""
    link = Link(engine)
    link.send(dialect.writer_statement(engine))
    return link


class Readers:
    """Read connections: taken for one read and put back, as many as there are reads at once.

    With PostgreSQL there is a most, and a read that comes then waits for another one's end.
    """

    def __init__(self, engine: Engine) -> None:
        """Nothing is opened yet."""
        self._engine = engine
        self._idle: deque[Link] = deque()
        self._open = True
        most = dialect.most_readers(engine)
        self._gate = None if most is None else threading.BoundedSemaphore(most)

    def link(self) -> Loan:
        """Lend a connection for a ``with`` block; after an error it is closed instead of kept.

        :raises Unavailable: (at its beginning) the database does not answer.
        """
        return Loan(self)

    def take(self) -> Link:
        """Return a connection that nobody else uses; ``give_back`` it.

        :raises Unavailable: the database does not answer.
        """
        if self._gate is not None:
            self._gate.acquire()
        try:
            return self._idle_link() or self._new_link()
        except BaseException:
            self._leave()
            raise

    def give_back(self, link: Link, *, good: bool) -> None:
        """Keep a connection that was taken, or close it."""
        if good and self._open and len(self._idle) < _KEPT:
            self._idle.append(link)
        else:
            link.close()
        self._leave()

    def close(self) -> None:
        """Close the idle ones now and the lent ones when they come back."""
        self._open = False
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _idle_link(self) -> Link | None:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was first
                return None
            if not link.is_stale:
                return link
            link.close()
        return None

    def _new_link(self) -> Link:
        link = Link(self._engine)
        link.send(dialect.read_only_statement(self._engine))
        return link

    def _leave(self) -> None:
        if self._gate is not None:
            self._gate.release()


class Loan:
    """A read connection for the length of a ``with`` block."""

    __slots__ = ("_link", "_readers")

    def __init__(self, readers: Readers) -> None:
        """Take nothing yet."""
        self._readers = readers

    def __enter__(self) -> Link:
        self._link = self._readers.take()
        return self._link

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._readers.give_back(self._link, good=kind is None)


def _original(error: Exception) -> Exception:
    original = getattr(error, "orig", None)
    return original if isinstance(original, Exception) else error
