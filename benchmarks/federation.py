"""What a hub costs: one task more through it, a thousand tasks over three nodes, two hundred nodes that wait.

``python -m benchmarks.federation [--tasks 1000] [--rounds 15] [--seconds 60]``; each figure beside its limit, in one
run on one machine. All servers share that machine's cores, which a real hub and its nodes do not.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil
import requests

from benchmarks.report import Row, at_most, below, interleaved, publish
from tests.federation.conftest import Federation
from tests.live import LiveWeft
from weft.clock import system_clock
from weft.federation.line import Line
from weft.federation.proofs import NodeKey, thumbprint
from weft.store import nodes
from weft.store.nodes import Node, Standing
from weft.store.store import Store

TRUE = {"executors": [{"image": "busybox", "command": ["true"]}]}
_NODES = ("cz", "ee", "pt")
_IDLE = 200


def latency(federation: Federation, rounds: int) -> list[Row]:
    """From creation to end, as the server that took the task writes them down."""
    hub, site = federation.hub, federation.sites["cz"]
    named = TRUE | {"resources": {"backend_parameters": {"node": "cz"}}}
    for weft, task in ((hub, named), (site, TRUE)):
        weft.wait(weft.create(task))
    through, direct = interleaved(rounds, lambda: _life(hub, named), lambda: _life(site, TRUE))
    return [
        below("a task through hub and node, more than directly", 1000 * (through - direct), "ms", 50),
        at_most("a task through hub and node, against directly", 1000 * through, 1000 * direct, "ms", 3),
    ]


def throughput(federation: Federation, tasks: int) -> list[Row]:
    """Give each node its share directly, then all of it to the hub."""
    shares = [(federation.sites[name], TRUE, tasks // len(_NODES)) for name in _NODES]
    named = [TRUE | {"resources": {"backend_parameters": {"node": name}}} for name in _NODES]
    direct = _all_of(shares)
    through = _all_of([(federation.hub, task, tasks // len(_NODES)) for task in named])
    return [at_most(f"{tasks} tasks over three nodes, against each node's share directly", through, direct, "s", 1.2)]


def idle(federation: Federation, seconds: float) -> list[Row]:
    """Let two hundred more nodes wait at the hub, which has nothing for them."""
    hub = federation.hub
    assert hub.process is not None
    lines = _enrolled(hub, _IDLE)
    process = psutil.Process(hub.process.pid)
    threads, quiet = process.num_threads(), _processor(process, seconds)
    stop = threading.Event()
    waiting = [threading.Thread(target=_wait, args=(line, stop), daemon=True) for line in lines]
    for thread in waiting:
        thread.start()
    time.sleep(10)
    used = _processor(process, seconds)
    more = process.num_threads() - threads
    stop.set()
    return [
        below(f"processor time of {_IDLE} nodes that wait", 100 * (used - quiet), "% of a core", 2),
        below(f"threads of the hub for {_IDLE} nodes that wait", more, "threads", 20),
    ]


def _life(weft: LiveWeft, task: dict[str, object]) -> float:
    done = weft.wait(weft.create(task))
    assert done["state"] == "COMPLETE", done
    return _seconds(done["logs"][-1]["end_time"]) - _seconds(done["creation_time"])


def _all_of(shares: Sequence[tuple[LiveWeft, dict[str, object], int]]) -> float:
    """Return how long all tasks take, from the first create to the last end."""
    with ThreadPoolExecutor(2 * len(shares)) as pool:
        began = time.time()
        wanted = [(weft, pool.submit(_create, weft, task)) for weft, task, count in shares for _ in range(count)]
        ids = {weft.url: [] for weft, *_ in shares}
        for weft, made in wanted:
            ids[weft.url].append(made.result())
        for url, of_it in ids.items():
            while _open(url):
                time.sleep(0.1)
            assert of_it
    return time.time() - began


def _create(weft: LiveWeft, task: dict[str, object]) -> str:
    return weft.create(task)


def _open(url: str) -> int:
    states = ("QUEUED", "INITIALIZING", "RUNNING")
    address = f"{url}/ga4gh/tes/v1/tasks"
    return sum(
        len(requests.get(address, params={"state": state, "page_size": "1"}, timeout=60).json()["tasks"])
        for state in states
    )


def _enrolled(hub: LiveWeft, count: int) -> list[Line]:
    store, lines = Store(f"sqlite:///{hub.data / 'weft.db'}"), []
    store.start()
    now = time.time()
    for number in range(count):
        key, name = NodeKey.generate(), f"idle-{number}"
        node = Node(name=name, public_key=key.public, standing=Standing.SUSPENDED, joined_at=now, heard_at=now)
        store.write(partial(nodes.invite, token=name, name=name, now=now, expires_at=now + 600))
        store.write(partial(nodes.join, token=name, thumbprint=thumbprint(key.public), node=node))
        lines.append(Line(hub.url, name, key, clock=system_clock))
    store.stop()
    return lines


def _wait(line: Line, stop: threading.Event) -> None:
    while not stop.is_set():
        line.ask("claim", {"wait": 25, "load": {"queued": 0, "running": 0}}, wait=25)


def _processor(process: psutil.Process, seconds: float) -> float:
    """Return the share of a core that a process uses."""
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / seconds


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        federation = Federation(Path(folder))
        try:
            federation.hub.start()
            for name in _NODES:
                federation.join(name, env={"WEFT_MAX_RUNNING": "4"})
            rows = latency(federation, chosen.rounds)
            rows += throughput(federation, chosen.tasks)
            rows += idle(federation, chosen.seconds)
        finally:
            federation.end()
        print(f"written to {publish(rows)}")


if __name__ == "__main__":
    main()
