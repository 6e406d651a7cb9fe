"""Clients of others that cannot live beside weft's own packages: each runs in .venv-clients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tes.conftest import Bench

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def client(name: str, package: str, *arguments: str) -> dict[str, Any]:
    """Run one of the programs of ``clients/`` and return the JSON that it prints last."""
    found = PYTHON.exists() and subprocess.run([PYTHON, "-c", f"import {package}"], check=False, capture_output=True)
    if not found or found.returncode:
        pytest.skip(f"needs {package} in .venv-clients (make setup)")
    program = Path(__file__).with_name("clients") / f"{name}.py"
    done = subprocess.run([PYTHON, program, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_py_tes_042_creates_follows_lists_and_cancels(bench: Bench) -> None:
    assert client("py_tes_042", "tes", bench.server.url) == {
        "state": "COMPLETE",
        "stdout": "hello\n",
        "exit_code": 0,
        "listed": True,
        "cancelled": "CANCELED",
    }


@pytest.mark.parametrize("base", ["/ga4gh/tes/", "/"])
def test_pydantic_tes_shares_volumes_and_sees_a_cancel_within_three_seconds(bench: Bench, base: str) -> None:
    assert client("pydantic_tes", "pydantictes", bench.server.url + base) == {
        "state": "COMPLETE",
        "stdout": "shared by volume",
        "cancelled": "CANCELED",
        "listed": True,
        "version": "1.1.0",
    }


def test_snakemakes_tes_plugin_gets_its_output(bench: Bench) -> None:
    folder = bench.files / "workflow"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "in.txt").write_text("12345")
    (folder / "Snakefile").touch()
    seen = client("snakemake_plugin", "snakemake_executor_plugin_tes", bench.server.url, str(folder))
    assert seen["said"] == ["success"], seen
    assert (folder / "results" / "out.txt").read_text().strip() == "5"
