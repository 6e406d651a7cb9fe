"""What differs between SQLite and PostgreSQL, and nothing else.

SQLite's settings: WAL, so that readers never wait for the writer; ``synchronous=FULL``, so that a commit is on disk;
``BEGIN IMMEDIATE``, so that a write waits at its beginning instead of failing in its middle
(https://www.sqlite.org/lang_transaction.html, https://www.sqlite.org/pragma.html).

PostgreSQL's: READ COMMITTED with row locks, so that each statement sees what others committed before it; time limits
on locks and on transactions that stand still, so that a process that was paused holds up nobody for long; and
``synchronous_commit`` on where a site switched it off
(https://www.postgresql.org/docs/current/runtime-config-client.html). Nothing here needs its driver at import.
"""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from weft.errors import Bug, InvalidRequest, Unavailable, WeftError

#: How long a write waits for the write of another process.
BUSY_SECONDS = 10.0

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)

#: Primary result codes of SQLite, https://www.sqlite.org/rescode.html, in words for whoever reads the answer.
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_BUSY: "another process keeps the database locked",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_PERM: "the database file may not be used",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}

_REMEDIES = dict.fromkeys(
    (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
    "stop weft, keep a copy of the file, and restore the last backup: weft db restore BACKUP --force",
)

#: libpq's states of a connection between BEGIN and COMMIT: ACTIVE, INTRANS, INERROR.
_IN_TRANSACTION = (1, 2, 3)
_FAILED = 3
#: What the client library is told about a server that fell silent: noticed within half a minute.
#: https://www.postgresql.org/docs/current/libpq-connect.html
_KEEPALIVE: dict[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_PATIENCE = (
    f"SELECT set_config('lock_timeout', '{BUSY_SECONDS:g}s', false),"
    " set_config('idle_in_transaction_session_timeout', '30s', false),"
    " CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END"
)
#: Any number that nobody else uses: whoever holds this lock changes the schema.
_SCHEMA_LOCK = 0x77656674
#: The same for whoever is claiming jobs.
_CLAIM_LOCK = 0x77656675
#: Read connections of one process; a server has 100 for all its clients unless told otherwise.
_POSTGRESQL_READERS = 16

#: Deadlocks and lost races for a row, https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOST_RACES = frozenset({"40001", "40P01"})
_UNIQUE_VIOLATION = "23505"
#: Two processes may make a job for one key at once; the second then finds the first one's.
_RACED_FOR = "jobs_idempotency"
_NOT_A_TEXT = "22021"

#: Classes of DB-API 2.0 (PEP 249) for mistakes of the program that calls the driver.
_OURS = frozenset({"IntegrityError", "ProgrammingError", "DataError", "NotSupportedError"})


class Contended(Unavailable):
    """Another process was in the way: the same transaction again will do."""


def open_engine(address: str) -> Engine:
    """Return an engine whose connections commit each statement unless ``begin_statement`` was sent before.

    :raises ValueError: a database in memory, which other connections cannot see, or one of another make.
    :raises Unavailable: PostgreSQL's driver is not installed.
    """
    url = parsed(address)
    if url.get_backend_name() == "postgresql":
        return _open_postgresql(url)
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"weft keeps its jobs in SQLite or PostgreSQL, not in {url.get_backend_name()}")
    if database_file(url) is None:
        raise ValueError(f"the store needs a database file, not {address!r}")
    arguments = {"isolation_level": None, "check_same_thread": False, "cached_statements": 512}
    engine = create_engine(url, poolclass=NullPool, paramstyle="named", connect_args=arguments)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def parsed(address: str) -> URL:
    """Read a database's address; ``postgresql://`` without a driver means the one that weft uses.

    :raises ValueError: it is none.
    """
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise ValueError("the database's address is not a URL, such as postgresql://user@host/name") from error
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


def masked(address: str) -> str:
    """Return a database's address without its password, for people and logs."""
    return parsed(address).render_as_string(hide_password=True)


def _open_postgresql(url: URL) -> Engine:
    arguments = {name: value for name, value in _KEEPALIVE.items() if name not in url.query}
    try:
        return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"PostgreSQL needs a driver that is not installed: {error.name}", remedy="pip install 'weft[postgres]'"
        ) from error


def database_file(url: URL) -> Path | None:
    """Return the file of an SQLite URL; None for another database and for one in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).absolute()


def prepare_file(engine: Engine) -> None:
    """Make the folder and switch the file to WAL, which it then remembers.

    :raises Unavailable: the folder or the file cannot be made.
    """
    file = database_file(engine.url)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _switch_to_wal(file)
    except (OSError, sqlite3.Error) as error:
        raise translated(error) from error


def begin_statement(engine: Engine) -> str:
    """Return the statement that opens a transaction that will write."""
    return "BEGIN IMMEDIATE" if is_sqlite(engine) else "BEGIN ISOLATION LEVEL READ COMMITTED"


def snapshot_statement(engine: Engine) -> str:
    """Return the statement after which all reads see one state of the database, until COMMIT."""
    return "BEGIN" if is_sqlite(engine) else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def writer_statement(engine: Engine) -> str:
    """Return the statement that sets a writer's connection up.

    SQLite's ``begin_statement`` then fails at once when another process writes; PostgreSQL's locks end some time.
    """
    return "PRAGMA busy_timeout = 0" if is_sqlite(engine) else _PATIENCE


def turn_statement(engine: Engine) -> str | None:
    """Return the statement that waits until no other process claims; SQLite's transactions are one at a time anyway."""
    return None if is_sqlite(engine) else f"SELECT pg_advisory_xact_lock({_CLAIM_LOCK})"


