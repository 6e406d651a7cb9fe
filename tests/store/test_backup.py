"""Backups: one file of one state while others write, and back in its place only when it is safe."""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import NOW, a_new_job, a_task, stored
from weft.errors import Conflict, InvalidRequest, Unavailable
from weft.model import Kind
from weft.states import State
from weft.store.backup import back_up, restore, verify
from weft.store.inspection import inspect
from weft.store.store import Filters, Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file of this test's database: PostgreSQL is backed up by its own programs."""
    return tmp_path / "weft.db"


def damage(file: Path, table: str = "jobs") -> None:
    """Overwrite a page in the middle of a table, as a bad disk does."""
    connection = sqlite3.connect(file)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with file.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xa5" * size)


def ids_in(file: Path) -> set[str]:
    store = Store(f"sqlite:///{file}")
    store.start()
    try:
        return {job.id for job in store.page(Kind.TASK, Filters(), 100_000, None).jobs}
    finally:
        store.stop()


def in_its_own_folder(file: Path, folder: Path) -> Path:
    folder.mkdir()
    return file.rename(folder / file.name)


@pytest.fixture
def url(database: Path) -> str:
    return f"sqlite:///{database}"


def test_a_backup_holds_all_and_is_one_private_file(store: Store, database: Path, tmp_path: Path) -> None:
    job = stored(store, State.COMPLETE, task=a_task(tags={"a": "b"}))
    events = store.events(job.id)
    target = tmp_path / "backups" / "one.db"
    target.parent.mkdir()
    back_up(database, target)
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    copy = Store(f"sqlite:///{target}")
    copy.start()
    assert (copy.get(job.id), copy.events(job.id)) == (job, events)
    copy.stop()


def test_a_backup_while_others_write_is_of_one_state_and_stops_nobody(
    store: Store, database: Path, tmp_path: Path
) -> None:
    written: list[str] = []
    enough, end = threading.Event(), threading.Event()

    def write() -> None:
        while not end.is_set():
            written.append(stored(store, State.COMPLETE, task=a_task(description="x" * 2000)).id)
            if len(written) == 50:
                enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(30)
    for number in range(3):
        before = list(written)
        target = tmp_path / f"{number}.db"
        back_up(database, target)
        assert all(finding.sound for finding in inspect(f"sqlite:///{target}"))
        found = ids_in(in_its_own_folder(target, tmp_path / f"of{number}"))
        assert set(before) <= found
    end.set()
    writer.join(30)
    assert len(written) > len(before)


