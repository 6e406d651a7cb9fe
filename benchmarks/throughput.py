"""Many ``echo`` tasks on Docker beside the same containers made by bare calls, as many at once, in the same run."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import psutil
import requests

from benchmarks import wrk
from benchmarks.latency import bare_container
from benchmarks.report import Row, at_least, below
from tests.live import TERMINAL, LiveWeft

_AT_ONCE = (1, 4, 8)
_GOAL, _MILLISECONDS_A_TASK, _BUSY_GOAL = 0.9, 15, 0.5


def rows(folder: Path, docker_host: str, image: str, *, tasks: int = 24, rounds: int = 3) -> list[Row]:
    """Measure medians of ``rounds`` turns, weft and the bare calls after one another."""
    table = []
    for at_once in _AT_ONCE:
        flags = ("--executor", "docker", "--max-running", str(at_once))
        weft = LiveWeft(folder / f"at-once-{at_once}", flags=flags, env={"WEFT_DOCKER__HOST": docker_host})
        weft.start()
        try:
            table += _compared(weft, docker_host, image, at_once, tasks, rounds)
        finally:
            weft.stop()
    return [*table, _create_while_busy(folder, docker_host, image)]


def _compared(weft: LiveWeft, docker_host: str, image: str, at_once: int, tasks: int, rounds: int) -> list[Row]:
    assert weft.process is not None
    process = psutil.Process(weft.process.pid)
    _by_weft(weft, image, at_once)
    mine, limit, cpu = [], [], []
    for _ in range(rounds):
        before = process.cpu_times()
        mine.append(_by_weft(weft, image, tasks))
        after = process.cpu_times()
        cpu.append((after.user + after.system - before.user - before.system) / tasks * 1000)
        limit.append(_bare(docker_host, image, tasks, at_once))
    title = f"echo tasks on Docker, {at_once} at once"
    return [
        at_least(title, statistics.median(mine), statistics.median(limit), "/s", _GOAL),
        below(f"{title}, weft's processor time a task", statistics.median(cpu), "ms", _MILLISECONDS_A_TASK),
    ]


def _by_weft(weft: LiveWeft, image: str, tasks: int) -> float:
    """Return tasks a second, from the first create to the last end."""
    session = requests.Session()
    document = {"executors": [{"image": image, "command": ["echo", "hello"]}]}
    began = time.perf_counter()
    ids = [session.post(f"{weft.tes}/tasks", json=document, timeout=30).json()["id"] for _ in range(tasks)]
    for task_id in ids:  # the oldest first, so that few questions are asked
        while session.get(f"{weft.tes}/tasks/{task_id}", timeout=30).json()["state"] not in TERMINAL:
            time.sleep(0.02)
    return tasks / (time.perf_counter() - began)


def _bare(docker_host: str, image: str, tasks: int, at_once: int) -> float:
    with ThreadPoolExecutor(at_once) as pool:
        clients = [docker.DockerClient(base_url=docker_host) for _ in range(at_once)]
        began = time.perf_counter()
        list(pool.map(lambda number: bare_container(clients[number % at_once], image), range(tasks)))
        taken = time.perf_counter() - began
    for client in clients:
        client.close()
    return tasks / taken


def _create_while_busy(folder: Path, docker_host: str, image: str, seconds: int = 3) -> Row:
    """Compare creates of a server that runs 8 tasks with those of one that runs none."""
    load = wrk.Load("/tasks", wrk.task_document())
    rates = []
    for name, command, flags in (
        ("alone", "api", ()),
        ("busy", "serve", ("--executor", "docker", "--max-running", "8")),
    ):
        weft = LiveWeft(folder / name, command=command, flags=flags, env={"WEFT_DOCKER__HOST": docker_host})
        with wrk.on_cores(wrk.SERVER_CORE):
            weft.start()
        try:
            if command == "serve":
                _run_eight(weft, image)
            outcome = wrk.measure(weft.tes, load, connections=32, seconds=seconds)
            assert outcome.bad == 0, f"{outcome.bad} creates were refused"
            rates.append(outcome.rate)
        finally:
            weft.end()
    return at_least("create while 8 tasks run on Docker, 32 clients", rates[1], rates[0], "/s", _BUSY_GOAL)


def _run_eight(weft: LiveWeft, image: str) -> None:
    sleeper = {"executors": [{"image": image, "command": ["sleep", "60"]}]}
    for task_id in [weft.create(sleeper) for _ in range(8)]:
        weft.wait(task_id, until={"RUNNING"})
