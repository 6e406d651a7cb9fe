"""Every example of examples/ runs, through the command line, and gives what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import LiveWeft

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bowtie2", "samtools", "bcftools", "awk", "gzip")
READS = Path("/usr/share/doc/bowtie2/examples/reads/reads_1.fq.gz")


def weft(server: LiveWeft, *arguments: str | Path) -> str:
    """Run a command of the `weft` program against the server and return its stdout."""
    env = os.environ | {"WEFT_SERVER": server.url}
    argv = [sys.executable, "-m", "weft.cli", *map(str, arguments)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}\n{server.log()}"
    return done.stdout


def test_the_three_step_task_counts_the_bases(live_weft: LiveWeft, tmp_path: Path) -> None:
    target = tmp_path / "files" / "composition.txt"
    text = (ROOT / "examples" / "three-steps" / "task.json").read_text()
    (tmp_path / "task.json").write_text(text.replace("file:///tmp/weft-example/composition.txt", target.as_uri()))
    weft(live_weft, "task", "submit", "--wait", tmp_path / "task.json")
    assert target.read_text().split() == ["67", "A", "58", "C", "68", "G", "87", "T"]


@pytest.mark.slow
def test_variant_calling_on_weft_gives_the_variants_that_snakemake_gives_by_hand(
    live_weft: LiveWeft, tmp_path: Path
) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not READS.exists():
        pytest.skip(f"needs {', '.join(missing) or 'bowtie2-examples'}")
    by_hand, sent, fetched = (tmp_path / name for name in ("by-hand", "sent", "fetched"))
    for folder in (by_hand, sent):
        shutil.copytree(ROOT / "examples" / "variant-calling", folder)
        subprocess.run([ROOT / "scripts" / "example_data.sh", folder], check=True, stdout=subprocess.DEVNULL)
    snakemake = Path(sys.executable).with_name("snakemake")
    subprocess.run([snakemake, "--cores", "2"], cwd=by_hand, check=True, capture_output=True)

    run_id = weft(live_weft, "run", "submit", "--wait", sent).strip()
    weft(live_weft, "run", "outputs", run_id, "--download", fetched)

    assert len(weft(live_weft, "run", "tasks", run_id).splitlines()) == 1 + len(jobs_of(by_hand))
    for sample in ("even", "long", "odd"):
        expected = variants(by_hand / "results" / f"{sample}.vcf.gz")
        assert len(expected) > 50
        assert variants(fetched / "results" / f"{sample}.vcf.gz") == expected
    report = Path("results") / "report.txt"
    assert (fetched / report).read_text() == (by_hand / report).read_text()


def jobs_of(folder: Path) -> list[str]:
    """Return Snakemake's records of the jobs that it ran by hand (one log line a job), without the target rule."""
    (log,) = (folder / ".snakemake" / "log").glob("*.log")
    return [
        line for line in log.read_text().splitlines() if line.startswith("Finished jobid") and "(Rule: all)" not in line
    ]


def variants(vcf: Path) -> list[str]:
    """Return the records of a VCF file, without its header."""
    done = subprocess.run(["bcftools", "view", "-H", vcf], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
