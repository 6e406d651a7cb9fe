"""A journal on a fresh record, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes import Clock
from tests.store.conftest import database, empty_url, postgres_server
from weft.audit.checkpoints import Sealer
from weft.audit.journal import Journal
from weft.store.audit_table import AuditTable

__all__ = ["database", "empty_url", "postgres_server"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def open_journal(empty_url: str, folder: Path) -> Iterator[Callable[[], Journal]]:
    """Start one more journal on the same record; all are stopped at the end."""
    with ExitStack() as stack:

        def open_one() -> Journal:
            journal = Journal(AuditTable(empty_url), Sealer(folder, "org.test"), node="org.test", clock=Clock())
            journal.start()
            stack.callback(journal.stop)
            return journal

        yield open_one
