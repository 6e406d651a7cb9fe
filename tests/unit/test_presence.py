"""Presence: a process that died is known to be dead, one that stands still or ran elsewhere is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.presence import Presence

PROGRAM = """
import sys, time
from pathlib import Path
from weft.presence import Presence
one = Presence(Path(sys.argv[1]), "other")
one.enter()
print("here", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has entered as ``other``."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_worker_is_dead_once_and_a_living_one_is_not(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    mine = Presence(tmp_path, "mine")
    mine.enter()
    assert list(mine.dead()) == []
    other.send_signal(signal.SIGSTOP)
    assert list(mine.dead()) == []
    other.kill()
    other.wait()
    assert list(mine.dead()) == ["other"]
    assert list(mine.dead()) == []
    mine.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_is_named_again_until_somebody_has_dealt_with_it(
    tmp_path: Path, other: subprocess.Popen[bytes]
) -> None:
    other.kill()
    other.wait()
    for _ in range(2):
        assert next(Presence(tmp_path, "mine").dead()) == "other"


def test_a_worker_of_another_machine_or_of_an_earlier_boot_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("another boot id\n")
    mine = Presence(tmp_path, "mine")
    mine.enter()
    assert list(mine.dead()) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "mine"]
    mine.leave()


def test_a_worker_that_left_is_not_dead(tmp_path: Path) -> None:
    one, two = Presence(tmp_path, "one"), Presence(tmp_path, "two")
    one.enter()
    one.leave()
    one.leave()
    assert list(two.dead()) == []
