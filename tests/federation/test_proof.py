"""The proof of examples/federated-allele-frequency on small cohorts, and that it can fail."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "federated-allele-frequency"
#: Four servers start; on a busy machine that takes its time.
SECONDS = 600


@pytest.fixture
def combine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("combine")


def test_one_wrong_count_is_a_difference(combine: ModuleType) -> None:
    rare, common = ("chr1", 5, "A", "T"), ("chr1", 9, "G", "C")
    sums = combine.combine([{rare: (None, 10), common: (3, 10)}, {rare: (4, 20), common: (1, 20)}])
    assert sums == {rare: combine.Sum(4, 20, 10), common: combine.Sum(4, 30, 0)}
    pooled = {rare: (6, 30), common: (4, 30)}
    assert combine.differences(sums, pooled) == []
    assert len(combine.differences(sums, pooled | {common: (5, 30)})) == 1
    assert len(combine.differences(sums, {common: (4, 30)})) == 1


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_the_federated_sums_are_the_pooled_counts(tmp_path: Path) -> None:
    missing = [tool for tool in ("bcftools", "awk") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {missing}")
    cohort = ("--megabases", "0.1", "--people", "40", "60", "100")
    proof = subprocess.Popen(
        [sys.executable, EXAMPLE / "proof.py", "--output", tmp_path, *cohort],
        env={name: value for name, value in os.environ.items() if not name.startswith("WEFT_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = proof.communicate(timeout=SECONDS)
    except BaseException:
        os.killpg(proof.pid, signal.SIGKILL)
        raise
    assert proof.returncode == 0, printed
    assert "Federated equals pooled exactly on all" in printed
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == page.count("<h2>")
    assert "NA" in (tmp_path / "minimum-count" / "cz" / "frequencies.tsv").read_text()
    assert "Partial: 2 of 3 sites answered. pt: refused: workflow_params: dataset allele-cohort is not at" in printed
