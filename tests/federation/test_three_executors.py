"""Three sites with different executors (Docker, Slurm, processes) join one hub, and run the same workflow each."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.federation.conftest import Federation
from tests.testbeds import slurm_site
from tests.testbeds.slurm_site import SlurmSite

SNAKEFILE = """
rule all:
    input: "results/count.tsv"

rule where:
    output: "results/where.txt"
    shell: "echo here > {output}"

rule count:
    input: "results/where.txt", config["words"]
    output: "results/count.tsv"
    shell: "(echo n; cat {input[1]} | wc -l) > {output}"
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmSite]:
    missing = slurm_site.missing_tools()
    if missing:
        pytest.skip(missing)
    with slurm_site.private_site() as running:
        yield running


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the account of Slurm's jobs can reach, as on a file system that all nodes share."""
    folder = Path(tempfile.mkdtemp(prefix="weft-three-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def federation(shared: Path) -> Iterator[Federation]:
    made = Federation(shared)
    try:
        made.hub.start()
        yield made
    finally:
        made.end()


@pytest.mark.slow
@pytest.mark.docker
def test_one_workflow_runs_at_docker_slurm_and_process_sites(
    federation: Federation, shared: Path, docker_engine: str, slurm: SlurmSite
) -> None:
    backends = {
        "cz": {"WEFT_EXECUTOR": "docker", "WEFT_DOCKER__HOST": docker_engine, "WEFT_ENGINE__DEFAULT_IMAGE": "bash"},
        "ee": {
            "WEFT_EXECUTOR": "slurm",
            "WEFT_SLURM__CONF": str(slurm.conf),
            "WEFT_SLURM__PYTHON": "/usr/bin/python3",
            **({"WEFT_SLURM__USER": slurm_site.ACCOUNT} if os.geteuid() == 0 else {}),
        },
        "pt": {"WEFT_EXECUTOR": "process"},
    }
    declared = shared / "datasets.toml"
    declared.write_text('[[datasets]]\nid = "words"\n')
    for lines, (name, env) in enumerate(backends.items(), start=5):
        held = shared / f"held-{name}"
        held.mkdir()
        (held / "words").write_text("word\n" * lines)
        policy = {"WEFT_DATASETS": json.dumps({"words": str(held)}), "WEFT_RELEASE__POLICY": "checked"}
        federation.join(name, env={**env, **policy, "WEFT_ENGINE__WARM_IDLE_SECONDS": "20"}, datasets=declared)

    hub = federation.hub
    form = {
        "workflow_url": "Snakefile",
        "workflow_type": "SMK",
        "workflow_type_version": "9",
        "workflow_params": json.dumps({"words": "dataset://words/words"}),
        "workflow_engine_parameters": json.dumps({"nodes": ",".join(backends)}),
    }
    run_id = hub.submit_run(form, {"Snakefile": SNAKEFILE.encode()})
    run = hub.wait_run(run_id, seconds=250)
    logs = "\n".join(f"--- {name}\n{site.log()[-3000:]}" for name, site in federation.sites.items())
    assert run["state"] == "COMPLETE", (run, logs)
    assert run["outputs"]["partial"] is False
    counts = {}
    for name in backends:
        (url,) = [file for file in run["outputs"]["nodes"][name]["outputs"]["files"] if file.endswith("count.tsv")]
        counts[name] = requests.get(url, timeout=30).text.split()
    assert counts == {"cz": ["n", "5"], "ee": ["n", "6"], "pt": ["n", "7"]}
    for site in federation.sites.values():
        site.assert_nothing_is_left()
