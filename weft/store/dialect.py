"""What differs between SQLite and PostgreSQL, and nothing else.

SQLite is what weft is tested on. Its settings: WAL, so that readers never wait for the writer; ``synchronous=FULL``,
so that a commit is on disk; ``BEGIN IMMEDIATE``, so that a write waits at its beginning instead of failing in its
middle (https://www.sqlite.org/lang_transaction.html, https://www.sqlite.org/pragma.html).
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL, make_url

from weft.errors import Bug, Unavailable, WeftError

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

#: Classes of DB-API 2.0 (PEP 249) for mistakes of the program that calls the driver.
_OURS = frozenset({"IntegrityError", "ProgrammingError", "DataError", "NotSupportedError"})


def open_engine(address: str) -> Engine:
    """Return an engine whose connections commit each statement unless ``begin_statement`` was sent before.

    :raises ValueError: a database in memory, which other connections cannot see.
    """
    url = make_url(address)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    if database_file(url) is None:
        raise ValueError(f"the store needs a database file, not {address!r}")
    arguments = {"isolation_level": None, "check_same_thread": False, "cached_statements": 512}
    engine = create_engine(url, poolclass=NullPool, paramstyle="named", connect_args=arguments)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


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
    return "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"


def impatient_statement(engine: Engine) -> str:
    """Return the statement after which ``begin_statement`` fails at once when another process writes."""
    return "PRAGMA busy_timeout = 0" if engine.dialect.name == "sqlite" else "SELECT 1"


def read_only_statement(engine: Engine) -> str:
    """Return the statement that keeps a reader's connection from writing by mistake."""
    if engine.dialect.name == "sqlite":
        return "PRAGMA query_only = ON"
    return "SET default_transaction_read_only = on"


def is_busy(error: Exception) -> bool:
    """Tell whether SQLite refused because another process writes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def in_transaction(driver: Any) -> bool:
    """Tell whether the driver's connection is still inside the transaction that was begun.

    SQLite ends it by itself after a full disk and some other failures.
    """
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    return not getattr(driver, "closed", False)


def translated(error: Exception) -> WeftError:
    """Turn an error of the driver into one that says who must act.

    A statement that is wrong or a row that the schema refuses is a ``Bug``; all else is ``Unavailable``.
    """
    code = getattr(error, "sqlite_errorcode", None)
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & _OURS or (code is not None and code & 0xFF == sqlite3.SQLITE_ERROR):
        return Bug(f"the database refused a statement of the store: {error}")
    reason = str(error) if code is None else _REASONS.get(code & 0xFF, str(error))
    return Unavailable(f"the database cannot be used now: {reason}")


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
