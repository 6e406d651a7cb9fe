"""A real ``weft serve`` of its own for a test or a benchmark: free port, own data folder, stopped by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

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
