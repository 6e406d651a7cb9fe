"""What the real deaths share: a server with short leases, whose steps can count their starts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.fire import Fire
from tests.live import LiveWeft

SEED = 20261121


@pytest.fixture
def kindle(tmp_path: Path) -> Iterator[Callable[..., Fire]]:
    """Start a server with an executor, or an API and so many workers; nothing is sent before ``light``."""
    started: list[LiveWeft] = []
    (tmp_path / "files").mkdir()

    def make(
        executor: str,
        docker_host: str | None = None,
        *,
        workers: int = 0,
        seed: object = SEED,
        database: str | None = None,
    ) -> Fire:
        env = {
            "WEFT_EXECUTOR": executor,
            "WEFT_LEASE_SECONDS": "2",
            "WEFT_WRITABLE_INPUTS": "true",
            "WEFT_FILE_ROOTS": f'["{tmp_path / "files"}"]',
            "WEFT_ENGINE__WARM_IDLE_SECONDS": "20",
            "WEFT_ENGINE__DEFAULT_IMAGE": "bash",
        }
        if docker_host is not None:
            env["WEFT_DOCKER__HOST"] = docker_host
        if database is not None:
            env["WEFT_DATABASE"] = database
        commands = ["api"] + ["work"] * workers if workers else ["serve"]
        started.extend(LiveWeft(tmp_path / "data", env=env, command=command) for command in commands)
        for process in started:
            process.start()
        return Fire(started[0], random.Random(f"{seed} {executor}"), workers=started[1:])

    try:
        yield make
    finally:
        for process in reversed(started):
            process.end()
