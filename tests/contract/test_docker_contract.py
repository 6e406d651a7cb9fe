"""The docker executor keeps the contract of all executors, on a real Docker Engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from executors.docker import create
from tests.contract.suite import MAX_LOG_BYTES, ExecutorContract
from weft.config import Settings
from weft.ports import Executor
from weft.sections.backends import DockerSettings

pytestmark = pytest.mark.docker


class TestDocker(ExecutorContract):
    """Every step in a container of the stand-in image."""

    @pytest.fixture
    def settings(self, data: Path, docker_engine: str) -> Settings:
        return Settings(data=data, max_log_bytes=MAX_LOG_BYTES, docker=DockerSettings(host=docker_engine))

    def make_executor(self, settings: Settings) -> Executor:
        return create(settings)
