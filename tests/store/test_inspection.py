"""The inspection finds what breaks the law, and finds nothing where nothing does."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import NOW, stored
from tests.store.databases import only_sqlite
from weft.errors import Unavailable
from weft.model import Kind
from weft.states import STORED, State
from weft.store import inspection
from weft.store.inspection import broken_law, inspect
from weft.store.store import Store


def findings(url: str) -> list[str]:
    """Return what is not sound; the server of the tests itself is careless on purpose."""
    return [finding.text for finding in inspect(url) if not finding.sound and not finding.text.startswith("server:")]


def test_all_that_the_store_can_write_is_sound(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_BATCH", 3)
    for state in sorted(STORED):
        stored(store, state)
        stored(store, state, kind=Kind.RUN)
    tried = stored(store, State.RUNNING)
    store.move(tried.id, [State.RUNNING], State.QUEUED, now=NOW)
    store.claim("again", [Kind.TASK], 10, now=NOW, until=NOW + 30)
    store.take_over("other", 10, now=NOW + 99, until=NOW + 199)
    assert findings(url) == []
    assert f"law: {2 * len(STORED) + 1} jobs" in [finding.text for finding in inspect(url)][-1]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM events", "does not begin with QUEUED"),
        ("DELETE FROM events WHERE target = 'INITIALIZING'", "moved from INITIALIZING when it was QUEUED"),
        ("UPDATE events SET target = 'CANCELING' WHERE target = 'INITIALIZING'", "moved from QUEUED to CANCELING"),
        (
            "UPDATE jobs SET state = 'CANCELING' WHERE state = 'RUNNING'",
            "it is CANCELING, but its last event says RUNNING",
        ),
        ("DELETE FROM attempts", "counts 1 attempts and has 0"),
    ],
)
def test_a_history_that_is_not_legal_is_found(url: str, store: Store, statement: str, said: str) -> None:
    job = stored(store, State.RUNNING)
    stored(store, State.QUEUED, kind=Kind.RUN)
    store.writer.run(lambda link: link.send(statement))
    found = findings(url)
    assert f"job {job.id}" in found[0]
    assert said in found[0]


def test_an_end_without_a_terminal_state_is_found_though_the_schema_refuses_it() -> None:
    moves = [(None, "QUEUED"), ("QUEUED", "CANCELED")]
    assert broken_law("CANCELED", True, 0, moves, 0) is None
    assert "without an end time" in str(broken_law("CANCELED", False, 0, moves, 0))
    assert "with an end time" in str(broken_law("QUEUED", True, 0, moves[:1], 0))
    more = [*moves, ("CANCELED", "CANCELED")]
    assert "does not know" in str(broken_law("CANCELED", True, 0, more, 0))


def test_many_findings_are_cut_short(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_ENOUGH", 2)
    for _ in range(4):
        stored(store)
    store.writer.run(lambda link: link.send("DELETE FROM events"))
    assert len(findings(url)) == 2


def test_a_database_without_a_schema_or_with_another_one_is_said(
    url: str, empty_url: str, open_store: Callable[[], Store]
) -> None:
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).touch()
    assert findings(empty_url) == ["schema: the database has none"]
    store = open_store()
    for revision, said in (("0000", "not"), ("9999", "newer")):
        store.writer.run(lambda link, to=revision: link.send(f"UPDATE alembic_version SET version_num = '{to}'"))
        (found,) = findings(url)
        assert said in found


def test_a_check_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no database"):
        list(inspect(f"sqlite:///{tmp_path / 'weft.db'}"))
    assert list(tmp_path.iterdir()) == []


@only_sqlite
def test_rows_of_no_job_are_found(url: str, store: Store) -> None:
    stored(store)
    store.writer.run(lambda link: None)
    store.stop()
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("DELETE FROM jobs")
    connection.commit()
    connection.close()
    assert "rows of no job in events" in findings(url)[0]
