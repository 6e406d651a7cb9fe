"""The slurm executor keeps the contract of all executors, on a real Slurm."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors.slurm import create
from tests.contract.suite import MAX_LOG_BYTES, Bench, ExecutorContract
from tests.testbeds import slurm_site
from weft.config import Settings
from weft.ports import Executor
from weft.sections.backends import SlurmSettings


@pytest.fixture(scope="module")
def conf() -> Iterator[Path]:
    """slurm.conf of a cluster: WEFT_TEST_SLURM_CONF (any account may run these tests there), else a private one."""
    given = os.environ.get("WEFT_TEST_SLURM_CONF")
    if given:
        yield Path(given)
        return
    missing = slurm_site.missing_tools()
    if missing:
        pytest.skip(missing)
    with slurm_site.private_site() as running:
        yield running.conf


class TestSlurm(ExecutorContract):
    """Every attempt a Slurm job, its steps in bubblewrap on the node."""

    @pytest.fixture
    def settings(self, data: Path, conf: Path) -> Settings:
        user = slurm_site.ACCOUNT if os.geteuid() == 0 else None
        slurm = SlurmSettings(conf=conf, user=user, python=Path("/usr/bin/python3"))
        return Settings(data=data, max_log_bytes=MAX_LOG_BYTES, slurm=slurm, beat_seconds=0.1)

    @pytest.fixture
    def bench(self, data: Path, image: str) -> Bench:
        return Bench(data, image, user=pwd.getpwnam(slurm_site.ACCOUNT).pw_uid if os.geteuid() == 0 else None)

    def make_executor(self, settings: Settings) -> Executor:
        return create(settings)
