"""What a policy and an audit record cost: processor time of a create, a get and a list, beside a weft without them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.api import Server, loads
from benchmarks.report import Row, at_most
from benchmarks.wrk import SERVER_CORE, measure, on_cores
from tests.live import LiveWeft

_GOAL = 1.15
_PLAIN = "neither"
_POLICY = """
require_project = true

[roles]
submitter = ["local|*"]
operator = ["group:local|operators"]

[limits]
cores = 8
ram_gb = 32
disk_gb = 100

[images]
allow = ["quay.example.org/biocontainers/*", "registry.example.org/approved/*"]

[storage]
read = ["s3://reference/"]
write = ["s3://results/"]

[datasets.reads]
urls = ["s3://reads/"]

[[datasets.reads.approvals]]
who = ["project:lambda"]

[projects.lambda]
members = ["local|*"]
datasets = ["reads"]
"""


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, Server]]:
    """Serve three APIs on the server's core: without both, with the policy, with both."""
    folder.mkdir(parents=True, exist_ok=True)
    policy = folder / "policy.toml"
    policy.write_text(_POLICY)
    named = {"WEFT_POLICY": str(policy)}
    environments = {
        _PLAIN: {},
        "policy": {**named, "WEFT_AUDIT": "false"},
        "policy and audit record": {**named, "WEFT_AUDIT": "true"},
    }
    with ExitStack() as stack:
        found = {}
        for place, (name, environment) in enumerate(environments.items()):
            weft = LiveWeft(folder / f"weft-{place}", command="api", env=environment)
            with on_cores(SERVER_CORE):
                weft.start()
            stack.callback(weft.stop)
            assert weft.process is not None
            found[name] = Server(weft.tes, weft.process.pid)
        yield found


def rows(
    folder: Path,
    *,
    rounds: int = 7,
    seconds: int = 3,
    connections: int = 32,
    kinds_of: tuple[str, ...] = ("create", "get", "list"),
) -> list[Row]:
    """Measure all in turn, so that each sees the same machine, and give the medians."""
    table = []
    with servers(folder) as found:
        kinds = {name: loads(server.tes) for name, server in found.items()}
        for what in kinds_of:
            seen: dict[str, list[float]] = {name: [] for name in found}
            for _ in range(rounds):
                for name, server in found.items():
                    load = kinds[name][what]
                    outcome = measure(server.tes, load, connections=connections, seconds=seconds, pid=server.pid)
                    assert outcome.bad == 0, f"{name} refused {outcome.bad} of {what}"
                    seen[name].append(outcome.cpu)
            medians = {name: statistics.median(values) for name, values in seen.items()}
            table += [
                at_most(f"{what} with {name}, processor time a request", cpu, medians[_PLAIN], "µs", _GOAL)
                for name, cpu in medians.items()
                if name != _PLAIN
            ]
    return table
