"""Where the Nextflow of the tests lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / ".nextflow-dist" / "nextflow"


def nextflow() -> Path:
    """Return the launcher, or skip the test that asks."""
    if shutil.which("java") is None or not PROGRAM.is_file():
        pytest.skip("java or .nextflow-dist is missing: apt-get install default-jre-headless maven; make setup")
    return PROGRAM
