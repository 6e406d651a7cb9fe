"""A thousand running tasks with live logs: resident memory, and the time to take them all over after a death.

``python -m benchmarks.crowd FOLDER COUNT`` plays it in a process of its own, with a backend that only pretends, and
prints JSON: nothing but weft itself takes memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.report import Row, below
from tests.builders import a_new_job, a_step, a_task
from tests.crash.world import Death, Life, World
from weft.folders import Folders
from weft.model import Kind
from weft.store.store import Store

#: What each task has written: more than a tail holds.
_WRITTEN = b"one line of a log that goes on and on\n" * 400


def rows(count: int = 1000) -> list[Row]:
    """Play it once."""
    with tempfile.TemporaryDirectory(prefix="weft-crowd-") as folder:
        argv = [sys.executable, "-m", "benchmarks.crowd", folder, str(count)]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return [
        below(f"resident memory with {count} running tasks and live logs", found["megabytes"], "MB", 300),
        below(f"saving the live logs of {count} tasks, processor time", found["saving"], "s", 1),
        below(f"taking {count} running tasks over after a death", found["recovery"], "s", 5),
    ]


def _play(folder: Path, count: int) -> dict[str, float]:
    (folder / "files-data").mkdir()
    store = Store(f"sqlite:///{folder / 'data' / 'weft.db'}")
    store.start()
    world, life = World(folder / "data", store), Life()
    task = a_task(steps=(a_step(command=("sleep", "1000")),))
    ids = [store.create(a_new_job(task=task)).id for _ in range(count)]
    first = world.new_worker(life)
    first.slots = {Kind.TASK: count}
    world.turn(first, 2)
    for job_id in ids:
        logs = Folders(folder / "data").attempt(job_id, 1).logs
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "0.stdout").write_bytes(_WRITTEN)
    began = time.process_time()
    world.turn(first, 2)
    saving = time.process_time() - began
    assert all(store.tails_of(ids).values())
    megabytes = psutil.Process().memory_info().rss / 1e6
    life.dead = True
    with suppress(Death):
        first.turn()
    world.now += 31
    began = time.perf_counter()
    second = world.new_worker(Life())
    second.slots = {Kind.TASK: count}
    world.turn(second)
    recovery = time.perf_counter() - began
    assert sorted(second.held()) == sorted(ids)
    store.stop()
    return {"megabytes": megabytes, "saving": saving, "recovery": recovery}


if __name__ == "__main__":
    print(json.dumps(_play(Path(sys.argv[1]), int(sys.argv[2]))))
