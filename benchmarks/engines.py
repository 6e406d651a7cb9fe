"""A one-step CWL and WDL run, from POST to COMPLETE, against each engine's own command line on the same file.

miniwdl's own command line wants a container runtime; its udocker backend is given a script that runs the command on
this host, so that no time of a container counts on its side.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from benchmarks.report import Row, at_most, interleaved
from tests.live import TERMINAL, LiveWeft

CWL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": ["echo", "hello"],
    "inputs": {},
    "stdout": "hello.txt",
    "outputs": {"out": "stdout"},
}
WDL = "version 1.0\ntask hello { command <<< echo hello >>> output { File out = stdout() } }\n"
#: Takes the words of ``udocker run …`` and runs the last three of them in the task's work folder.
NO_CONTAINER = """#!/bin/bash
[ "$1" = run ] || exit 0
cd work && exec "${@: -3}"
"""


def rows(weft: LiveWeft, rounds: int = 7) -> list[Row]:
    """Measure medians of ``rounds`` turns each."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-engines-") as name:
        folder = Path(name)
        (folder / "hello.cwl").write_text(json.dumps(CWL))
        (folder / "hello.wdl").write_text(WDL)
        (folder / "no-container").write_text(NO_CONTAINER)
        (folder / "no-container").chmod(0o755)
        (folder / "miniwdl.cfg").write_text(
            f'[scheduler]\ncontainer_backend = udocker\n[udocker]\nexe = ["{folder / "no-container"}"]\n'
        )
        by_hand = {
            "cwltool": ["cwltool", "--quiet", "--outdir", "out", "hello.cwl"],
            "miniwdl": ["miniwdl", "run", "--cfg", "miniwdl.cfg", "--dir", "runs", "hello.wdl"],
        }
        forms = {
            "cwltool": {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "hello.cwl"},
            "miniwdl": {"workflow_type": "WDL", "workflow_type_version": "1.0", "workflow_url": "hello.wdl"},
        }
        return [
            _row(weft, rounds, engine, forms[engine], by_hand[engine], folder, goal)
            for engine, goal in (("cwltool", 1.0), ("miniwdl", 1.2))
        ]


def _row(
    weft: LiveWeft, rounds: int, engine: str, form: Mapping[str, str], argv: Sequence[str], folder: Path, goal: float
) -> Row:
    def by_weft() -> float:
        return _by_weft(weft, form, folder)

    def by_hand() -> float:
        begin = time.perf_counter()
        command = [str(Path(sys.executable).with_name(argv[0])), *argv[1:]]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (time.perf_counter() - begin) * 1000

    by_weft(), by_hand()
    mine, limit = interleaved(rounds, by_weft, by_hand)
    return at_most(f"a one-step {engine} run, POST to COMPLETE", mine, limit, "ms", goal)


def _by_weft(weft: LiveWeft, form: Mapping[str, str], folder: Path) -> float:
    name = form["workflow_url"]
    files = [("workflow_attachment", (name, (folder / name).read_bytes()))]
    session = requests.Session()
    begin = time.perf_counter()
    run_id = session.post(f"{weft.wes}/runs", data=form, files=files, timeout=30).json()["run_id"]
    while True:
        state = session.get(f"{weft.wes}/runs/{run_id}/status", timeout=30).json()["state"]
        if state in TERMINAL:
            break
        time.sleep(0.005)
    taken = time.perf_counter() - begin
    assert state == "COMPLETE", weft.run_log(run_id)
    return taken * 1000
