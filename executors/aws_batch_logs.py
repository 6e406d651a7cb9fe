"""The logs of jobs on AWS Batch: live from CloudWatch, a few jobs a beat; whole from the outcome, once a job ended.

The step runner marks each line with the number of its stream (``1|`` or ``2|``), because CloudWatch has one stream a
container.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executors.aws_batch_client import AwsClient
from executors.aws_batch_shape import step_name
from weft.errors import WeftError
from weft.logs import get_logger
from weft.staging.handover import StepLog

log = get_logger(__name__)

_STREAMS = {"1|": "stdout", "2|": "stderr"}


@dataclass(slots=True)
class _Watched:
    """How far the logs of one job have been read."""

    folder: Path
    streams: Mapping[str, str]
    step: int = 0
    token: str | None = None
    lines: int = 0


@dataclass(kw_only=True)
class LiveLogs:
    """A thread that appends what running steps wrote to the files in their attempts' folders."""

    client: AwsClient
    group: str
    #: Jobs that are asked for in one beat.
    most: int
    beat_seconds: float
    most_bytes: int
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def watch(self, key: str, folder: Path, streams: Mapping[str, str]) -> None:
        """Follow the logs of a job that runs; called at every look at it."""
        with self._lock:
            if key in self._watched:
                self._watched[key].streams = streams
            else:
                self._watched[key] = _Watched(folder=folder, streams=streams)

    def drop(self, key: str) -> None:
        """Follow a job no more; when this returns, nothing is written to its files."""
        with self._lock:
            self._watched.pop(key, None)

    def start(self) -> None:
        """Begin; may be called twice."""
        if self._thread is not None or self.most == 0:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="weft-cloudwatch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.wait(self.beat_seconds):
            for key in self._next():
                try:
                    self._read(key)
                except WeftError as error:
                    log.warning("live logs", key=key, error=error.message)
                    break

    def _next(self) -> list[str]:
        """Choose who is read now, and move them to the end of the line."""
        with self._lock:
            chosen = list(self._watched)[: self.most]
            for key in chosen:
                self._watched[key] = self._watched.pop(key)
            return chosen

    def _read(self, key: str) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return
        stream = watched.streams.get(step_name(watched.step))
        if stream is None:
            return
        lines, token = self.client.log_lines(self.group, stream, watched.token)
        with self._lock:
            if key not in self._watched:  # it ended meanwhile, and its files are whole
                return
            self._append(watched, lines)
            watched.token = token
            if not lines and step_name(watched.step + 1) in watched.streams:
                watched.step, watched.token = watched.step + 1, None

    def _append(self, watched: _Watched, lines: Iterable[str]) -> None:
        texts: dict[str, list[str]] = {}
        for line in lines:
            texts.setdefault(_STREAMS.get(line[:2], "stderr"), []).append(line[2:] if line[:2] in _STREAMS else line)
        if texts:
            watched.folder.mkdir(parents=True, exist_ok=True)
        for stream, found in texts.items():
            path = watched.folder / f"{watched.step}.{stream}"
            if not path.exists() or path.stat().st_size < self.most_bytes:
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in found)


def keep(folder: Path, logs: Iterable[StepLog], fetch: Callable[[str], bytes | None]) -> None:
    """Write the whole logs over what was read live.

    :param fetch: returns the object of a log that was too long for the outcome.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for one in logs:
        content = one.text.encode() if one.stored_as is None else fetch(one.stored_as)
        part = folder / f".{one.step}.{one.stream}"
        part.write_bytes(content or b"")
        part.replace(folder / f"{one.step}.{one.stream}")
