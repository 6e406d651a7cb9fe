"""Real servers for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveWeft
from tests.testbeds.nextflow.dist import PROGRAM


def environment(executor: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Say where the executor's backend is; the engine's hosts do not outlive the test for long."""
    env = {"WEFT_ENGINE__WARM_IDLE_SECONDS": "20"}
    if PROGRAM.is_file():
        env["WEFT_ENGINE__NEXTFLOW"] = str(PROGRAM)
        env["WEFT_ENGINE__NEXTFLOW_HOME"] = str(PROGRAM.parent)
    if executor == "docker":
        env |= {"WEFT_DOCKER__HOST": request.getfixturevalue("docker_engine"), "WEFT_ENGINE__DEFAULT_IMAGE": "bash"}
    return env


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
        server.end()


@pytest.fixture
def live_weft(start_weft: Callable[..., LiveWeft], tmp_path: Path) -> LiveWeft:
    """One server that runs steps on this host."""
    files = tmp_path / "files"
    files.mkdir()
    return start_weft("--executor", "process", "--file-root", str(files))


@pytest.fixture(params=["process", "docker"])
def own_weft(request: pytest.FixtureRequest, start_weft: Callable[..., LiveWeft], tmp_path: Path) -> LiveWeft:
    """One server of the test's own, once on this host and once on a real Docker Engine; it may die."""
    (tmp_path / "files").mkdir()
    flags = ("--executor", request.param, "--file-root", str(tmp_path / "files"))
    return start_weft(*flags, env=environment(request.param, request) | {"WEFT_LEASE_SECONDS": "2"})


@pytest.fixture(scope="module", params=["process", "docker"])
def weft(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeft]:
    """One server for all tests of a module, once on this host and once on a real Docker Engine."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "files").mkdir()
    flags = ("--executor", request.param, "--file-root", str(folder / "files"))
    server = LiveWeft(folder / "data", flags=flags, env=environment(request.param, request)).start()
    try:
        yield server
        server.assert_nothing_is_left()
    finally:
        server.end()
