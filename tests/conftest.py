"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.testbeds import docker_engine as testbed

if TYPE_CHECKING:
    from tests.testbeds.batch_site import BatchSite


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """Address of a real Docker Engine with the stand-in images: WEFT_TEST_DOCKER_HOST, else a private one."""
    host = os.environ.get("WEFT_TEST_DOCKER_HOST")
    if host:
        testbed.add_stand_ins(host)
        yield host
        return
    missing = testbed.missing_tools()
    if missing:
        pytest.skip(missing)
    with testbed.private_engine() as engine:
        testbed.add_stand_ins(engine.host)
        yield engine.host


@pytest.fixture(scope="session")
def batch_site(docker_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchSite]:
    """An account on loopback whose Batch runs real containers on the engine."""
    from tests.testbeds.batch_site import private_account

    with private_account(docker_engine, tmp_path_factory.mktemp("aws")) as site:
        yield site
