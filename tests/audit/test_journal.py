"""The record: durable, chained, and without a way to change it; and what verification finds when somebody did."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import orjson
import psycopg
import pytest

from tests.builders import NOW
from tests.store.databases import only_postgresql, only_sqlite
from weft.audit import checkpoints
from weft.audit.checkpoints import Sealer
from weft.audit.entry import Entry
from weft.audit.journal import Journal
from weft.audit.verify import Report, verify
from weft.errors import Unavailable
from weft.store.audit_table import AuditRow, AuditTable

Open = Callable[[], Journal]


def an_entry(number: int = 0) -> Entry:
    return Entry(at=NOW + number, action="task.create", actor="https://login.example.org|anna", job=f"job{number}")


def checked(table: AuditTable, folder: Path) -> Report:
    key = checkpoints.read_public_key(folder / "public.pem")
    return verify(table.after(0, 10_000), checkpoints.read(folder / "checkpoints.jsonl"), key)


def bodies(table: AuditTable) -> list[dict[str, object]]:
    return [orjson.loads(row.body) for row in table.after(0, 10_000)]


def test_what_is_written_verifies_and_goes_on_after_a_restart(open_journal: Open, folder: Path) -> None:
    first = open_journal()
    for number in range(5):
        first.append(an_entry(number))
    first.stop()
    second = open_journal()
    second.append(an_entry(5))
    report = checked(second.table, folder)
    assert (report.problems, report.entries) == ([], 8)  # two of them say that it was opened
    assert [body["job"] for body in bodies(second.table) if "job" in body] == [f"job{number}" for number in range(6)]
    second.stop()
    assert checked(second.table, folder).sealed == 8


def test_an_actor_is_a_pseudonym_and_can_be_forgotten(open_journal: Open) -> None:
    journal = open_journal()
    journal.append(an_entry(1))
    journal.append(an_entry(2))
    said = {str(body["actor"]) for body in bodies(journal.table) if "actor" in body}
    assert len(said) == 1
    assert b"anna" not in b"".join(row.body for row in journal.table.after(0, 100))
    assert journal.table.names() == {said.pop(): "https://login.example.org|anna"}
    other = open_journal()
    assert other.table.forget("https://login.example.org|anna")
    assert not other.table.forget("https://login.example.org|anna")
    assert journal.table.names() == {}


def test_writers_of_two_processes_make_one_chain(open_journal: Open, folder: Path) -> None:
    journals = [open_journal(), open_journal()]
    together = threading.Barrier(8)

    def write(journal: Journal, first: int) -> None:
        together.wait()
        for number in range(20):
            journal.append(an_entry(first + number))

    threads = [threading.Thread(target=write, args=(journals[n % 2], n * 100)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = checked(journals[0].table, folder)
    assert (report.problems, report.entries) == ([], 162)


def test_requests_at_once_share_a_transaction(open_journal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal()
    transactions = []
    append = journal.table.append
    first = threading.Event()

    def counted(extend: object) -> object:
        first.wait(10)
        transactions.append(1)
        return append(extend)  # type: ignore[arg-type]

    monkeypatch.setattr(journal.table, "append", counted)

    async def all_at_once() -> None:
        waiting = [asyncio.ensure_future(journal.append_soon(an_entry(number))) for number in range(100)]
        await asyncio.sleep(0)
        first.set()
        await asyncio.gather(*waiting)

    asyncio.run(all_at_once())
    assert len(transactions) <= 2
    assert len(bodies(journal.table)) == 101


def test_without_the_record_nobody_goes_on(open_journal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal()

    def full(extend: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(journal.table, "append", full)
    with pytest.raises(Unavailable, match="the disk is full"):
        journal.append(an_entry())
    with pytest.raises(Unavailable, match="the disk is full"):
        asyncio.run(journal.append_soon(an_entry()))
    monkeypatch.undo()
    journal.append(an_entry())
    journal.stop()
    with pytest.raises(Unavailable):
        journal.append(an_entry())


# -- who tries to change it --------------------------------------------------------------------------------------


@only_sqlite
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET body = x'7b7d' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT seq + 7, ts, body, prev, hash FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT 2, ts, body, prev, hash FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT 4, ts, body, zeroblob(32), hash FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT NULL, ts, body, prev, hash FROM audit WHERE seq = 1",
        "UPDATE OR REPLACE audit SET seq = 1 WHERE seq = 2",
    ],
)
def test_triggers_refuse_what_is_no_append(open_journal: Open, empty_url: str, statement: str) -> None:
    _three_entries(open_journal())
    connection = sqlite3.connect(empty_url.removeprefix("sqlite:///"))
    before = connection.execute("SELECT * FROM audit").fetchall()
    assert len(before) == 3
    with pytest.raises(sqlite3.IntegrityError, match="the audit record"):
        connection.execute(statement)
    assert connection.execute("SELECT * FROM audit").fetchall() == before
    connection.close()


@only_postgresql
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET ts = 0 WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "TRUNCATE audit",
        "INSERT INTO audit SELECT seq + 7, ts, body, prev, hash FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT 1, ts, body, prev, hash FROM audit WHERE seq = 1 "
        "ON CONFLICT (seq) DO UPDATE SET ts = 0",
    ],
)
def test_the_server_refuses_what_is_no_append(open_journal: Open, empty_url: str, statement: str) -> None:
    _three_entries(open_journal())
    address = empty_url.replace("postgresql+psycopg", "postgresql")
    with (
        psycopg.connect(address) as client,
        pytest.raises(psycopg.errors.RaiseException, match="the audit record"),
    ):
        client.execute(statement.encode())


def _three_entries(journal: Journal) -> None:
    journal.append(an_entry(1))
    journal.append(an_entry(2))
    journal.stop()


# -- who changed it all the same ---------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> tuple[list[AuditRow], Path]:
    """The rows of a record, and the folder of its checkpoints."""
    folder = tmp_path / "audit"
    table = AuditTable(f"sqlite:///{tmp_path / 'audit.db'}")
    journal = Journal(table, Sealer(folder, "org.test"), node="org.test", clock=lambda: NOW)
    journal.start()
    for number in range(9):
        journal.append(an_entry(number))
    journal.stop()
    return table.after(0, 100), folder


def found(rows: list[AuditRow], folder: Path) -> str:
    key = checkpoints.read_public_key(folder / "public.pem")
    return "\n".join(verify(rows, checkpoints.read(folder / "checkpoints.jsonl"), key).problems)


def rechained(rows: list[AuditRow]) -> list[AuditRow]:
    """Write the chain anew, as somebody would who may drop the triggers."""
    from weft.audit.chain import link_hash
    from weft.store.audit_table import GENESIS

    made: list[AuditRow] = []
    for row in rows:
        prev = made[-1].hash if made else GENESIS
        seq = len(made) + 1
        made.append(row._replace(seq=seq, prev=prev, hash=link_hash(seq, prev, row.body)))
    return made


def test_verification_names_every_kind_of_fraud(whole: tuple[list[AuditRow], Path]) -> None:
    rows, folder = whole
    forged = rows[4]._replace(body=rows[4].body.replace(b"allow", b"denied"))
    later = rows[4]._replace(ts=rows[4].ts + 1)
    assert found(rows, folder) == ""
    assert "edit: entry 5" in found([*rows[:4], forged, *rows[5:]], folder)
    assert "edit: entry 5" in found([*rows[:4], later, *rows[5:]], folder)
    assert "gap: entry 5 is missing" in found([*rows[:4], *rows[5:]], folder)
    assert "fork: entry 6" in found([*rows[:4], rechained([*rows[:4], forged])[4], *rows[5:]], folder)
    assert "truncation: entry 10 was sealed" in found(rows[:-1], folder)
    assert "truncation" in found([], folder)
    assert "fork: entry 10 is not the one that was sealed" in found(rechained([*rows[:4], forged, *rows[5:]]), folder)
    assert "truncation" in found(rechained([*rows[:4], *rows[5:]]), folder)


def test_checkpoints_cannot_be_forged_or_left_out(whole: tuple[list[AuditRow], Path], tmp_path: Path) -> None:
    rows, folder = whole
    file = folder / "checkpoints.jsonl"
    original = file.read_text()
    shorter = rechained(rows[:-1])
    file.write_text(original.replace(rows[-1].hash.hex(), shorter[-1].hash.hex()).replace('"seq":10', '"seq":9'))
    assert "its signature is not of this key" in found(shorter, folder)
    stranger = Sealer(tmp_path / "other", "org.test")
    stranger.seal(shorter[-1], NOW)
    file.write_text(stranger.file.read_text())
    assert "its signature is not of this key" in found(shorter, folder)
    file.unlink()
    assert "no checkpoint" in found(rows, folder)


def test_a_record_whose_end_is_gone_is_not_continued(whole: tuple[list[AuditRow], Path], tmp_path: Path) -> None:
    _, folder = whole
    connection = sqlite3.connect(tmp_path / "audit.db")
    connection.executescript("DROP TRIGGER audit_loses_nothing; DELETE FROM audit WHERE seq = 10;")
    connection.close()
    table = AuditTable(f"sqlite:///{tmp_path / 'audit.db'}")
    journal = Journal(table, Sealer(folder, "org.test"), node="org.test", clock=lambda: NOW)
    with pytest.raises(Unavailable, match="entry 10 of the audit record was sealed, and is gone"):
        journal.start()
    table.stop()


def test_only_its_owner_reads_the_key(whole: tuple[list[AuditRow], Path]) -> None:
    assert stat.S_IMODE((whole[1] / "key.pem").stat().st_mode) == 0o600
