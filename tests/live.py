"""A real ``weft serve`` of its own for a test or a benchmark: free port, own data folder, stopped by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import requests

from executors.docker_containers import OWNER, owner_of

TERMINAL = {"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED"}


@dataclass
class LiveWeft:
    """Starts, stops, kills and restarts one server; speaks a little TES and WES."""

    data: Path
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    command: str = "serve"
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> LiveWeft:
        self.data.mkdir(parents=True, exist_ok=True)
        log = (self.data / "server.log").open("ab")
        seen = log.tell()
        argv = [sys.executable, "-m", "weft.cli", self.command, "--data", str(self.data), *self.flags]
        if self.command != "work":
            argv += ["--port", self.url.rpartition(":")[2] or "0"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
        self.process = subprocess.Popen(
            argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=clean | self.env, start_new_session=True
        )
        log.close()
        self._wait_until_ready(seen)
        return self

    def _wait_until_ready(self, seen: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = (self.data / "server.log").read_bytes()[seen:].decode()
            for line in text.splitlines():
                if line.startswith("weft listens on "):
                    self.url = line.split()[-1]
                    return
                if line.startswith("weft works on "):
                    return
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"weft {self.command} ended at its start:\n{text}")
            time.sleep(0.02)
        raise AssertionError("weft did not become ready:\n" + self.log())

    @property
    def files(self) -> Path:
        """A folder beside the data folder, for tests that name it with --file-root."""
        return self.data.parent / "files"

    def log(self) -> str:
        return (self.data / "server.log").read_text()

    def stop(self) -> None:
        """Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        self.process = None

    def kill(self) -> None:
        """Let it die without a word (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Let it stand still, as a machine that sleeps does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    # -- what it leaves ----------------------------------------------------------------------------------------

    def containers(self) -> list[str]:
        """Return the names of this installation's containers, whatever their state; [] without a Docker Engine."""
        label = f"{OWNER}={owner_of(self.data)}"
        mine = self._docker(lambda api: api.containers(all=True, filters={"label": label})) or []
        return sorted(name.strip("/") for one in mine for name in one["Names"])

    def _docker(self, ask: Callable[[docker.APIClient], Any]) -> Any:
        host = self.env.get("WEFT_DOCKER__HOST")
        if host is None:
            return None
        api = docker.APIClient(host, version="auto")
        try:
            return ask(api)
        finally:
            api.close()

    def processes(self) -> list[str]:
        """Return the command lines of processes that work in this data folder, but for servers and warm hosts."""
        folder = os.fsencode(f"{self.data}/jobs/")
        ids = [os.fsencode(path.name) for path in (self.data / "jobs").glob("*")]
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if folder in argv or any(b"WEFT_KEY=" + job_id in environ for job_id in ids):
                found.append(f"{entry.name}: {argv.decode(errors='replace')}")
        return found

    def mounts(self) -> list[Path]:
        """Return the folders of attempts that still hold what their steps saw."""
        return sorted((self.data / "jobs").glob("*/*/mounts"))

    def assert_nothing_is_left(self, seconds: float = 10) -> None:
        """Nothing native and no mounted folder outlives the jobs, all of which have ended."""
        deadline = time.monotonic() + seconds
        while (left := (self.containers(), self.processes(), self.mounts())) != ([], [], []):
            assert time.monotonic() < deadline, f"left: {left}\n{self.log()}"
            time.sleep(0.05)

    def end(self) -> None:
        """Stop, and remove what a test that failed left: its processes by their ids, its containers by their names."""
        self.go_on()
        self.stop()
        for line in self.processes():
            with suppress(ProcessLookupError):
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)
        for name in self.containers():
            self._docker(lambda api, name=name: api.remove_container(name, force=True, v=True))

    # -- a little TES and WES ----------------------------------------------------------------------------------

    @property
    def tes(self) -> str:
        return f"{self.url}/ga4gh/tes/v1"

    @property
    def wes(self) -> str:
        return f"{self.url}/ga4gh/wes/v1"

    def create(self, document: dict[str, Any]) -> str:
        answer = requests.post(f"{self.tes}/tasks", json=document, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def task(self, task_id: str, view: str = "FULL") -> dict[str, Any]:
        answer = requests.get(f"{self.tes}/tasks/{task_id}", params={"view": view}, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, task_id: str, *, until: set[str] = TERMINAL, seconds: float = 60) -> dict[str, Any]:
        """Poll until the task is in one of the states; returns the FULL view."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.task(task_id, "MINIMAL")["state"] in until:
                return self.task(task_id)
            time.sleep(0.02)
        raise AssertionError(f"task {task_id} did not reach {until}: {self.task(task_id)}\n{self.log()}")

    def cancel(self, task_id: str) -> None:
        answer = requests.post(f"{self.tes}/tasks/{task_id}:cancel", timeout=30)
        assert answer.status_code == 200, answer.text

    def submit_run(self, form: dict[str, str], attachments: dict[str, bytes]) -> str:
        files = [("workflow_attachment", (name, body)) for name, body in attachments.items()]
        answer = requests.post(f"{self.wes}/runs", data=form, files=files or None, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def run_log(self, run_id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.wes}/runs/{run_id}", timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_run(self, run_id: str, *, until: set[str] = TERMINAL, seconds: float = 120) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = requests.get(f"{self.wes}/runs/{run_id}/status", timeout=30).json()["state"]
            if state in until:
                return self.run_log(run_id)
            time.sleep(0.02)
        raise AssertionError(f"run {run_id} did not reach {until}: {self.run_log(run_id)}\n{self.log()}")
