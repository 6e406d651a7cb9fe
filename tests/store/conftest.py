"""A store on a fresh file, and more stores on the same file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from weft.store.link import Prepared
from weft.store.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'weft.db'}"


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[[], Store]]:
    """Start one more store on the same file; all are stopped at the end."""
    with ExitStack() as stack:

        def open_one() -> Store:
            store = Store(url)
            store.start()
            stack.callback(store.stop)
            return store

        yield open_one


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def plan_of(store: Store) -> Callable[..., str]:
    """Return how SQLite goes about a statement, one step a line."""

    def plan(statement: Prepared, **params: object) -> str:
        text, constants = statement.text(store._engine)
        connection = store._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {text}", {**constants, **params})
            return "\n".join(row[3] for row in cursor.fetchall())
        finally:
            connection.close()

    return plan
