"""Drive any HTTP server with ``wrk``, on a core of its own: requests a second, latency, refusals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SERVER_CORE, LOAD_CORE = {0}, {1}
_REPORT = """
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format("REPORT %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(99) / 1000, bad + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """One kind of request; a ``body`` makes it a POST of JSON."""

    path: str
    body: bytes | None = None

    def script(self) -> str:
        """Return the Lua that makes wrk send it."""
        if self.body is None:
            return _REPORT
        text = _in_brackets(self.body)
        return (
            f'wrk.method = "POST"\nwrk.body = [[{text}]]\nwrk.headers["Content-Type"] = "application/json"\n{_REPORT}'
        )


@dataclass(frozen=True)
class Mixed:
    """Several kinds of request in turn, as often as each is listed."""

    loads: tuple[Load, ...]

    #: To be put behind the base URL.
    path = ""

    def script(self) -> str:
        """Return the Lua that makes wrk send them."""
        requests = ",\n".join(_request(load) for load in self.loads)
        return f"""
local prefix, turn = "", 0
function init(args)
  prefix = wrk.path == "/" and "" or wrk.path
  kinds = {{ {requests} }}
end
function request()
  turn = turn % #kinds + 1
  local kind = kinds[turn]
  return wrk.format(kind.method, prefix .. kind.path, kind.headers, kind.body)
end
{_REPORT}"""


def _request(load: Load) -> str:
    if load.body is None:
        return f'{{ method = "GET", path = "{load.path}" }}'
    headers = '{ ["Content-Type"] = "application/json" }'
    return f'{{ method = "POST", path = "{load.path}", headers = {headers}, body = [[{_in_brackets(load.body)}]] }}'


def _in_brackets(body: bytes) -> str:
    return body.decode().replace("]]", "] ]")


@dataclass(frozen=True)
class Outcome:
    """Requests a second, the 99th percentile of the latency in ms, answers that were no success.

    ``cpu`` is the server's processor time in microseconds a request, where its process is known.
    """

    rate: float
    p99: float
    bad: int
    cpu: float = 0.0


def measure(base: str, load: Load | Mixed, *, connections: int, seconds: int, pid: int | None = None) -> Outcome:
    """Send ``load`` to ``base`` over this many connections at once, each waiting for its answer.

    :param pid: the server's process, if it is on this host.
    """
    before = _cpu(pid)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(load.script())
        script.flush()
        argv = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "-s",
            script.name,
            f"{base}{load.path}",
        ]
        with on_cores(LOAD_CORE):
            out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REPORT (\S+) (\S+) (\d+)", out)
    assert found is not None, out
    rate = float(found[1])
    return Outcome(rate, float(found[2]), int(found[3]), (_cpu(pid) - before) / (rate * seconds) * 1e6)


def _cpu(pid: int | None) -> float:
    if pid is None:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Let the processes that are started meanwhile run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def task_document(size: int = 1500) -> bytes:
    """Return a TES task of about ``size`` bytes with inputs, outputs, resources and three tags."""
    task = {
        "name": "bwa-mem sample-7",
        "description": "",
        "inputs": [{"url": f"s3://reads/sample-7/lane-{n}.fq.gz", "path": f"/data/lane-{n}.fq.gz"} for n in range(4)],
        "outputs": [{"url": "s3://results/sample-7/", "path": "/work/out", "type": "DIRECTORY"}],
        "resources": {"cpu_cores": 1, "ram_gb": 0.5, "disk_gb": 0.1},
        "executors": [
            {
                "image": "quay.example.org/biocontainers/bwa:0.7.17",
                "command": ["sh", "-c", "bwa mem -t 4 /data/ref.fa /data/lane-0.fq.gz > /work/out/aligned.sam"],
                "workdir": "/work",
                "env": {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "4"},
            }
        ],
        "volumes": ["/work"],
        "tags": {"project": "lambda", "sample": "7", "user": "ada"},
    }
    task["description"] = "x" * (size - len(json.dumps(task)))
    return json.dumps(task).encode()