def most_readers(engine: Engine) -> int | None:
    """Return how many read connections a process may have; None: as many as it likes."""
    return None if is_sqlite(engine) else _POSTGRESQL_READERS


def is_sqlite(engine: Engine) -> bool:
    """Tell which of the two it is."""
    return engine.dialect.name == "sqlite"


@contextmanager
def schema_change(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that may change the schema, and that keeps other changers waiting."""
    if is_sqlite(engine):
        with engine.begin() as connection:
            yield connection
        return
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
        yield connection


def read_only_statement(engine: Engine) -> str:
    """Return the statement that keeps a reader's connection from writing by mistake."""
    return "PRAGMA query_only = ON" if is_sqlite(engine) else "SET default_transaction_read_only = on"


def executor_of(driver: Any) -> Callable[..., Any]:
    """Return the driver's ``execute``; PostgreSQL then sends bytes as they are instead of in hexadecimal."""
    return driver.execute if isinstance(driver, sqlite3.Connection) else partial(driver.execute, binary=True)


def executor_of_many(driver: Any) -> Callable[..., Any]:
    """Return the driver's ``executemany``."""
    if isinstance(driver, sqlite3.Connection):
        return driver.executemany
    return lambda text, rows: driver.cursor(binary=True).executemany(text, rows)


def is_stale(driver: Any) -> bool:
    """Tell whether an idle connection is of no use any more: a server that went away said so, or hung up."""
    if isinstance(driver, sqlite3.Connection):
        return False
    if driver.closed:
        return True
    idle = select.poll()
    idle.register(driver.fileno(), select.POLLIN)
    return bool(idle.poll(0))


def is_busy(error: Exception) -> bool:
    """Tell whether SQLite refused because another process writes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def in_transaction(driver: Any) -> bool:
    """Tell whether the driver's connection is still inside the transaction that was begun.

    SQLite ends it by itself after a full disk and some other failures.
    """
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    return int(driver.pgconn.transaction_status) in _IN_TRANSACTION


def has_failed(driver: Any) -> bool:
    """Tell whether a PostgreSQL server has refused a statement of the open transaction."""
    return int(driver.pgconn.transaction_status) == _FAILED


def translated(error: Exception) -> WeftError:
    """Turn an error of the driver into one that says who must act.

    A statement that is wrong or a row that the schema refuses is a ``Bug``; a lost race is ``Contended``; a text that
    PostgreSQL cannot keep is the caller's; all else is ``Unavailable``.
    """
    code = getattr(error, "sqlite_errorcode", None)
    state = getattr(error, "sqlstate", None)
    names = {cls.__name__ for cls in type(error).__mro__}
    if state in _LOST_RACES or (state == _UNIQUE_VIOLATION and _constraint(error) == _RACED_FOR):
        return Contended(f"other processes change the same rows: {_words(error)}")
    if state == _NOT_A_TEXT or ("DataError" in names and "NUL" in str(error)):
        return InvalidRequest("a text of the request holds a NUL character, which the database cannot keep")
    if "PipelineAborted" in names:  # not the cause: the writer does the batch again, one statement after the other
        return Bug("an earlier statement failed")
    if names & _OURS or (code is not None and code & 0xFF == sqlite3.SQLITE_ERROR):
        return Bug(f"the database refused a statement of the store: {_words(error)}")
    if code is None:
        return Unavailable(f"the database cannot be used now: {_words(error)}")
    primary = code & 0xFF
    return Unavailable(
        f"the database cannot be used now: {_REASONS.get(primary, str(error))}", remedy=_REMEDIES.get(primary)
    )


def _words(error: Exception) -> str:
    """Return what the driver says, without the details of PostgreSQL, which quote the row."""
    return str(getattr(getattr(error, "diag", None), "message_primary", None) or error).strip()


def _constraint(error: Exception) -> str | None:
    name = getattr(getattr(error, "diag", None), "constraint_name", None)
    return None if name is None else str(name)


def _on_connect(driver: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        driver.execute(pragma)


def _on_begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _switch_to_wal(file: Path) -> None:
    """Set WAL once; SQLite does not wait here for another process that does the same, so this does."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS)
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
                continue
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError(f"{file} cannot be switched to WAL")
        time.sleep(0.01)
