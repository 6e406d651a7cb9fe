"""A hub and three sites: they join, run under one policy or another, and answer requests that the hub sends to all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sites import Weft

from weft.client.attach import below
from weft.client.connection import Connection, JsonObject
from weft.client.outputs import files_of
from weft.client.watch import Watch
from weft.client.wes import RunRequest, WesClient

HERE = Path(__file__).resolve().parent
DATASET = "allele-cohort"
REVIEWER = "data-access-committee"
RUN_SECONDS = 900.0
_HUB = 'executor = "node"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a site lets out, and whether it permits the analysis at all."""

    release: str = "auto"
    permits: bool = True

    def settings(self, cohort: Path) -> str:
        """Return the site's settings file."""
        held = f'[datasets]\n{DATASET} = "{cohort}"\n' if self.permits else ""
        return f'executor = "process"\n{held}[release]\npolicy = "{self.release}"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one request to all sites."""

    state: str
    partial: bool
    #: Site -> folder with the files that it released.
    folders: Mapping[str, Path]
    #: Site -> why there is nothing of it.
    reasons: Mapping[str, str]


class Federation:
    """The hub and its sites, by name."""

    def __init__(self, folder: Path, cohorts: Mapping[str, Path]) -> None:
        """Keep where everything lies; ``cohorts`` gives each site's own data."""
        self._cohorts = dict(cohorts)
        self._reviewed: set[str] = set()
        self.hub = Weft(folder / "hub")
        self.sites = {name: Weft(folder / name) for name in cohorts}

    def join(self) -> None:
        """Start the hub and let every site join it, with a token that works once."""
        self.hub.start(_HUB)
        self._at_once(self._join)

    def apply(self, policies: Mapping[str, Policy]) -> None:
        """Start these sites anew with these policies."""

        def restart(name: str) -> None:
            self.sites[name].stop()
            self.sites[name].start(policies[name].settings(self._cohorts[name]))

        self._at_once(restart, policies)

    def analyse(self, folder: Path, *, minimum: int, require: str = "all", review: tuple[str, ...] = ()) -> Answer:
        """Send the workflow to all sites through the hub, and fetch what they release.

        :param review: sites where a person approves the files that wait.
        """
        client = WesClient(Connection(self.hub.url, "wes"))
        run_id = client.submit(_request(minimum, ",".join(self.sites), require))
        waiting = set(review)
        for _ in Watch(timeout=RUN_SECONDS, first=1.0, longest=2.0).until_ended(lambda: client.status(run_id)):
            waiting -= {name for name in tuple(waiting) if self._approves(name)}
        run = client.get(run_id)
        return self._fetched(client, run, folder)

    def stop(self) -> None:
        """Stop everything."""
        self._at_once(lambda name: self.sites[name].stop())
        self.hub.stop()

    def _join(self, name: str) -> None:
        token = self.hub.run("node", "invite", name)
        declared = self.sites[name].folder / "datasets.toml"
        declared.parent.mkdir(parents=True, exist_ok=True)
        declared.write_text(f'jurisdiction = "{name.upper()}"\n[[datasets]]\nid = "{DATASET}"\nbuild = "synthetic"\n')
        command = ("node", "join", self.hub.url, "--name", name, "--token", token, "--datasets", str(declared))
        self.sites[name].run(*command)

    def _approves(self, name: str) -> bool:
        """Approve what waits at a site; False while nothing does."""
        site = self.sites[name]
        known = {path.parent.name for path in (site.folder / "data" / "node" / "releases").glob("*/ledger.json")}
        new = known - self._reviewed
        for key in new:
            site.run("release", "approve", key, "--reviewer", REVIEWER, "--reason", "counts only")
        self._reviewed |= new
        return bool(new)

    def _fetched(self, client: WesClient, run: JsonObject, folder: Path) -> Answer:
        outputs = run.get("outputs") or {}
        folders, reasons = {}, {}
        for name, part in (outputs.get("nodes") or {}).items():
            files = files_of(part.get("outputs") or {})
            for file in files:
                client.download(file.url, folder / name / file.url.rpartition("/")[2])
            if files and part["state"] == "COMPLETE":
                folders[name] = folder / name
            else:
                reasons[name] = str(part.get("reason") or json.dumps(part.get("outputs")))
        return Answer(state=str(run["state"]), partial=bool(outputs.get("partial")), folders=folders, reasons=reasons)

    def _at_once(self, action: Callable[[str], None], names: Mapping[str, object] | None = None) -> None:
        chosen = list(self.sites if names is None else names)
        with ThreadPoolExecutor(len(chosen)) as pool:
            list(pool.map(action, chosen))


@contextmanager
def running(folder: Path, cohorts: Mapping[str, Path]) -> Iterator[Federation]:
    """Give a federation whose sites have joined; nothing of it runs afterwards."""
    made = Federation(folder, cohorts)
    try:
        made.join()
        yield made
    finally:
        made.stop()


def _request(minimum: int, nodes: str, require: str) -> RunRequest:
    """Give the one request that every site gets."""
    return RunRequest(
        workflow_url="Snakefile",
        workflow_type="SMK",
        workflow_type_version="9",
        workflow_params={"cohort": f"dataset://{DATASET}/cohort.vcf.gz", "minimum_count": minimum},
        engine_parameters={"nodes": nodes, "require": require},
        tags={"project": "allele-frequency"},
        attachments=below(HERE / "workflow"),
    )
