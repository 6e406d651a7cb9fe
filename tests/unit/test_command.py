"""The one door to other processes."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from executors import command
from weft.errors import Unavailable


def test_a_program_gets_its_text_and_gives_its_words() -> None:
    done = command.run(["sh", "-c", "cat; echo oops >&2; exit 3"], timeout=10, text="gr\u00fcn")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "gr\u00fcn", "oops\n")


def test_arguments_are_not_read_by_a_shell() -> None:
    assert command.run(["echo", "$HOME; `id` *"], timeout=10).stdout == "$HOME; `id` *\n"


def test_the_environment_is_replaced_whole() -> None:
    assert command.run(["/usr/bin/env"], timeout=10, env={"ONLY": "this"}).stdout == "ONLY=this\n"


def test_output_that_is_not_text_is_kept_readable() -> None:
    assert command.run(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_a_program_that_does_not_end_is_killed_and_said() -> None:
    with pytest.raises(Unavailable, match=r"sleep did not end within 0\.1 s"):
        command.run(["sleep", "600"], timeout=0.1)


def test_a_program_that_is_not_there_is_said() -> None:
    with pytest.raises(Unavailable, match="no-such-program cannot be started"):
        command.run(["no-such-program"], timeout=10)


def test_a_failure_says_the_programs_own_words_when_asked() -> None:
    with pytest.raises(command.CommandFailed, match="ended with 4: no such partition"):
        command.run(["sh", "-c", "echo no such partition >&2; exit 4"], timeout=10, check=True)


def test_a_spawned_program_has_a_session_of_its_own_and_default_signals(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        pid = command.spawn(["/bin/cat"], env={}, stdin=reader, stderr=tmp_path / "log")
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        ignored = int(status["SigIgn"], 16)
    finally:
        os.close(reader)
        os.close(writer)
    assert int(stat[3]) == pid
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_spawned_program_inherits_no_other_descriptor(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pid = command.spawn(["/bin/cat"], env={}, stdin=reader, stderr=tmp_path / "log")
    os.close(reader)
    os.close(writer)  # cat ends only if it does not hold this end itself
    pidfd = os.pidfd_open(pid)
    ended = select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
    os.waitpid(pid, 0)
    assert ended


def test_a_spawned_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="/no/such/program cannot be started"):
        command.spawn(["/no/such/program"], env={}, stdin=0, stderr=tmp_path / "log")
