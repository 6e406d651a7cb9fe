"""The bytes that are pasted are those that ``translate`` would have written."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from tes_service import answers, translate
from tests.builders import NOW, a_new_job, a_task
from weft.config import Settings
from weft.model import Input, Kind, StepResult, Tail
from weft.states import State
from weft.store.store import Filters, Store

VIEWS = ("MINIMAL", "BASIC", "FULL")
TASKS = {
    "plain": a_task(),
    "rich": a_task(name='a "name"', description="ü\n", tags={"k": "v"}, inputs=(Input(path="/in", url="s3://b/k"),)),
    "with content": a_task(inputs=(Input(path="/in", content="hello"), Input(path="/in2", url="s3://b/k"))),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Of each task one that waits and one that has ended."""
    store = Store(Settings(data=tmp_path_factory.mktemp("data")).database_url)
    store.start()
    for task in TASKS.values():
        ended = store.create(a_new_job(task=task)).id
        store.claim("w", [Kind.TASK], 1, now=NOW, until=NOW + 30)
        store.move(ended, [State.INITIALIZING], State.RUNNING, now=NOW + 1)
        store.move(
            ended,
            [State.RUNNING],
            State.EXECUTOR_ERROR,
            now=NOW + 2,
            steps=[StepResult(started_at=NOW, ended_at=NOW + 1.5, exit_code=3)],
            tails=[Tail(attempt=1, step=0, stdout="so far", stderr="")],
            message="exit code 3",
        )
        store.create(a_new_job(task=task))
    yield store
    store.stop()


def written(store: Store, job_id: str, view: str) -> bytes:
    """Write a view the slow way."""
    job = store.get(job_id)
    assert job is not None
    attempts = store.attempts([job_id])[job_id]
    if view == "MINIMAL":
        return orjson.dumps({"id": job.id, "state": job.state.value})
    if view == "BASIC":
        return orjson.dumps(translate.basic(job, attempts))
    return orjson.dumps(translate.full(job, attempts, store.tails(job_id), store.events(job_id)))


@pytest.mark.parametrize("view", VIEWS)
def test_each_task_is_what_translate_writes(store: Store, view: str) -> None:
    rows, _ = store.rows(Kind.TASK, Filters(), 100, None)
    assert len(rows) == 2 * len(TASKS)
    for row in rows:
        shown = answers.minimal(row.id, row.state) if view == "MINIMAL" else answers.one(store, row, view)
        assert shown == written(store, row.id, view)


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_is_its_tasks_and_leads_to_the_next_one(store: Store, view: str) -> None:
    ids = [row.id for row in store.rows(Kind.TASK, Filters(), 100, None)[0]]
    seen: list[bytes] = []
    token = None
    while True:
        page = orjson.loads(answers.page(store, Filters(), 4, token, view))
        seen += [orjson.dumps(task) for task in page["tasks"]]
        token = page.get("next_page_token")
        if token is None:
            break
    assert seen == [written(store, task_id, view) for task_id in ids]


def test_an_empty_page_is_an_empty_list(store: Store) -> None:
    assert answers.page(store, Filters(owner="nobody"), 4, None, "BASIC") == b'{"tasks":[]}'
