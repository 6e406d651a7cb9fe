"""weft in front of a real Slurm against bare ``sbatch``: the rate of submission, and many short tasks to their end.

``python -m benchmarks.slurm [--tasks 200]`` starts a private cluster (root; Debian's munge and slurm-wlm).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from benchmarks.report import Row, at_least, at_most, publish
from executors.slurm import create
from tests.contract.suite import Bench
from tests.live import TERMINAL, LiveWeft
from tests.testbeds.slurm_site import ACCOUNT, SlurmSite, private_site
from weft.config import Settings
from weft.sections.backends import SlurmSettings

PYTHON = Path("/usr/bin/python3")
_LOOP = 'i=0; while [ $i -lt "$1" ]; do sbatch --quiet --uid="$2" --chdir=/ --output=/dev/null "$3"; i=$((i+1)); done'


def rows(site: SlurmSite, folder: Path, tasks: int) -> list[Row]:
    """Measure both, each beside what a person would do by hand on the same cluster."""
    script = folder / "second.sh"
    script.write_text("#!/bin/sh\nexec sleep 1\n", encoding="utf-8")
    submitted, bare = submissions(site, folder, script)
    mine = many(site, folder, tasks)
    begin = time.perf_counter()
    loop(site, script, tasks)
    _wait_until_empty(site)
    by_hand = time.perf_counter() - begin
    return [
        at_least("submissions to Slurm", submitted, bare, "/s", 0.7),
        at_most(f"{tasks} tasks of one second on Slurm, create to COMPLETE", mine, by_hand, "s", 1.15),
    ]


def submissions(site: SlurmSite, folder: Path, script: Path, count: int = 100) -> tuple[float, float]:
    """Return submissions a second by the executor, called by as many threads as a worker has, and by a shell loop.

    The partition is down meanwhile, so that no job takes the machine's cores.
    """
    slurm = SlurmSettings(conf=site.conf, user=ACCOUNT, python=PYTHON)
    settings = Settings(data=folder / "rate", slurm=slurm)
    executor = create(settings)
    bench = Bench(folder / "rate", "alpine", site.account.pw_uid)
    site.run("scontrol", "update", "partitionname=debug", "state=DOWN")
    works = [bench.submission(bench.step("true")) for _ in range(count + 1)]
    executor.submit(works.pop())
    begin = time.perf_counter()
    with ThreadPoolExecutor(settings.staging_threads) as pool:
        list(pool.map(executor.submit, works))
    mine = count / (time.perf_counter() - begin)
    by_hand = count / loop(site, script, count)
    site.run("scancel", "--user", ACCOUNT)
    site.run("scontrol", "update", "partitionname=debug", "state=UP")
    _wait_until_empty(site)
    return mine, by_hand


def loop(site: SlurmSite, script: Path, count: int) -> float:
    """Submit by hand; return the seconds that it took."""
    begin = time.perf_counter()
    argv = ["sh", "-c", _LOOP, "loop", str(count), ACCOUNT, str(script)]
    subprocess.run(argv, env=site.environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def many(site: SlurmSite, folder: Path, count: int) -> float:
    """Return the seconds from the first create to the last COMPLETE through a server."""
    env = {"WEFT_SLURM__CONF": str(site.conf), "WEFT_SLURM__USER": ACCOUNT, "WEFT_SLURM__PYTHON": str(PYTHON)}
    server = LiveWeft(folder / "data", flags=("--executor", "slurm"), env=env).start()
    try:
        session = requests.Session()
        task = {"executors": [{"image": "alpine", "command": ["sleep", "1"]}]}
        begin = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda _: server.create(task), range(count)))
        for task_id in ids:
            while (state := session.get(f"{server.tes}/tasks/{task_id}", timeout=30).json()["state"]) not in TERMINAL:
                time.sleep(0.05)
            assert state == "COMPLETE", server.task(task_id)
        return time.perf_counter() - begin
    finally:
        server.end()


def _wait_until_empty(site: SlurmSite) -> None:
    while site.run("squeue", "-h").strip():
        time.sleep(0.05)


def main() -> None:
    """Run on a cluster of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="weft-bench-slurm-"))
    folder.chmod(0o755)
    try:
        with private_site(nodes=3) as site:
            print(f"written to {publish(rows(site, folder, chosen.tasks))}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
