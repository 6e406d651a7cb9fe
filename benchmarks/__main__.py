"""``make bench``: every benchmark, one table, JSON beside it."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks import api, engines, idle, latency, lists, snakemake_run
from benchmarks.report import Row, publish
from tests.live import LiveWeft


def main() -> None:
    """Run what was asked for; without a Docker Engine the Docker figures are left out, and said so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docker-host", default=os.environ.get("DOCKER_HOST"))
    parser.add_argument("--image", default="busybox:latest")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("api", "lists"), help="one part alone; lists is never part of all")
    parser.add_argument("--clients", type=int, nargs="+", default=[32], help="connections at once for --only api")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="how many for --only lists")
    chosen = parser.parse_args()
    if chosen.only == "api":
        print(f"written to {publish(_api(chosen.clients))}")
        return
    if chosen.only == "lists":
        print(f"written to {publish(lists.rows(chosen.jobs))}")
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        host = LiveWeft(Path(folder) / "process", flags=("--executor", "process"))
        host.start()
        rows += idle.rows(host)
        rows += snakemake_run.rows(host, max(3, chosen.rounds // 2))
        rows += engines.rows(host, max(3, chosen.rounds // 2))
        host.stop()
        if chosen.docker_host:
            environment = {"WEFT_DOCKER__HOST": chosen.docker_host}
            engine = LiveWeft(Path(folder) / "docker", flags=("--executor", "docker"), env=environment)
            engine.start()
            rows += latency.rows(engine, chosen.docker_host, chosen.image, chosen.rounds)
            engine.stop()
        else:
            print("no DOCKER_HOST and no --docker-host: the figures on Docker are left out")
        print(f"written to {publish(rows)}")


def _api(clients: list[int]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder, api.both(Path(folder)) as servers:
        return api.rows(servers, clients=clients)


if __name__ == "__main__":
    main()
