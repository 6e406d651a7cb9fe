"""Start programs: the one door to other processes. argv lists, never a shell; a time-out always."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weft.errors import Unavailable, WeftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program left: its exit code (negative: the signal that killed it) and its output as text."""

    exit_code: int
    stdout: str
    stderr: str


class CommandFailed(WeftError):
    """A program that weft needs ended with an error."""


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    text: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = False,
) -> Completed:
    """Run a program to its end, give it ``text`` on standard input, and return what it wrote.

    ``timeout`` is in seconds; after it the program is killed. ``env`` replaces the whole environment. Output that
    is not UTF-8 keeps its place with replacement characters.

    :raises Unavailable: the program is not there, may not be started, or did not end in time.
    :raises CommandFailed: with ``check``, when the exit code is not 0; says the program's own words.
    """
    try:
        done = subprocess.run(
            list(argv), input=text.encode(), capture_output=True, timeout=timeout, env=env, cwd=cwd, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{argv[0]} did not end within {timeout:g} s") from error
    except OSError as error:
        raise Unavailable(f"{argv[0]} cannot be started: {error.strerror}") from error
    completed = Completed(
        exit_code=done.returncode,
        stdout=done.stdout.decode(errors="replace"),
        stderr=done.stderr.decode(errors="replace"),
    )
    if check and completed.exit_code != 0:
        raise CommandFailed(f"{argv[0]} ended with {completed.exit_code}: {completed.stderr.strip()[-1000:]}")
    return completed


def spawn(argv: Sequence[str], *, env: Mapping[str, str], stdin: int, stderr: Path) -> int:
    """Start a program in a session of its own and return its process id at once; it outlives this process.

    ``argv[0]`` is an absolute path and ``stdin`` an open descriptor. Standard output goes nowhere; standard error
    is appended to a file. Whoever calls this reaps the child (``os.waitpid``).

    :raises Unavailable: the program cannot be started.
    """
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(stderr), log_flags, 0o600),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM),
        )
    except OSError as error:
        raise Unavailable(f"{argv[0]} cannot be started: {error.strerror}") from error
