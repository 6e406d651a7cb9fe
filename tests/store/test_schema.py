"""The schema: migrations give what the tables say, and impossible rows are refused."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.builders import stored
from tests.store.databases import only_postgresql, only_sqlite
from weft.errors import Bug, Unavailable
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


@only_sqlite
def test_the_migrations_give_what_the_tables_say(store: Store, tmp_path: Path) -> None:
    engine = dialect.open_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
    migrated = declared(tmp_path / "weft.db")
    del migrated["alembic_version"]
    assert migrated == declared(tmp_path / "other.db")


@only_postgresql
def test_the_migrations_give_what_the_tables_say_on_a_server_too(store: Store, empty_url: str) -> None:
    checks = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' ORDER BY 1"
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename <> 'alembic_version' ORDER BY 1"
    declared_by_hand = dialect.open_engine(empty_url)
    with declared_by_hand.connect() as made, store._engine.connect() as migrated:
        metadata.create_all(made)
        assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
        for question in (checks, indexes):
            assert migrated.exec_driver_sql(question).all() == made.exec_driver_sql(question).all()


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


def test_starting_at_once_makes_one_schema(empty_url: str) -> None:
    program = "import sys; from weft.store.store import Store; s = Store(sys.argv[1]); s.start(); s.stop()"
    starters = [subprocess.Popen([sys.executable, "-c", program, empty_url]) for _ in range(4)]
    assert [starter.wait(60) for starter in starters] == [0, 0, 0, 0]


def test_a_database_of_a_newer_weft_is_refused(url: str, store: Store) -> None:
    store.writer.run(lambda link: link.send("UPDATE alembic_version SET version_num = '9999'"))
    store.stop()
    newer = Store(url)
    with pytest.raises(Unavailable, match="9999"):
        newer.start()
    newer.stop()


@only_sqlite
def test_the_database_is_safe_by_its_settings(store: Store) -> None:
    with store._engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@only_postgresql
def test_a_server_that_commits_carelessly_is_asked_to_take_care(
    url: str, store: Store, open_store: Callable[[], Store]
) -> None:
    name = url.rpartition("/")[2]

    def setting() -> str:
        value = open_store().writer.run(lambda link: link.driver.execute("SHOW synchronous_commit").fetchone()[0])
        return str(value)

    store.writer.run(lambda link: link.send(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    assert setting() == "on"
    store.writer.run(lambda link: link.send(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply"))
    assert setting() == "remote_apply"


def test_a_database_in_memory_is_refused() -> None:
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ValueError, match="database file"):
            Store(url)


def test_a_database_of_another_make_is_refused() -> None:
    for url in ("mysql://root@localhost/weft", "weft.db"):
        with pytest.raises(ValueError, match=r"SQLite or PostgreSQL|not a URL"):
            Store(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_address_of_postgresql_needs_no_driver_and_is_shown_without_its_password(scheme: str) -> None:
    address = f"{scheme}://weft:s3cret@db.example/weft"
    assert dialect.parsed(address).drivername == "postgresql+psycopg"
    assert dialect.masked(address) == "postgresql+psycopg://weft:***@db.example/weft"


def test_a_driver_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Unavailable) as caught:
        Store("postgresql://localhost/weft")
    assert "weft[postgres]" in str(caught.value.remedy)


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
def test_an_impossible_job_is_refused_by_the_schema(store: Store, change: str) -> None:
    before = stored(store, State.RUNNING)
    with pytest.raises(Bug, match=r"constraint|NULL"):
        store.writer.run(lambda link: link.send(f"UPDATE jobs SET {change}"))
    assert store.get(before.id) == before
