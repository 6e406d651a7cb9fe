"""The ceiling: a bare ASGI callable that does the SQLite work of a TES create, get and list, and nothing else.

No framework, no checks of who asks, no views, no errors; the rows, the indexes, ``synchronous=FULL`` and the group
commit are weft's, by the plain driver. ``python -m benchmarks.ceiling FOLDER`` serves it and prints its URL.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import uvicorn
import yaml
from jsonschema_rs import Draft4Validator

from weft.clock import new_id
from weft.config import Settings
from weft.http.api import spec_path
from weft.serving import keep_memory
from weft.store.store import Store

TASKS = "/ga4gh/tes/v1/tasks"
OWNER = "local|anonymous"
_JOB = """INSERT INTO jobs (id, kind, state, owner, name, has_content, attempt, max_attempts, priority, created_at,
not_before, document) VALUES (?, 'task', 'QUEUED', ?, ?, 0, 0, 1, 0, ?, 0, ?)"""
_TAG = "INSERT INTO tags (key, value, job_id) VALUES (?, ?, ?)"
_EVENT = "INSERT INTO events (job_id, seq, attempt, at, target) VALUES (?, 1, 0, ?, 'QUEUED')"
_GET = "SELECT state, document, created_at FROM jobs WHERE id = ? AND owner = ?"
_LIST = """SELECT id, state, document FROM jobs WHERE kind = 'task' AND owner = ? ORDER BY id DESC LIMIT ?"""


class Ceiling:
    """The callable; ``file`` is a database with weft's schema."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reader = self._connect()
        self.queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.valid = Draft4Validator(_task_schema())
        threading.Thread(target=self._write, daemon=True).start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _write(self) -> None:
        writer = self._connect()
        while True:
            batch = [self.queue.get()]
            while not self.queue.empty() and len(batch) < 256:
                batch.append(self.queue.get_nowait())
            writer.execute("BEGIN IMMEDIATE")
            for _loop, _done, task_id, now, document, body in batch:
                writer.execute(_JOB, (task_id, OWNER, document.get("name"), now, body))
                for key, value in document.get("tags", {}).items():
                    writer.execute(_TAG, (key, value, task_id))
                writer.execute(_EVENT, (task_id, now))
            writer.execute("COMMIT")
            batch[0][0].call_soon_threadsafe(_finish, [done for _loop, done, *_ in batch])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request that is known to be good."""
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            answer = await self._create((await receive())["body"])
        elif scope["path"] == TASKS:
            rows = self.reader.execute(_LIST, (OWNER, 100)).fetchall()
            answer = b'{"tasks":[%b]}' % b",".join([_shown(*row) for row in rows])
        else:
            task_id = scope["path"].rpartition("/")[2]
            state, document, _at = self.reader.execute(_GET, (task_id, OWNER)).fetchone()
            answer = _shown(task_id, state, document) if scope["query_string"] else _minimal(task_id, state)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _create(self, body: bytes) -> bytes:
        document = orjson.loads(body)
        assert self.valid.is_valid(document)
        loop = asyncio.get_running_loop()
        done, now = loop.create_future(), time.time()
        task_id = new_id(now)
        self.queue.put((loop, done, task_id, now, document, body))
        await done
        return b'{"id":"%b"}' % task_id.encode()


def _finish(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)


def _minimal(task_id: str, state: str) -> bytes:
    return f'{{"id":"{task_id}","state":"{state}"}}'.encode()


def _shown(task_id: str, state: str, document: bytes) -> bytes:
    return b'{"id":"%b","state":"%b",%b,"logs":[]}' % (task_id.encode(), state.encode(), document[1:-1])


def _task_schema() -> dict[str, Any]:
    spec = yaml.safe_load(spec_path("tes.yaml").read_text())
    return {"$ref": "#/components/schemas/tesTask", "components": spec["components"]}


def main(folder: Path) -> None:
    """Serve a new database below ``folder`` until the process is ended."""
    store = Store(Settings(data=folder).database_url)
    store.start()
    store.stop()
    (file,) = folder.glob("*.db")
    tcp = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{tcp.getsockname()[1]}", flush=True)
    keep_memory()
    config = uvicorn.Config(
        Ceiling(file),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[tcp])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
