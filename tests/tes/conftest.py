"""One real server for the tests of this folder that run tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveWeft


@dataclass(frozen=True)
class Bench:
    """A server that runs steps on this host, and a folder that its tasks may name."""

    server: LiveWeft
    files: Path

    def run(self, script: str, **members: Any) -> dict[str, Any]:
        """Run one step to its end and return the FULL view."""
        return self.server.wait(self.server.create({"executors": [step(script)], **members}))


def step(script: str, **members: Any) -> dict[str, Any]:
    return {"image": "busybox", "command": ["sh", "-c", script], **members}


def system_log(task: dict[str, Any]) -> str:
    return "\n".join(line for attempt in task["logs"] for line in attempt["system_logs"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    files = folder / "files"
    files.mkdir()
    server = LiveWeft(folder / "data", flags=("--executor", "process", "--file-root", str(files)))
    server.start()
    yield Bench(server, files)
    server.stop()
