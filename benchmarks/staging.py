"""What staging costs: 10 000 small files there and back, and one of 5 GB, from a real S3 server; memory and seconds.

``python -m benchmarks.staging`` runs it alone (it needs about 12 GB of disk for a minute); the S3 server is rclone's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing import Process
from pathlib import Path

import psutil

from benchmarks.report import Row, below, publish
from tests.live import LiveWeft

_MB = 10**6
_MEMORY_GOAL = 200


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes what is PUT and forgets it."""

    def do_PUT(self) -> None:
        """Read the body."""
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Peak:
    """Watches the resident memory of a process and its children while it is entered."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.idle = self._now()
        self.highest = self.idle

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def over_idle(self) -> float:
        """Megabytes."""
        return (self.highest - self.idle) / _MB

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.highest = max(self.highest, self._now())

    def _now(self) -> int:
        total = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total


def rows(folder: Path, *, files: int = 10_000, gigabytes: float = 5.0) -> list[Row]:
    """Measure in ``folder``."""
    bucket = folder / "s3" / "bench"
    (bucket / "small").mkdir(parents=True)
    for number in range(files):
        (bucket / "small" / f"{number:05}.txt").write_text(f"{number}\n" * 100)
    with (bucket / "large").open("wb") as stream:
        stream.truncate(int(gigabytes * 10**9))
    with _s3(folder / "s3") as endpoint, _sink() as sink:
        weft = _weft(folder / "data", endpoint, sink)
        try:
            small = _measured(weft, _many())
            assert len(list((bucket / "back").iterdir())) == files
            large = _measured(weft, _one(sink))
        finally:
            weft.stop()
    return [
        below(f"{files} files in and out by S3: memory over idle", small[0], "MB", _MEMORY_GOAL),
        below(f"{files} files in and out by S3: time", small[1], "s", files / 50),
        below(f"{gigabytes:g} GB in by S3, out by http: memory over idle", large[0], "MB", _MEMORY_GOAL),
        below(f"{gigabytes:g} GB in by S3, out by http: time", large[1], "s", gigabytes * 40),
    ]


def _many() -> dict[str, object]:
    return {
        "inputs": [{"url": "s3://bench/small", "path": "/data", "type": "DIRECTORY"}],
        "outputs": [{"url": "s3://bench/back", "path": "/data", "type": "DIRECTORY"}],
    }


def _one(sink: str) -> dict[str, object]:
    return {
        "inputs": [{"url": "s3://bench/large", "path": "/data/large"}],
        "outputs": [{"url": f"{sink}/large", "path": "/data/large"}],
    }


def _measured(weft: LiveWeft, document: dict[str, object]) -> tuple[float, float]:
    """Run a task that does nothing but stage; return megabytes over idle, and seconds."""
    assert weft.process is not None
    began = time.monotonic()
    with Peak(weft.process.pid) as peak:
        task_id = weft.create({"executors": [{"image": "busybox", "command": ["true"]}], **document})
        task = weft.wait(task_id, seconds=900)
    assert task["state"] == "COMPLETE", task["logs"]
    return peak.over_idle, time.monotonic() - began


def _weft(data: Path, endpoint: str, sink: str) -> LiveWeft:
    environment = {
        "WEFT_S3__ENDPOINT_URL": endpoint,
        "WEFT_S3__ACCESS_KEY_ID": "key",
        "WEFT_S3__SECRET_ACCESS_KEY": "secret",
        "WEFT_FETCH__ALLOW_HOSTS": f'["{sink.removeprefix("http://")}"]',
    }
    weft = LiveWeft(data, flags=("--executor", "process"), env=environment).start()
    warm = weft.create({"executors": [{"image": "busybox", "command": ["true"]}]})
    weft.wait(warm)
    return weft


@contextlib.contextmanager
def _s3(folder: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
    argv = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([*argv, "--config", "/dev/null", str(folder)], stdout=quiet, stderr=quiet)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def _sink() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    process = Process(target=server.serve_forever)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        process.terminate()
        process.join()
        server.server_close()


def main() -> None:
    """Run this benchmark alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        print(f"written to {publish(rows(Path(folder), files=chosen.files, gigabytes=chosen.gigabytes))}")


if __name__ == "__main__":
    main()
