"""Write the views of tasks as JSON: what the store keeps is pasted as the bytes it is, not parsed and written again.

``translate`` says what a view is; ``tests/unit/test_tes_answers.py`` holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from tes_service import translate
from weft.model import Attempt, JsonObject, Kind
from weft.store.store import Filters, Row, Store

#: What a BASIC list asks the store for besides the id.
_BASIC = ("state", "attempt", "has_content", "created_at", "document")


def one(store: Store, row: Row, view: str) -> bytes:
    """Return a task in the view BASIC or FULL."""
    if view == "FULL":
        return orjson.dumps(_full(store, [row])[0])
    attempts = store.attempts([row.id])[row.id] if row.attempt else ()
    return _basic(row.id, row.state, row.has_content, row.created_at, row.document, attempts)


def page(store: Store, filters: Filters, size: int, token: str | None, view: str) -> bytes:
    """Return ``tesListTasksResponse``.

    :raises InvalidRequest: a forged page token.
    """
    if view == "MINIMAL":
        states, next_token = store.columns(Kind.TASK, ("state",), filters, size, token)
        tasks = [minimal(task_id, state) for task_id, state in states]
    elif view == "BASIC":
        columns, next_token = store.columns(Kind.TASK, _BASIC, filters, size, token)
        tried = [task_id for task_id, _state, attempt, *_ in columns if attempt]
        attempts = store.attempts(tried) if tried else {}
        tasks = [
            _basic(task_id, state, has_content, created_at, document, attempts[task_id] if attempt else ())
            for task_id, state, attempt, has_content, created_at, document in columns
        ]
    else:
        rows, next_token = store.rows(Kind.TASK, filters, size, token)
        tasks = [orjson.dumps(document) for document in _full(store, rows)]
    after = b"]}" if next_token is None else b'],"next_page_token":"%b"}' % next_token.encode()
    return b'{"tasks":[%b%b' % (b",".join(tasks), after)


def minimal(task_id: str, state: str) -> bytes:
    """Return a task in the view MINIMAL."""
    return f'{{"id":"{task_id}","state":"{state}"}}'.encode()


def _basic(
    task_id: str, state: str, has_content: bool, created_at: float, document: bytes, attempts: Sequence[Attempt]
) -> bytes:
    if has_content:
        document = orjson.dumps(translate.without_content(orjson.loads(document)))
    logs = orjson.dumps(translate.basic_logs(attempts)) if attempts else b"[]"
    words = (task_id.encode(), state.encode(), document[1:-1], logs, translate.time_text(created_at).encode())
    return b'{"id":"%b","state":"%b",%b,"logs":%b,"creation_time":"%b"}' % words


def _full(store: Store, rows: Sequence[Row]) -> list[JsonObject]:
    ids = [row.id for row in rows]
    attempts, tails, events = store.attempts(ids), store.tails_of(ids), store.events_of(ids)
    return [translate.full(row.job, attempts[row.id], tails[row.id], events[row.id]) for row in rows]
