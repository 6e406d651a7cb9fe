"""Open on the host what a step reads and writes: its stdin, the files of its output, its workdir."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import PurePosixPath
from typing import BinaryIO

from executors.docker_containers import Limits, covering, user
from executors.docker_files import NotAFile, make_folder_beneath, read_beneath, write_beneath
from executors.docker_logs import LogSink
from weft.folders import AttemptFolder
from weft.model import Submission

#: The numbers that the Engine gives them.
STREAMS = {1: "stdout", 2: "stderr"}


def make_workdir(work: Submission, index: int, limits: Limits) -> None:
    """Make a workdir that lies in a mount, so that it belongs to the steps' user; the Engine makes all others."""
    named = work.steps[index].workdir
    mount = None if named is None else covering(work.mounts, named)
    if named is None or mount is None or mount.read_only or not mount.source.is_dir():
        return
    with suppress(NotAFile):  # the Engine resolves links inside the container
        make_folder_beneath(mount.source, PurePosixPath(named).relative_to(mount.target), user(work, limits))


def open_stdin(work: Submission, named: str) -> BinaryIO | None:
    """Open the file ``named`` below a mount; None where no mount covers it.

    :raises NotAFile: it is a link, or reached through one.
    :raises OSError: it cannot be opened.
    """
    mount = covering(work.mounts, named)
    if mount is None:
        return None
    return os.fdopen(read_beneath(mount.source, PurePosixPath(named).relative_to(mount.target)), "rb")


def open_sinks(work: Submission, index: int, limits: Limits) -> dict[int, LogSink]:
    """Open the files that ``weft.folders.log_path`` names for a step, emptied.

    :raises OSError: one of them cannot be written.
    """
    sinks: dict[int, LogSink] = {}
    step = work.steps[index]
    try:
        for number, stream in STREAMS.items():
            if number == 2 and step.stdout is not None and step.stdout == step.stderr:
                sinks[2] = sinks[1]
            else:
                sinks[number] = _open_sink(work, index, stream, limits)
    except OSError:
        close(sinks)
        raise
    return sinks


def _open_sink(work: Submission, index: int, stream: str, limits: Limits) -> LogSink:
    named = getattr(work.steps[index], stream)
    mount = None if named is None else covering(work.mounts, named)
    if named is not None and mount is not None:
        relative = PurePosixPath(named).relative_to(mount.target)
        return LogSink(write_beneath(mount.source, relative, user(work, limits), append=True), None)
    logs = AttemptFolder(work.folder).logs
    logs.mkdir(parents=True, exist_ok=True)
    name = PurePosixPath(f"{index}.{stream}")
    return LogSink(write_beneath(logs, name, None, append=False), limits.max_log_bytes)


def close(sinks: dict[int, LogSink]) -> None:
    """Close all of them."""
    for sink in sinks.values():
        sink.close()
