"""Real servers for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveWeft


@pytest.fixture
def start_weft(tmp_path: Path) -> Iterator[Callable[..., LiveWeft]]:
    """Start servers with the given flags; all are stopped at the end."""
    started: list[LiveWeft] = []

    def start(*flags: str, name: str = "data", command: str = "serve", env: dict[str, str] | None = None) -> LiveWeft:
        server = LiveWeft(tmp_path / name, flags=flags, command=command, env=env or {}).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def live_weft(start_weft: Callable[..., LiveWeft], tmp_path: Path) -> LiveWeft:
    """One server that runs steps on this host."""
    files = tmp_path / "files"
    files.mkdir()
    return start_weft("--executor", "process", "--file-root", str(files))
