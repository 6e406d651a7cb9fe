"""What ``weft serve`` costs when nothing happens: resident memory and processor time of its whole process tree."""

from __future__ import annotations

import time

import psutil

from benchmarks.report import Row, below
from tests.live import LiveWeft


def rows(weft: LiveWeft, seconds: float = 20.0) -> list[Row]:
    """Watch for ``seconds`` without sending anything."""
    assert weft.process is not None
    root = psutil.Process(weft.process.pid)
    before = _cpu(root)
    time.sleep(seconds)
    used = _cpu(root) - before
    resident = sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
    return [
        below("idle memory, resident", resident / 1e6, "MB", 150),
        below("idle processor time", 100 * used / seconds, "% of a core", 1),
    ]


def _cpu(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return float(sum(time.user + time.system for time in times))
