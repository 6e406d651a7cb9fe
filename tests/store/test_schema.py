"""The schema: migrations give what the tables say, and impossible rows are refused."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.builders import stored
from weft.errors import Unavailable
from weft.states import State
from weft.store import dialect, upgrade
from weft.store.schema import HEAD, metadata
from weft.store.store import Store


def declared(file: Path) -> dict[str, str]:
    """Return the declarations in a database, spaces aside."""
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {name: " ".join(sorted(sql.replace(",", " ").split())) for name, sql in rows}


def test_the_migrations_give_what_the_tables_say(store: Store, tmp_path: Path) -> None:
    engine = dialect.open_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
    migrated = declared(tmp_path / "weft.db")
    del migrated["alembic_version"]
    assert migrated == declared(tmp_path / "other.db")


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(upgrade._MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_that_is_there_is_opened_without_alembic(url: str, store: Store) -> None:
    store.stop()
    program = (
        "import sys; from weft.store.store import Store; s = Store(sys.argv[1]); s.start(); s.stop();"
        " sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=60)


def test_starting_at_once_makes_one_schema(url: str) -> None:
    program = "import sys; from weft.store.store import Store; s = Store(sys.argv[1]); s.start(); s.stop()"
    starters = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]
    assert [starter.wait(60) for starter in starters] == [0, 0, 0, 0]


def test_a_database_of_a_newer_weft_is_refused(url: str, store: Store) -> None:
    store.writer.run(lambda link: link.send("UPDATE alembic_version SET version_num = '9999'"))
    store.stop()
    newer = Store(url)
    with pytest.raises(Unavailable, match="9999"):
        newer.start()
    newer.stop()


def test_the_database_is_safe_by_its_settings(store: Store) -> None:
    with store._engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_database_in_memory_is_refused() -> None:
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ValueError, match="database file"):
            Store(url)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'PAUSED'",
        "state = 'PREEMPTED'",
        "state = 'COMPLETE'",
        "state = 'QUEUED'",
        "ended_at = 1.0",
        "kind = 'other'",
        "lease_owner = NULL",
        "lease_owner = NULL, lease_until = NULL",
        "lease_until = NULL",
        "executor = 'docker'",
        "attempt = -1",
        "document = NULL",
    ],
)
def test_an_impossible_job_is_refused_by_the_schema(store: Store, tmp_path: Path, change: str) -> None:
    stored(store, State.RUNNING)
    connection = sqlite3.connect(tmp_path / "weft.db", isolation_level=None)
    try:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"UPDATE jobs SET {change}")
    finally:
        connection.close()
