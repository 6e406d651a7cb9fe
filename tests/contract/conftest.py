"""What every executor's contract test needs: settings of its own, and a bench that makes real submissions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.suite import MAX_LOG_BYTES, Bench
from weft.config import Settings


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder that the steps' own user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="weft-contract-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(data: Path) -> Settings:
    """Settings of the executor under test; a subclass may override this."""
    return Settings(data=data, max_log_bytes=MAX_LOG_BYTES)


@pytest.fixture
def image() -> str:
    """Name of an image with a shell; a subclass overrides this where images are used."""
    return "alpine"


@pytest.fixture
def bench(data: Path, image: str) -> Bench:
    """Makes steps, folders and submissions."""
    return Bench(data, image, user=30_000 if os.geteuid() == 0 else None)
