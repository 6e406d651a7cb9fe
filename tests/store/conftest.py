"""A store on a fresh database, and more stores on the same one; each test runs on SQLite and on PostgreSQL.

A test of what only one of the two has says so with ``only_sqlite`` or ``only_postgresql``.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.store.databases import DATABASES
from tests.testbeds import postgres
from weft.store.link import Prepared
from weft.store.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PrivateServer]:
    """One server for all tests of this process."""
    missing = postgres.missing_tools()
    if missing:
        pytest.skip(missing)
    with postgres.private_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.PrivateServer) -> str:
    """A database with the tables, which others are copied from."""
    name = postgres_server.create_database()
    store = Store(postgres_server.url(name))
    store.start()
    store.stop()
    return name


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database of this test alone."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'weft.db'}"
        return
    template = request.getfixturevalue("postgres_template")
    yield from _copy_of(template, request.getfixturevalue("postgres_server"))


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Like ``url``, without any tables."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    yield from _copy_of("template0", request.getfixturevalue("postgres_server"))


def _copy_of(template: str, server: postgres.PrivateServer) -> Iterator[str]:
    name = server.create_database(template)
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[[], Store]]:
    """Start one more store on the same database; all are stopped at the end."""
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