def test_a_backup_replaces_a_file_only_when_told(store: Store, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    target.write_text("dear")
    with pytest.raises(Conflict):
        back_up(database, target)
    assert target.read_text() == "dear"
    back_up(database, target, replace=True)
    verify(target)


def test_a_damaged_database_is_not_backed_up_over_a_good_backup(store: Store, database: Path, tmp_path: Path) -> None:
    stored(store)
    target = tmp_path / "b.db"
    back_up(database, target)
    good = target.read_bytes()
    store.stop()
    damage(database)
    with pytest.raises(Unavailable, match="damaged") as caught:
        back_up(database, target, replace=True)
    assert target.read_bytes() == good
    assert list(tmp_path.glob(".*.part")) == []
    assert "restore" in str(caught.value.remedy)


def test_there_must_be_a_database_to_back_up(database: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no database"):
        back_up(database, tmp_path / "b.db")
    assert not database.exists()


def test_a_folder_that_cannot_be_written_is_said(store: Store, database: Path) -> None:
    with pytest.raises(Unavailable, match="/proc/"):
        back_up(database, Path("/proc/b.db"))


def test_a_damaged_page_is_found_and_the_backup_brings_everything_back(
    store: Store, database: Path, url: str, tmp_path: Path
) -> None:
    made = {stored(store, State.COMPLETE).id for _ in range(5)}
    back_up(database, tmp_path / "b.db")
    store.stop()
    damage(database)
    bad = [finding for finding in inspect(url) if not finding.sound]
    assert bad
    assert "weft db restore" in str(bad[0].remedy)
    aside = restore(database, tmp_path / "b.db", replace=True)
    assert all(finding.sound for finding in inspect(url))
    assert ids_in(database) == made
    assert aside is not None
    assert aside.is_file()


def test_a_reader_of_a_damaged_page_is_told_what_to_do(store: Store, database: Path, url: str) -> None:
    job = stored(store)
    store.stop()
    damage(database)
    store.start()
    with pytest.raises(Unavailable, match="the database file is damaged") as caught:
        store.get(job.id)
    assert "weft db restore" in str(caught.value.remedy)


def test_a_restore_needs_force_where_there_is_a_database(store: Store, database: Path, tmp_path: Path) -> None:
    old = store.create(a_new_job()).id
    back_up(database, tmp_path / "b.db")
    later = store.create(a_new_job()).id
    store.stop()
    with pytest.raises(Conflict):
        restore(database, tmp_path / "b.db")
    assert ids_in(database) == {old, later}
    aside = restore(database, tmp_path / "b.db", replace=True)
    assert ids_in(database) == {old}
    assert aside is not None
    assert ids_in(in_its_own_folder(aside, tmp_path / "aside")) == {old, later}


def test_what_a_killed_server_left_in_its_log_does_not_spoil_a_restore(
    store: Store, database: Path, tmp_path: Path
) -> None:
    """A log of another file beside the restored one would be applied to it."""
    old = store.create(a_new_job()).id
    back_up(database, tmp_path / "b.db")
    for _ in range(20):
        store.create(a_new_job())
    log = database.with_name("weft.db-wal").read_bytes()
    store.stop()
    database.with_name("weft.db-wal").write_bytes(log)
    damage_of_the_header(database)
    restore(database, tmp_path / "b.db", replace=True)
    assert ids_in(database) == {old}


def damage_of_the_header(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"not a database!!")


def test_nothing_is_restored_while_a_server_runs(store: Store, database: Path, tmp_path: Path) -> None:
    back_up(database, tmp_path / "b.db")
    job = store.create(a_new_job())
    with pytest.raises(Conflict, match=f"process {os.getpid()}"):
        restore(database, tmp_path / "b.db", replace=True)
    assert store.get(job.id) == job


def test_a_folder_with_a_long_name_is_seen_to_be_served(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    store = Store(f"sqlite:///{folder / 'weft.db'}")
    store.start()
    back_up(folder / "weft.db", tmp_path / "b.db")
    with pytest.raises(Conflict, match="running"):
        restore(folder / "weft.db", tmp_path / "b.db", replace=True)
    store.stop()
    restore(folder / "weft.db", tmp_path / "b.db", replace=True)


def test_a_restore_into_an_empty_folder_makes_it(store: Store, database: Path, tmp_path: Path) -> None:
    job = store.create(a_new_job())
    back_up(database, tmp_path / "b.db")
    assert restore(tmp_path / "new" / "weft.db", tmp_path / "b.db") is None
    assert ids_in(tmp_path / "new" / "weft.db") == {job.id}


def _garbage(backup: Path) -> None:
    backup.write_bytes(b"garbage" * 1000)


def _cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-5000])


def _newer(backup: Path) -> None:
    connection = sqlite3.connect(backup)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def _foreign(backup: Path) -> None:
    backup.unlink()
    connection = sqlite3.connect(backup)
    connection.execute("CREATE TABLE jobs (id)")
    connection.commit()
    connection.close()


def _orphaned(backup: Path) -> None:
    connection = sqlite3.connect(backup)
    connection.execute("DELETE FROM jobs")
    connection.commit()
    connection.close()


def _in_use(backup: Path) -> None:
    backup.with_name(f"{backup.name}-wal").write_bytes(b"more")


@pytest.mark.parametrize(
    "spoil",
    [_garbage, _cut, _newer, _foreign, _orphaned, _in_use, damage, Path.unlink],
    ids=lambda spoil: spoil.__name__,
)
def test_a_file_that_is_no_sound_backup_is_refused_and_nothing_changes(
    store: Store, database: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    job = stored(store, State.RUNNING)
    backup = tmp_path / "b.db"
    back_up(database, backup)
    store.stop()
    spoil(backup)
    with pytest.raises(InvalidRequest):
        restore(database, backup, replace=True)
    assert ids_in(database) == {job.id}


def test_a_restored_job_goes_on_where_the_backup_knew_it(store: Store, database: Path, tmp_path: Path) -> None:
    job = stored(store, State.RUNNING)
    back_up(database, tmp_path / "b.db")
    store.move(job.id, [State.RUNNING], State.COMPLETE, now=NOW)
    store.stop()
    restore(database, tmp_path / "b.db", replace=True)
    store.start()
    (taken,) = store.take_over("next", 5, now=NOW + 60, until=NOW + 90)
    assert (taken.id, taken.state, taken.attempt) == (job.id, State.RUNNING, 1)
