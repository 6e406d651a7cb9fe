"""Bring a database to the newest schema. A database that is there already costs one query."""

from __future__ import annotations

import importlib
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from weft.errors import Unavailable
from weft.store import dialect
from weft.store.schema import HEAD

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Make or upgrade the tables, in one transaction that keeps other starters waiting.

    :raises Unavailable: the database cannot be written, or is of a newer weft than this one.
    """
    try:
        with dialect.schema_change(engine) as connection:
            if revision(connection) != HEAD:
                _run_alembic(connection)
    except DBAPIError as error:
        original = error.orig
        raise dialect.translated(original if isinstance(original, Exception) else error) from error


def migrate(address: str) -> tuple[str | None, str]:
    """Bring a database to the newest schema and return the revisions that it had (None: it was empty) and has.

    :raises Unavailable: like ``upgrade``.
    """
    engine = dialect.open_engine(address)
    dialect.prepare_file(engine)
    before = revision_of(engine)
    upgrade(engine)
    return before, HEAD


def revision_of(engine: Engine) -> str | None:
    """Return the revision that a database is at; None for an empty one.

    :raises Unavailable: it cannot be read.
    """
    try:
        with engine.connect() as connection:
            return revision(connection)
    except DBAPIError as error:
        original = error.orig
        raise dialect.translated(original if isinstance(original, Exception) else error) from error


def revision(connection: Connection) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def _run_alembic(connection: Connection) -> None:
    # Alembic costs 0.2 s to import and is needed once in a database's life, so it is loaded here and not at the top.
    command = importlib.import_module("alembic.command")
    config = importlib.import_module("alembic.config").Config()
    errors = importlib.import_module("alembic.util").CommandError
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except errors as error:
        raise Unavailable(f"the database cannot be brought to revision {HEAD}: {error}") from error
