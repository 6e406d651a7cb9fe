"""Migrations: each schema that ever was, with data in it, comes forward to the newest one with nothing lost.

``data/schema-REVISION.DATABASE.sql`` holds what one weft of that time wrote: a run and a task in every state, a task
with all that can be known of one, a retried one, one with an idempotency key, a token, a worker. A new migration
leaves these files as they are and adds its own two.
"""

import sqlite3
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.builders import NOW, a_new_job
from weft.model import Handle, Kind, Principal, StepResult, StoredOutput, Tail
from weft.states import STORED, State
from weft.store import upgrade
from weft.store.inspection import inspect
from weft.store.schema import HEAD
from weft.store.store import Filters, Store, WorkerInfo

DATA = Path(__file__).parent / "data"
REVISIONS = sorted({file.name.split(".")[0].removeprefix("schema-") for file in DATA.glob("schema-*.sql")})


@pytest.fixture(params=REVISIONS)
def old_url(request: pytest.FixtureRequest, database: str, empty_url: str) -> str:
    """A database as weft left it at an earlier revision."""
    dump = (DATA / f"schema-{request.param}.{database}.sql").read_text()
    if database == "sqlite":
        connection = sqlite3.connect(empty_url.removeprefix("sqlite:///"))
        connection.executescript(dump)
        connection.close()
    else:
        with psycopg.connect(empty_url) as client:
            client.execute(dump.encode())
    return empty_url


def test_every_revision_has_its_dumps() -> None:
    config = Config()
    config.set_main_option("script_location", str(upgrade._MIGRATIONS))
    assert sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions()) == REVISIONS


def test_an_old_database_comes_forward_with_all_that_is_in_it(old_url: str) -> None:
    store = Store(old_url)
    store.start()
    try:
        assert upgrade.revision_of(store._engine) == HEAD
        assert [
            finding.text for finding in inspect(old_url) if not finding.sound and "server:" not in finding.text
        ] == []
        (run,) = store.page(Kind.RUN, Filters(), 50, None).jobs
        for state in STORED:
            (job,) = store.page(Kind.TASK, Filters(state=state, parent=run.id), 50, None).jobs
            assert (job.name, job.tags) == (f"a task that is {state}", {"state": state.value, "é": ""})
            assert store.page(Kind.TASK, Filters(tags=(("é", ""), ("state", state.value))), 5, None).jobs == (job,)
        assert store.find_token("weft_old-token", now=NOW) == Principal(
            issuer="weft", subject="alice", roles=frozenset({"engine"}), run=run.id
        )
        assert store.workers(since=NOW) == (
            WorkerInfo(id="worker-1", heartbeat_at=NOW, capabilities={"executor": "docker"}),
        )
    finally:
        store.stop()


def test_what_is_known_of_an_old_job_is_kept(old_url: str) -> None:
    store = Store(old_url)
    store.start()
    try:
        jobs = store.page(Kind.TASK, Filters(), 50, None).jobs
        (job,) = (job for job in jobs if job.handle == Handle(executor="docker", native_id="c1"))
        assert job.state is State.COMPLETE
        assert job.document["inputs"][0]["content"] == "x"
        (attempt,) = store.attempts([job.id])[job.id]
        assert attempt.steps == (StepResult(started_at=NOW, ended_at=NOW + 2, exit_code=0),)
        assert attempt.outputs == (StoredOutput(url="file:///o", path="/o", size_bytes=7),)
        assert attempt.metadata == {"host": "h"}
        assert store.tails(job.id) == (Tail(attempt=1, step=0, stdout="out\0ü", stderr="it's"),)
        assert "staged 1 file" in [event.message for event in store.events(job.id)]
    finally:
        store.stop()


def test_an_old_database_goes_on_with_its_work(old_url: str) -> None:
    store = Store(old_url)
    store.start()
    try:
        driven = len(store.live_keys())
        assert driven > 3
        assert len(store.take_over("new", 100, now=NOW + 99, until=NOW + 199)) == driven
        claimed = store.claim("new", [Kind.TASK], 100, now=NOW + 99, until=NOW + 199)
        assert sorted(job.attempt for job in claimed) == [1, 1, 2]
        for job in claimed:
            assert store.move(job.id, [State.INITIALIZING], State.RUNNING, now=NOW + 100, lease_owner="new")
    finally:
        store.stop()


def test_a_database_is_migrated_on_demand_and_then_left_alone(old_url: str, empty_url: str) -> None:
    before, now = upgrade.migrate(old_url)
    assert (before in REVISIONS, now) == (True, HEAD)
    assert upgrade.migrate(old_url) == (HEAD, HEAD)


def test_limits_of_owners_are_kept(old_url: str) -> None:
    """Of a database that has them: carol may have 3 jobs running, dave any number."""
    store = Store(old_url)
    known = (upgrade.revision_of(store._engine) or "") >= "0002"
    store.start()
    try:
        for owner in ["carol"] * 5 + ["dave"] * 5:
            store.create(a_new_job(owner=owner))
        claimed = store.claim("w", [Kind.TASK], 100, now=NOW, until=NOW + 30, most_each=4)
        numbers = Counter(job.owner for job in claimed)
        assert (numbers["carol"], numbers["dave"]) == ((3, 5) if known else (4, 4))
    finally:
        store.stop()
