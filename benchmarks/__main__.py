"""``make bench``: every benchmark, one table, JSON and a chart beside it."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import api, authority, crowd, engines, idle, latency, lists, snakemake_run, throughput
from benchmarks.report import Row, publish
from tests.live import LiveWeft
from tests.testbeds import docker_engine

#: What ``make bench`` does; ``lists`` fills a million jobs first, which takes minutes, so it is asked for by name.
_ALL = ("api", "crowd", "local", "docker")


def main() -> None:
    """Run what was asked for; without a Docker Engine the Docker figures are left out, and said so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--docker-host", default=os.environ.get("DOCKER_HOST"), help="else a private engine is started")
    parser.add_argument("--image", default="busybox:latest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=(*_ALL, "authority", "lists"), nargs="+", default=_ALL)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64], help="connections at once")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="how many for --only lists")
    parser.add_argument(
        "--url", action="append", default=[], metavar="NAME=URL", help="base URL of another TES, for --only api"
    )
    chosen = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as name:
        folder = Path(name)
        if "api" in chosen.only:
            rows += _api(folder / "api", chosen)
        if "crowd" in chosen.only:
            rows += crowd.rows()
        if "local" in chosen.only:
            rows += _local(folder / "local", chosen.rounds)
        if "docker" in chosen.only:
            rows += _docker(folder / "docker", chosen)
        if "authority" in chosen.only:
            (folder / "authority").mkdir()
            rows += authority.rows(folder / "authority")
    if "lists" in chosen.only:
        rows += lists.rows(chosen.jobs)
    print(f"written to {publish(rows)}")


def _api(folder: Path, chosen: argparse.Namespace) -> list[Row]:
    folder.mkdir()
    others = dict(item.split("=", 1) for item in chosen.url)
    with api.both(folder, others) as servers:
        return api.rows(servers, rounds=chosen.rounds, seconds=2, clients=chosen.clients)


def _local(folder: Path, rounds: int) -> list[Row]:
    """Measure what needs no Docker Engine: an idle server, and runs of workflows."""
    weft = LiveWeft(folder, flags=("--executor", "process"))
    weft.start()
    try:
        return [*idle.rows(weft), *snakemake_run.rows(weft, rounds), *engines.rows(weft, rounds)]
    finally:
        weft.stop()


def _docker(folder: Path, chosen: argparse.Namespace) -> list[Row]:
    missing = None if chosen.docker_host else docker_engine.missing_tools()
    if missing is not None:
        print(f"the figures on Docker are left out: {missing}")
        return []
    with _engine(chosen.docker_host) as host:
        weft = LiveWeft(folder / "one", flags=("--executor", "docker"), env={"WEFT_DOCKER__HOST": host})
        weft.start()
        try:
            rows = latency.rows(weft, host, chosen.image, 3 * chosen.rounds)
        finally:
            weft.stop()
        return [*rows, *throughput.rows(folder, host, chosen.image)]


@contextmanager
def _engine(host: str | None) -> Iterator[str]:
    """Give the engine that was named, or start one with an image of busybox."""
    if host is not None:
        yield host
        return
    with docker_engine.private_engine() as engine:
        docker_engine.add_stand_ins(engine.host)
        yield engine.host


if __name__ == "__main__":
    main()
