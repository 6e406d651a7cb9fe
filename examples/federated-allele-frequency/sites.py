"""Wefts on this machine, each with a folder, a database and a port of its own: start, restart, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class DidNotStart(Exception):
    """A server ended, or said nothing, at its start; or a command failed."""


@dataclass
class Weft:
    """One installation; its settings are ``FOLDER/weft.toml``."""

    folder: Path
    url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, settings: str) -> None:
        """Write the settings and run ``weft serve`` until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "weft.toml").write_text(settings)
        log = self.folder / "server.log"
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                _argv("serve", "--port", "0"), stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=self._env()
            )
        self.url = self._address(log)

    def stop(self) -> None:
        """Stop it as Ctrl-C does; jobs that run go on at the next start."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *command: str) -> str:
        """Run one ``weft`` command on this installation and return what it printed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(_argv(*command), env=self._env(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise DidNotStart(f"weft {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def _env(self) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
        file = self.folder / "weft.toml"
        return env | {"WEFT_DATA": str(self.folder / "data")} | ({"WEFT_CONFIG": str(file)} if file.exists() else {})

    def _address(self, log: Path) -> str:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("weft listens on "):
                    return line.split()[-1]
            time.sleep(0.05)
        raise DidNotStart(log.read_text(errors="replace"))


def _argv(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "weft.cli", *arguments]
