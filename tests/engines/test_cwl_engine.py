"""What cwltool's port says, refuses and reads; the pure translation of a tool."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import Run
from weft.ports import Capabilities
from weft.sections.backends import EngineSettings
from wes_service.engines.cwl import CHILD, CwlEngine, create
from wes_service.engines.cwl_parameters import ALLOWED, command_line, read_parameters
from wes_service.engines.cwl_task import (
    CannotRun,
    image_of,
    remote_locations,
    resources_of,
    status_of,
    with_fetched,
    with_relative_paths,
)

RUN = Run(
    workflow_type="CWL",
    workflow_type_version="v1.2",
    workflow_url="main.cwl",
    workflow_engine="cwltool",
    workflow_engine_version="3",
    workflow_params={"a": 1},
)
ENGINE = CwlEngine(version="3.1.2")
MIB = 2**20 / 10**9


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"--on-error": "continue"}, {"on-error": "continue"}),
        ({"target": "a b"}, {"target": ["a", "b"]}),
        ({"--eval-timeout": "5"}, {"eval-timeout": 5}),
        ({"--quiet": ""}, {"quiet": True}),
        ({"--logLevel": "INFO", "--outdir": "/tmp/x"}, {"log-level": "INFO", "outdir": "/tmp/x"}),
        ({"maxJobs": "3"}, {"jobs": 3}),
    ],
)
def test_an_engine_parameter_is_read(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert read_parameters(given) == read


def test_only_what_cwltool_knows_is_passed_on() -> None:
    read = read_parameters({"jobs": "2", "outdir": "/x", "on-error": "continue", "debug": "", "quiet": "no"})
    assert command_line(read) == ["--on-error", "continue", "--debug"]


@pytest.mark.parametrize(
    "name", ["--no-container", "tmpdir-prefix", "--user-space-docker-cmd", "basedir", "--cachedir"]
)
def test_an_unknown_engine_parameter_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENGINE.validate(replace(RUN, workflow_engine_parameters={name: "x"}))
    assert caught.value.field == f"workflow_engine_parameters.{name}"
    assert all(known in str(caught.value.remedy) for known in ALLOWED)


@pytest.mark.parametrize(("name", "value"), [("on-error", "panic"), ("jobs", "0"), ("debug", "perhaps")])
def test_a_value_that_cannot_be_read_is_refused_with_its_field(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENGINE.validate(replace(RUN, workflow_engine_parameters={name: value}))
    assert caught.value.field == f"workflow_engine_parameters.{name}"


def test_the_engine_says_what_it_is() -> None:
    assert ENGINE.info.workflow_types == {"CWL": ("v1.0", "v1.1", "v1.2")}
    assert (ENGINE.info.name, ENGINE.info.version) == ("cwltool", "3.1.2")


def test_the_parent_does_not_import_cwltool() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import wes_service.engines.cwl as engine;"
        "from weft.config import Settings; engine.create(Settings()); assert 'cwltool' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parents[2])], check=True)


def test_the_step_runs_the_program_with_the_request_in_a_file(tmp_path: Path) -> None:
    work, outcome = tmp_path / "R1" / "work", tmp_path / "outcome.json"
    engine = replace(ENGINE, default_image="busybox", network_parameter="network")
    step = engine.step(RUN, work, outcome, "unix:///s", tmp_path / "token")
    assert step.command[1:3] == ("-m", CHILD)
    options = dict(zip(step.command[3::2], step.command[4::2], strict=True))
    assert (options["--run-id"], options["--default-image"]) == ("R1", "busybox")
    assert options["--network-parameter"] == "network"
    assert "--time-limit-parameter" not in options
    assert json.loads(Path(options["--request"]).read_text())["workflow_params"] == {"a": 1}


def test_where_tasks_run_on_the_host_no_image_is_needed() -> None:
    on_host = Capabilities(name="process", uses_image=False)
    in_images = Capabilities(name="docker", uses_image=True, backend_parameters=frozenset({"network"}))
    assert create(Settings(), on_host).default_image == "host"
    assert create(Settings(), in_images).default_image is None
    assert create(Settings(), in_images).network_parameter == "network"
    assert create(Settings(engine=EngineSettings(default_image="x")), on_host).default_image == "x"


@pytest.mark.parametrize("location", ["/etc/passwd", "../x", "a/../../x", "", "file:///etc/passwd\0"])
def test_an_outcome_that_leads_out_of_the_folder_is_not_believed(tmp_path: Path, location: str) -> None:
    outcome = tmp_path / "outcome.json"
    file = {"class": "File", "location": "results/x"}
    outcome.write_text(json.dumps({"out": file}))
    assert ENGINE.outputs(outcome) == {"out": file}
    outcome.write_text(json.dumps({"out": [{**file, "secondaryFiles": [{"class": "File", "location": location}]}]}))
    assert ENGINE.outputs(outcome) == {}


def test_an_outcome_that_is_none_is_empty(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    assert ENGINE.outputs(outcome) == {}
    outcome.write_text("[1]")
    assert ENGINE.outputs(outcome) == {}


def test_an_image_is_the_pulled_one_else_the_local_one_else_the_default() -> None:
    assert image_of({"dockerPull": "a", "dockerImageId": "b"}, "c", "t") == "a"
    assert image_of({"dockerImageId": "b"}, "c", "t") == "b"
    assert image_of(None, "c", "t") == "c"
    with pytest.raises(CannotRun, match="dockerLoad is not supported"):
        image_of({"dockerLoad": "x.tar"}, "c", "t")
    with pytest.raises(CannotRun, match=r"engine\.default_image"):
        image_of(None, None, "t")


def test_sizes_are_mib_in_cwl_and_gb_in_tes() -> None:
    found = {"cores": 1.5, "ram": 100, "tmpdirSize": 1, "outdirSize": 2}
    assert resources_of(None, found, None) == {"cpu_cores": 2}
    assert resources_of({"ramMin": 100}, found, None)["ram_gb"] == pytest.approx(100 * MIB)
    assert resources_of({"ramMin": 100, "ramMax": 300}, found, 300)["ram_gb"] == pytest.approx(300 * MIB)
    assert resources_of({"outdirMin": 2}, found, None)["disk_gb"] == pytest.approx(3 * MIB)


def test_an_exit_code_means_what_the_tool_says() -> None:
    assert status_of(0, [], [], []) == "success"
    assert status_of(3, [3], [], []) == "success"
    assert status_of(4, [], [4], []) == "temporaryFail"
    assert status_of(0, [], [], [0]) == "permanentFail"
    assert status_of(5, [], [], []) == "permanentFail"


def test_only_files_become_relative() -> None:
    file = {"class": "File", "path": "/w/results/a", "location": "file:///w/results/a", "basename": "a", "n": "/w/x"}
    found = with_relative_paths({"o": [file], "text": "/w/results/a"}, "/w")
    assert found == {
        "o": [{"class": "File", "location": "results/a", "basename": "a", "n": "/w/x"}],
        "text": "/w/results/a",
    }


def test_remote_files_are_found_however_deep_and_replaced() -> None:
    here = {"class": "File", "location": "x.txt"}
    there = {"class": "File", "path": "https://e.org/a", "secondaryFiles": [{"class": "File", "location": "s3://b/c"}]}
    job = {"files": [here, there, there], "text": "https://e.org/not-a-file"}
    assert remote_locations(job) == ["https://e.org/a", "s3://b/c"]
    found = with_fetched(job, {"https://e.org/a": "file:///w/a", "s3://b/c": "file:///w/c"})
    assert found["files"][0] == here
    assert found["files"][1] == {
        "class": "File",
        "location": "file:///w/a",
        "secondaryFiles": [{"class": "File", "location": "file:///w/c"}],
    }
    assert found["text"] == job["text"]
