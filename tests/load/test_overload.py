"""Overload: bounded memory, words and a time to come back where a limit is set, and no job lost.

Short in CI; ``make load`` asks for the numbers of the issue (``WEFT_LOAD=long``) and prints a table of what it saw.
Time itself is reported and not asserted: a busy machine is no fault of weft.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.builders import NOW, a_new_job, a_task
from tests.live import LiveWeft
from tests.load.crowd import Crowd, closed, closed_unread, raise_file_limit
from weft.model import Kind
from weft.states import State
from weft.store import jobs
from weft.store.link import Link
from weft.store.store import Store

LONG = os.environ.get("WEFT_LOAD") == "long"
QUEUED = 100_000 if LONG else 5_000
CREATES, SECONDS = (10_000, 60.0) if LONG else (500, 3.0)
CONNECTIONS = 5_000
CLIENTS = 8
#: Far more than what is needed (about 150 MB), far less than a leak of all that is sent.
MOST_MEMORY = 600 << 20
TASK = {"executors": [{"image": "busybox", "command": ["true"]}]}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., LiveWeft]]:
    """Start an API without a worker."""
    started: list[LiveWeft] = []

    def start(**limits: object) -> LiveWeft:
        env = {f"WEFT_LIMITS__{name.upper()}": str(value) for name, value in limits.items()}
        env |= {"WEFT_HEADER_SECONDS": "600", "WEFT_BODY_SECONDS": "600"}  # here ``stalled_seconds`` alone shall act
        server = LiveWeft(tmp_path / "data", env=env, command="api")
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.end()


def filled(data: Path, number: int, **changes: Any) -> None:
    """Put so many queued jobs into the database, a tenth of whoever asks without a login, the rest of many owners."""
    data.mkdir(parents=True, exist_ok=True)
    store = Store(f"sqlite:///{data / 'weft.db'}")
    store.start()

    def add(link: Link, first: int) -> None:
        owners = (f"local|user{index % 1000}" if index % 10 else "local|anonymous" for index in range(first, number))
        jobs.create_all(link, [a_new_job(owner=owner, **changes) for owner in islice(owners, 2000)])

    for first in range(0, number, 2000):
        store.writer.run(lambda link, first=first: add(link, first))
    store.stop()


def create(server: LiveWeft, name: str = "x", **more: Any) -> requests.Response:
    return requests.post(f"{server.tes}/tasks", json={"name": name, **TASK}, timeout=60, **more)


def refused(answer: requests.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert words in answer.json()["msg"]


@pytest.mark.timeout(900)
def test_creates_and_reads_go_on_beside_a_long_queue_and_a_crowd(
    serve: Callable[..., LiveWeft], tmp_path: Path
) -> None:
    missing = raise_file_limit(CONNECTIONS + 1000)
    if missing:
        pytest.skip(missing)
    filled(tmp_path / "data", QUEUED)
    server = serve(stalled_seconds=600)
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with Crowd(server.url) as crowd:
        crowd.idle(CONNECTIONS - 100)
        for _ in range(50):
            crowd.never_reads("/ga4gh/tes/v1/tasks?view=FULL&page_size=2048")
            crowd.half_a_body("/ga4gh/tes/v1/tasks")
        made, latencies, peak = send_creates(server, process)
        # The kernel may take a whole answer for a client that does not read it; uvicorn closes those after a while.
        assert len(process.net_connections("tcp")) >= CONNECTIONS - 50
    assert peak < MOST_MEMORY, f"{peak >> 20} MB, before {before >> 20} MB"
    server.kill()
    store = Store(f"sqlite:///{tmp_path / 'data' / 'weft.db'}")
    store.start()
    try:
        assert store.queued(None) == QUEUED + CREATES
        assert all((job := store.get(job_id)) is not None and job.state is State.QUEUED for job_id in made)
        began = time.perf_counter()
        claimed = store.claim("w", [Kind.TASK], 64, now=time.time(), until=time.time() + 30)
        milliseconds = (time.perf_counter() - began) * 1000
        assert len({job.owner for job in claimed}) == 64
    finally:
        store.stop()
    report(latencies, before, peak, milliseconds)


def send_creates(server: LiveWeft, process: psutil.Process) -> tuple[set[str], dict[str, list[float]], int]:
    """Create at an even rate from several clients, and read between; return ids, seconds by kind, the most memory."""
    made: list[str] = []
    latencies: dict[str, list[float]] = {"create": [], "get": [], "list": []}
    peaks: list[int] = []

    def work(client: int) -> None:
        with requests.Session() as session:
            for number in range(client, CREATES, CLIENTS):
                time.sleep(max(0.0, began + number * SECONDS / CREATES - time.perf_counter()))
                job_id = timed("create", session.post, f"{server.tes}/tasks", json=TASK).json()["id"]
                made.append(job_id)
                if number % 10 < CLIENTS and number % 3 == 0:
                    timed("get", session.get, f"{server.tes}/tasks/{job_id}")
                    timed("list", session.get, f"{server.tes}/tasks", params={"page_size": 100, "view": "BASIC"})
                    peaks.append(process.memory_info().rss)

    def timed(kind: str, ask: Callable[..., requests.Response], url: str, **more: Any) -> requests.Response:
        start = time.perf_counter()
        answer = ask(url, timeout=60, **more)
        latencies[kind].append(time.perf_counter() - start)
        assert answer.status_code == 200, answer.text
        return answer

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == CREATES
    return set(made), latencies, max(peaks)


def report(latencies: dict[str, list[float]], before: int, peak: int, claim: float) -> None:
    """Print what ``docs/load.md`` shows."""
    rows = [f"| {QUEUED} queued, {CONNECTIONS} connections | median | p99 | most |", "|---|---|---|---|"]
    for kind, seconds in latencies.items():
        cut = statistics.quantiles(seconds, n=100)
        rows.append(f"| {kind} | {cut[49] * 1000:.0f} ms | {cut[98] * 1000:.0f} ms | {max(seconds) * 1000:.0f} ms |")
    rows.append(f"memory: {before >> 20} MB before, {peak >> 20} MB at most; a claim of 64: {claim:.0f} ms")
    sys.stdout.write("\n".join(["", *rows, ""]))


def test_clients_that_stand_still_are_closed_and_slow_ones_are_served(
    serve: Callable[..., LiveWeft], tmp_path: Path
) -> None:
    filled(tmp_path / "data", 200, task=a_task(description="x" * 100_000), created_at=NOW)
    store = Store(f"sqlite:///{tmp_path / 'data' / 'weft.db'}")
    store.start()
    store.writer.run(lambda link: link.send("UPDATE jobs SET owner = 'local|anonymous'"))
    store.stop()
    server = serve(stalled_seconds=1)
    with Crowd(server.url) as crowd:
        body = b'{"executors": [{"image": "x", "command": ["true"]}]}'
        head = b"POST /ga4gh/tes/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        slow = crowd.slow(body, 0.1, head + b"content-length: %d\r\n\r\n" % len(body))
        silent = crowd.connect()
        half_a_head = crowd.connect()
        half_a_head.sendall(b"GET /healthz HTTP/1.1\r\nhost:")
        half_a_body = crowd.half_a_body("/ga4gh/tes/v1/tasks")
        never = crowd.never_reads("/ga4gh/tes/v1/tasks?view=BASIC&page_size=200")
        assert all(closed(one, 15) for one in (silent, half_a_head, half_a_body))
        assert closed_unread(never, 15)
        slow.join(30)
        assert slow.answer.startswith(b"HTTP/1.1 200 ")
        assert create(server).status_code == 200


def test_a_connection_too_many_is_told_so_and_the_next_one_is_served(serve: Callable[..., LiveWeft]) -> None:
    server = serve(connections=20)
    with Crowd(server.url) as crowd:
        crowd.idle(20)
        answer = crowd.connect().recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in answer
    deadline = time.monotonic() + 10
    while True:  # the server sees the ends of the others a moment later
        answered = create(server)
        if answered.status_code == 200 or time.monotonic() > deadline:
            break
    assert answered.status_code == 200


def test_a_request_too_many_at_once_is_told_so(serve: Callable[..., LiveWeft]) -> None:
    server = serve(at_once=3)
    with Crowd(server.url) as crowd:
        for _ in range(3):
            crowd.half_a_body("/ga4gh/tes/v1/tasks")
        deadline = time.monotonic() + 10
        while (answer := create(server)).status_code == 200 and time.monotonic() < deadline:
            pass
        refused(answer, 503, "requests in hand")
        assert requests.get(f"{server.url}/healthz", timeout=10).status_code == 200


def test_a_full_queue_refuses_in_words_and_takes_more_when_there_is_room(serve: Callable[..., LiveWeft]) -> None:
    server = serve(queued=5, queued_in_all=6)
    made = [create(server).json()["id"] for _ in range(5)]
    refused(create(server), 429, "5 jobs in the queue")
    run = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
    attached = [("workflow_attachment", ("Snakefile", b"rule all:\n"))]
    refused(requests.post(f"{server.wes}/runs", data=run, files=attached, timeout=30), 429, "5 jobs in the queue")
    assert list((server.data / "jobs").glob("*")) == []
    server.cancel(made[0])
    made.append(create(server).json()["id"])
    assert all(server.task(job_id)["id"] == job_id for job_id in made)


def test_too_many_requests_a_second_are_told_when_to_come_back(serve: Callable[..., LiveWeft]) -> None:
    server = serve(requests=0.5, burst=3)
    answers = [requests.get(f"{server.tes}/tasks", timeout=10) for _ in range(4)]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    refused(answers[3], 429, "requests a second")
    assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 200
