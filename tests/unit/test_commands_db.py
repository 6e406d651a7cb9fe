"""``weft db``: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.builders import stored
from weft.cli import main
from weft.states import State
from weft.store.schema import HEAD
from weft.store.store import Store

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WEFT_DATA", "WEFT_DATABASE", "WEFT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def call(data: Path) -> Call:
    """Run ``weft db …`` on the test's installation."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(main, ["db", *arguments], env={"WEFT_DATA": str(data), **(env or {})})

    return run


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{data / 'weft.db'}")
    store.start()
    yield store
    store.stop()


def test_the_commands_stand_in_the_help() -> None:
    assert "Back up, restore, check and migrate" in CliRunner().invoke(main, ["--help"]).output
    shown = CliRunner().invoke(main, ["db", "--help"]).output
    assert all(name in shown for name in ("backup", "restore", "check", "migrate", "Exit codes"))


def test_a_check_of_a_sound_database_says_so(call: Call, store: Store) -> None:
    stored(store, State.COMPLETE)
    done = call("check")
    assert done.exit_code == 0
    assert [line[:6] for line in done.output.splitlines()] == ["[ok]  "] * 3
    assert "1 jobs, each with a legal history" in done.output


def test_a_check_of_a_broken_law_fails_and_names_the_job(call: Call, store: Store) -> None:
    job = stored(store, State.RUNNING)
    store.writer.run(lambda link: link.send("DELETE FROM events"))
    done = call("check")
    assert done.exit_code == 1
    assert f"[no]   law: job {job.id}" in done.output
    assert "report this" in done.output


def test_a_check_of_nothing_fails(call: Call, data: Path) -> None:
    done = call("check")
    assert done.exit_code == 1
    assert f"there is no database at {data}" in done.output
    assert not data.exists()


def test_a_flag_names_another_installation(call: Call, store: Store, data: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    assert call("check", env={"WEFT_DATA": elsewhere}).exit_code == 1
    assert call("check", "--data", str(data), env={"WEFT_DATA": elsewhere}).exit_code == 0
    address = f"sqlite:///{data / 'weft.db'}"
    assert call("check", "--database", address, "--data", elsewhere).exit_code == 0
    assert call("check", env={"WEFT_DATA": elsewhere, "WEFT_DATABASE": address}).exit_code == 0


def test_a_backup_is_made_while_the_server_runs_and_restored_when_it_does_not(
    call: Call, store: Store, data: Path, tmp_path: Path
) -> None:
    job = stored(store, State.COMPLETE)
    target = tmp_path / "weft.backup"
    done = call("backup", str(target))
    assert (done.exit_code, target.is_file()) == (0, True)
    assert str(target) in done.output
    running = call("restore", str(target), "--force")
    assert running.exit_code == 2
    assert "stop it first" in running.output
    store.stop()
    there = call("restore", str(target))
    assert there.exit_code == 2
    assert "--force" in there.output
    forced = call("restore", str(target), "--force")
    assert forced.exit_code == 0
    assert "before-restore" in forced.output
    store.start()
    assert store.get(job.id) == job


def test_a_backup_does_not_replace_a_file_without_force(call: Call, store: Store, tmp_path: Path) -> None:
    target = tmp_path / "weft.backup"
    target.touch()
    refused = call("backup", str(target))
    assert (refused.exit_code, target.stat().st_size) == (2, 0)
    assert call("backup", str(target), "--force").exit_code == 0
    assert target.stat().st_size > 0


def test_a_backup_that_is_damaged_is_not_restored(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "weft.backup"
    target.write_bytes(b"x" * 5000)
    done = call("restore", str(target))
    assert done.exit_code == 2
    assert "cannot be restored" in done.output


@pytest.mark.parametrize(("command", "program"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_postgresql_is_left_to_its_own_programs(call: Call, command: str, program: str) -> None:
    done = call(command, "weft.dump", "--database", "postgresql://weft:s3cret@db.example/weft")
    assert done.exit_code == 2
    assert program in done.output
    assert "weft.dump" in done.output
    assert "postgresql://weft:***@db.example/weft" in done.output
    assert "s3cret" not in done.output


def test_a_migration_says_what_it_did(call: Call, data: Path) -> None:
    assert call("migrate").output == f"made the schema, revision {HEAD}\n"
    assert call("migrate").output == f"the schema is revision {HEAD} already\n"
    assert (data / "weft.db").is_file()


def test_a_database_of_a_newer_weft_is_not_migrated(call: Call, store: Store) -> None:
    store.writer.run(lambda link: link.send("UPDATE alembic_version SET version_num = '9999'"))
    done = call("migrate")
    assert done.exit_code == 1
    assert "9999" in done.output


@pytest.mark.parametrize("address", ["weft.db", "mysql://localhost/weft", "sqlite://"])
def test_an_address_that_is_of_no_use_is_refused(call: Call, address: str) -> None:
    done = call("check", "--database", address)
    assert done.exit_code == 2
    assert done.output.startswith("weft: ")
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_a_setting_that_is_wrong_is_said(call: Call) -> None:
    done = call("check", env={"WEFT_PORT": "many"})
    assert done.exit_code == 2
    assert "port" in done.output


def test_a_server_that_does_not_answer_is_said(call: Call) -> None:
    done = call("check", "--database", "postgresql://weft@127.0.0.1:1/weft?connect_timeout=2")
    assert done.exit_code == 1
    assert "cannot be used now" in done.output
