"""What miniwdl's port says, refuses and reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import Run
from weft.ports import Capabilities
from wes_service.engines.wdl import CHILD, WdlEngine, create
from wes_service.engines.wdl_parameters import ALLOWED
from wes_service.engines.wdl_tes import disk_gb

RUN = Run(
    workflow_type="WDL",
    workflow_type_version="1.0",
    workflow_url="main.wdl",
    workflow_engine="miniwdl",
    workflow_engine_version="1",
)
ENGINE = WdlEngine(version="1.2.3")


@pytest.mark.parametrize("name", ["--cfg", "run-dir", "--env", "runtime-defaults", "--as-me"])
def test_an_unknown_engine_parameter_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENGINE.validate(replace(RUN, workflow_engine_parameters={name: "x"}))
    assert caught.value.field == f"workflow_engine_parameters.{name}"
    assert all(known in str(caught.value.remedy) for known in ALLOWED)


def test_the_engine_says_what_it_is() -> None:
    assert ENGINE.info.workflow_types == {"WDL": ("1.0", "1.1", "draft-2")}
    assert (ENGINE.info.name, ENGINE.info.version) == ("miniwdl", "1.2.3")


def test_the_parent_does_not_import_miniwdl() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import wes_service.engines.wdl as engine;"
        "from weft.config import Settings; engine.create(Settings()); assert 'WDL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parents[2])], check=True)


def test_the_step_runs_the_program(tmp_path: Path) -> None:
    engine = create(Settings(), Capabilities(name="process", uses_image=False))
    step = engine.step(RUN, tmp_path / "R1" / "work", tmp_path / "outcome.json", "unix:///s", tmp_path / "token")
    assert step.command[1:3] == ("-m", CHILD)
    options = dict(zip(step.command[3::2], step.command[4::2], strict=True))
    assert (options["--run-id"], options["--default-image"]) == ("R1", "host")


def test_an_outcome_that_is_none_is_empty(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    assert ENGINE.outputs(outcome) == {}
    outcome.write_text(json.dumps({"w.out": "results/out/x"}))
    assert ENGINE.outputs(outcome) == {"w.out": "results/out/x"}


@pytest.mark.parametrize(
    ("asked", "gigabytes"),
    [
        ("local-disk 10 SSD", 10 * 2**30 / 10**9),
        ("local-disk 10 SSD, /mnt/x 20 HDD", 30 * 2**30 / 10**9),
        ("/mnt/data 5 GB", 5),
        (["1 TiB", "500 GB"], 2**40 / 10**9 + 500),
        (3, 3 * 2**30 / 10**9),
        ("local-disk", None),
    ],
)
def test_disks_are_read(asked: object, gigabytes: float | None) -> None:
    found = disk_gb(asked)
    assert found == (None if gigabytes is None else pytest.approx(gigabytes))
