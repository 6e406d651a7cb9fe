"""Generated requests, briefly; `make schemathesis` is the long run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tes.conftest import Bench
from tests.tes.fuzz import PROGRAM, fuzz


@pytest.mark.slow
def test_no_generated_request_gets_a_5xx_or_an_answer_that_breaks_the_schema(bench: Bench, tmp_path: Path) -> None:
    if not PROGRAM.exists():
        pytest.skip("needs schemathesis")
    done = fuzz(bench.server, tmp_path, 25, seed=20261121)
    assert done.returncode == 0, done.stdout[-8000:]
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert counted is not None, done.stdout[-3000:]
    assert int(counted[1]) == int(counted[2]) > 300
