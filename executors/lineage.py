"""Know processes by what they descend from, and end them with all their children. Linux; standard library only."""

# ruff: noqa: PTH123, PTH208
from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38


def start_time(pid: int) -> int:
    """Return when ``pid`` was started, in clock ticks since boot (/proc/PID/stat, field 22).

    :raises OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def boot_id() -> str:
    """Return what tells this boot of the machine from all others."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)); what the kernel refuses is left as it is."""
    import ctypes  # 4 ms that a sandboxed step need not pay

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def kill_descendants(number: int, spare: int = 0) -> bool:
    """Send a signal to every process below this one, except the ``spare`` upper generations; tell if there were any."""
    found = False
    for depth, pid in descendants(os.getpid()):
        if depth > spare:
            found = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return found


def end_descendants() -> None:
    """Kill every process below this one and reap those that fall to it; for a subreaper."""
    while kill_descendants(signal.SIGKILL):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def descendants(root: int) -> Iterator[tuple[int, int]]:
    """Give (generation, pid) of every process below ``root``, parents first."""
    children: dict[int, list[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(pid)
    level, depth = children.get(root, []), 1
    while level:
        yield from ((depth, pid) for pid in level)
        level, depth = [child for pid in level for child in children.get(pid, [])], depth + 1
