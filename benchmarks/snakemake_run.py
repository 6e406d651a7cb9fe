"""A one-rule Snakemake run, from POST to COMPLETE, against ``snakemake`` from the command line on the same file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from benchmarks.report import Row, at_most, interleaved
from tests.live import TERMINAL, LiveWeft

SNAKEFILE = 'rule hello:\n    output: "hello.txt"\n    shell: "echo hello > {output}"\n'


def rows(weft: LiveWeft, rounds: int = 7) -> list[Row]:
    """Measure medians of ``rounds`` turns each."""
    session = requests.Session()

    def by_weft() -> float:
        form = {"workflow_type": "Snakemake", "workflow_type_version": "9", "workflow_url": "Snakefile"}
        files = [("workflow_attachment", ("Snakefile", SNAKEFILE.encode()))]
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

    def by_hand() -> float:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Snakefile").write_text(SNAKEFILE)
            begin = time.perf_counter()
            subprocess.run(
                [str(Path(sys.executable).with_name("snakemake")), "--cores", "1", "--quiet", "all"],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            return (time.perf_counter() - begin) * 1000

    by_weft(), by_hand()
    mine, limit = interleaved(rounds, by_weft, by_hand)
    return [at_most("a one-rule Snakemake run, POST to COMPLETE", mine, limit, "ms", 1.0)]
