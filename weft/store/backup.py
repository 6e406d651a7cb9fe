"""Back an SQLite database up into one file while it is used, and put such a file back in its place.

PostgreSQL has its own programs for both (``pg_dump``, ``pg_restore``), which do it better.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from weft.errors import Conflict, InvalidRequest, Unavailable
from weft.store import dialect
from weft.store.bell import listening
from weft.store.schema import HEAD

_ASIDE = ".before-restore"
_COMPANIONS = ("", "-wal", "-shm")


def back_up(database: Path, target: Path, *, replace: bool = False) -> None:
    """Write one state of ``database`` to ``target``, readable for its owner alone, on disk when this returns.

    :param database: the file of a database that others may be using.
    :raises Conflict: ``target`` exists, and shall not be replaced.
    :raises Unavailable: the database cannot be read or is damaged, or the target cannot be written.
    """
    _require(database)
    if target.exists() and not replace:
        raise Conflict(f"{target} exists", remedy="name another file, or say --force")
    with _explained(), _beside(target) as part:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)  # all pages in one step: one state, and writers need not wait for a reader
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        verify(part)
        _put(part, target)


def restore(database: Path, source: Path, *, replace: bool = False) -> Path | None:
    """Put a backup in the place of ``database``; return where the database that was there lies now, if any was.

    :raises Conflict: a server uses the database, or there is one that shall not be replaced.
    :raises InvalidRequest: ``source`` is damaged, or is no backup that this weft can use.
    :raises Unavailable: a file cannot be read or written.
    """
    if not source.is_file():
        raise InvalidRequest(f"there is no file {source}")
    if _has_more(source):
        raise InvalidRequest(f"{source} is a copy of a database in use, and {source}-wal is a part of it")
    if database.exists() and not replace:
        raise Conflict(f"{database} exists", remedy="say --force to put the backup in its place; it is kept beside it")
    _refuse_if_served(database)
    database.parent.mkdir(parents=True, exist_ok=True)
    with _explained(), _beside(database) as part:
        shutil.copyfile(source, part)
        try:
            verify(part)
        except Unavailable as error:
            raise InvalidRequest(f"{source} cannot be restored: {error.message}") from error
        _refuse_if_served(database)
        aside = _set_aside(database)
        _put(part, database)
    return aside


def verify(file: Path) -> None:
    """Read all of a database file that nobody writes to.

    :raises Unavailable: it is damaged, or of a newer weft; says so.
    """
    with _explained(), closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        said = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(3)")]
        if said != ["ok"]:
            raise Unavailable(f"the file is damaged: {'; '.join(said)}")
        if copy.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise Unavailable("the file is damaged: it has rows of no job")
        if copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            raise Unavailable("the file is a database, but not one of weft")
        (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision > HEAD:
            raise Unavailable(f"the file is of a newer weft: revision {revision}, and this one knows {HEAD}")


def _refuse_if_served(database: Path) -> None:
    servers = listening(database.parent / "wake")
    if servers:
        who = ", ".join(str(pid) for pid in servers)
        raise Conflict(f"weft is running on {database} (process {who})", remedy="stop it first")


def _require(database: Path) -> None:
    if not database.is_file():
        raise Unavailable(f"there is no database at {database}")


def _has_more(source: Path) -> bool:
    log = source.with_name(f"{source.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _set_aside(database: Path) -> Path | None:
    """Keep the old database under another name; it stays in its place too until the new one takes it."""
    if not database.exists():
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing it then removes its log
    aside = database.with_name(f"{database.name}{_ASIDE}")
    for suffix in _COMPANIONS:
        here, there = (path.with_name(f"{path.name}{suffix}") for path in (database, aside))
        there.unlink(missing_ok=True)
        if here.exists() and suffix:
            here.rename(there)
        elif here.exists():
            os.link(here, there)
    return aside


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make an empty file for its owner alone in the folder of ``target``; it is removed if it is still there."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
    finally:
        for suffix in (*_COMPANIONS, "-journal"):
            part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)


def _put(part: Path, target: Path) -> None:
    """Rename, with all on disk before and after."""
    _flush(part)
    part.replace(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise dialect.translated(error) from error
    except OSError as error:
        raise Unavailable(f"{error.filename or 'a file'}: {error.strerror}") from error
