"""Lists of many jobs against the same lists of few: a page should cost the page, whatever the filter."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.ceiling import OWNER
from benchmarks.report import Row, at_most, below
from benchmarks.wrk import task_document
from tes_service import answers
from weft.clock import new_id
from weft.config import Settings
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store

_STATES = ("COMPLETE",) * 90 + ("EXECUTOR_ERROR",) * 8 + ("CANCELED", "SYSTEM_ERROR")
_JOB = """INSERT INTO jobs (id, kind, state, owner, name, has_content, attempt, max_attempts, priority, created_at,
not_before, ended_at, document) VALUES (?, 'task', ?, ?, ?, 0, 0, 1, 0, ?, 0, ?, ?)"""
_TAG = "INSERT INTO tags (key, value, job_id) VALUES (?, ?, ?)"
_FILTERS: dict[str, Filters] = {
    "no filter": Filters(owner=OWNER),
    "a common state": Filters(owner=OWNER, state=State.COMPLETE),
    "a rare state": Filters(owner=OWNER, state=State.SYSTEM_ERROR),
    "a common tag": Filters(owner=OWNER, tags=(("lab", "north"),)),
    "a rare tag": Filters(owner=OWNER, tags=(("sample", "17"),)),
    "a name prefix": Filters(owner=OWNER, name_prefix="sample-17"),
    "state and tag": Filters(owner=OWNER, state=State.SYSTEM_ERROR, tags=(("lab", "north"),)),
    "state and name": Filters(owner=OWNER, state=State.COMPLETE, name_prefix="sample-17"),
    "tag and name": Filters(owner=OWNER, tags=(("lab", "north"),), name_prefix="sample-17"),
}


def rows(many: int = 1_000_000, few: int = 10_000) -> list[Row]:
    """Compare pages of 100 in both sizes; filling a million takes minutes and about 3 GB below the temporary folder."""
    with tempfile.TemporaryDirectory(prefix="weft-lists-") as folder:
        small, large = (_medians(Path(folder) / str(count), count) for count in (few, many))
    table = [at_most(f"{name}, {many} jobs against {few}", large[name], small[name], "ms", 2) for name in large]
    return [*table, below(f"the slowest list at {many} jobs", max(large.values()), "ms", 10)]


def _medians(folder: Path, count: int) -> Mapping[str, float]:
    folder.mkdir()
    store = Store(Settings(data=folder).database_url)
    store.start()
    try:
        (file,) = folder.glob("*.db")
        _fill(file, count)
        return {
            f"{name}, {view}, {place}": _median(store, filters, view, token)
            for name, filters in _FILTERS.items()
            for place, token in _places(store, filters, count).items()
            for view in ("MINIMAL", "BASIC")
        }
    finally:
        store.stop()


def _fill(file: Path, count: int) -> None:
    document = task_document(600)
    with sqlite3.connect(file) as writer:
        for number in range(count):
            at = 1_767_225_600.0 + number / 100
            job_id = new_id(at)
            name = f"sample-{number % 997}"
            writer.execute(_JOB, (job_id, _STATES[number % 100], OWNER, name, at, at + 9, document))
            writer.execute(_TAG, ("lab", "north" if number % 2 else "south", job_id))
            writer.execute(_TAG, ("sample", str(number % 997), job_id))
        writer.execute("ANALYZE")


def _places(store: Store, filters: Filters, count: int) -> dict[str, str | None]:
    """Return the tokens of the first page and of one far behind it."""
    token: str | None = None
    for _ in range(5):
        _, following = store.columns(Kind.TASK, ("state",), filters, max(100, count // 20), token)
        if following is None:
            break
        token = following
    return {"first page": None} if token is None else {"first page": None, "later page": token}


def _median(store: Store, filters: Filters, view: str, token: str | None) -> float:
    taken = []
    for _ in range(15):
        begin = time.perf_counter()
        answers.page(store, filters, 100, token, view)
        taken.append((time.perf_counter() - begin) * 1000)
    return statistics.median(taken)
