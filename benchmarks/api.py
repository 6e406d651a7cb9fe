"""The API alone: create, get and list beside a bare ASGI callable that does the same SQLite work in the same run.

``rows`` takes base URLs of any TES servers, so others can be measured beside weft with the same requests.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from benchmarks.report import Row, at_least, at_most
from benchmarks.wrk import SERVER_CORE, Load, Mixed, Outcome, measure, on_cores, task_document
from tests.live import LiveWeft

CEILING, WEFT = "bare ASGI", "weft"
_GOAL = 0.7


def loads(tes: str) -> dict[str, Load | Mixed]:
    """Return the requests, for a server that holds at least 100 tasks; makes those tasks first."""
    body = task_document()
    session = requests.Session()
    for _ in range(100):
        answer = session.post(f"{tes}/tasks", data=body, headers={"Content-Type": "application/json"}, timeout=30)
        answer.raise_for_status()
    task_id = answer.json()["id"]
    get, page, create = Load(f"/tasks/{task_id}"), Load("/tasks?view=BASIC&page_size=100"), Load("/tasks", body)
    return {"get": get, "list": page, "create": create, "mixed": Mixed((get,) * 14 + (create,) * 5 + (page,))}


@dataclass(frozen=True)
class Server:
    """A TES server: its base URL, such as ``http://127.0.0.1:8080/ga4gh/tes/v1``, and its process if it is ours."""

    tes: str
    pid: int | None = None


def figures(
    servers: Mapping[str, Server], *, rounds: int, seconds: int, connections: int
) -> dict[str, dict[str, Outcome]]:
    """Return what -> name of the server -> the median outcome of ``rounds``, the servers in turn."""
    kinds = {name: loads(server.tes) for name, server in servers.items()}
    medians: dict[str, dict[str, Outcome]] = {}
    for what in ("get", "list", "create", "mixed"):
        seen: dict[str, list[Outcome]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                load = kinds[name][what]
                outcome = measure(server.tes, load, connections=connections, seconds=seconds, pid=server.pid)
                seen[name].append(outcome)
        medians[what] = {name: _median(outcomes) for name, outcomes in seen.items()}
    return medians


def rows(
    servers: Mapping[str, Server], *, rounds: int = 5, seconds: int = 3, clients: Sequence[int] = (32,)
) -> list[Row]:
    """Compare every server with the ceiling, which is among them."""
    table = []
    for connections in clients:
        found = figures(servers, rounds=rounds, seconds=seconds, connections=connections)
        for what, outcomes in found.items():
            limit = outcomes[CEILING]
            for name, outcome in outcomes.items():
                assert outcome.bad == 0, f"{name} refused {outcome.bad} of {what}"
                if name != CEILING:
                    title = f"{name}: {what}, {connections} clients (p99 {outcome.p99:.1f} ms)"
                    table.append(at_least(title, outcome.rate, limit.rate, "/s", _GOAL))
                if name != CEILING and outcome.cpu:
                    title = f"{name}: {what}, {connections} clients, processor time a request"
                    table.append(at_most(title, outcome.cpu, limit.cpu, "µs", 1 / _GOAL))
    return table


@contextmanager
def both(folder: Path, others: Mapping[str, str]) -> Iterator[dict[str, Server]]:
    """Serve the ceiling and weft's API, each on the server's core; ``others`` are base URLs of TES by name."""
    weft = LiveWeft(folder / "weft", command="api")
    with on_cores(SERVER_CORE):
        argv = [sys.executable, "-m", "benchmarks.ceiling", str(folder / "bare")]
        (folder / "bare").mkdir()
        bare = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        with on_cores(SERVER_CORE):
            weft.start()
        assert bare.stdout is not None
        assert weft.process is not None
        url = bare.stdout.readline().strip()
        yield {CEILING: Server(f"{url}/ga4gh/tes/v1", bare.pid), WEFT: Server(weft.tes, weft.process.pid)} | {
            name: Server(tes.rstrip("/")) for name, tes in others.items()
        }
    finally:
        weft.stop()
        bare.terminate()
        bare.wait()


def _median(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        statistics.median(item.rate for item in outcomes),
        statistics.median(item.p99 for item in outcomes),
        sum(item.bad for item in outcomes),
        statistics.median(item.cpu for item in outcomes),
    )
