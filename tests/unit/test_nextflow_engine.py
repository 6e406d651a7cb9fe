"""What weft reads of Nextflow's launcher and of the scripts that Nextflow hands to a cluster."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.sections.backends import EngineSettings
from wes_service.engines.nextflow import create, version_of
from wes_service.engines.nextflow_parameters import read_parameters
from wes_service.engines.nextflow_task import CannotRun, bytes_of, options_of, seconds_of, task_of

WORK = Path("/data/jobs/R1/work")


def a_launcher(folder: Path, text: str = "#!/bin/bash\nNXF_VER=${NXF_VER:-'23.10.1'}\n") -> Path:
    path = folder / "nextflow"
    path.write_text(text)
    return path


def asked(**values: object) -> dict[str, str]:
    return {"weft": base64.b64encode(json.dumps(values).encode()).decode()}


@pytest.mark.parametrize("line", ["NXF_VER=${NXF_VER:-'24.04.4'}", 'NXF_VER="${NXF_VER:-24.04.4}"'])
def test_the_launcher_says_its_version(tmp_path: Path, line: str) -> None:
    assert version_of(a_launcher(tmp_path, f"#!/bin/bash\n{line}\n")) == "24.04.4"


def test_a_program_that_says_no_version_is_not_nextflow(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="does not say"):
        version_of(a_launcher(tmp_path, "#!/bin/bash\n"))


def test_an_engine_of_the_named_launcher(tmp_path: Path) -> None:
    settings = Settings(engine=EngineSettings(nextflow=a_launcher(tmp_path)))
    assert create(settings).info.workflow_types == {"NFL": ("DSL2", "23.10.1")}


def test_a_launcher_that_engines_cannot_see_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_launcher(tmp_path).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"engine\.nextflow"):
        create(Settings())


def test_options_end_with_the_head_of_the_script() -> None:
    script = [
        "#!/bin/bash\n",
        "#SBATCH -c 2\n",
        "#SBATCH --mem 1024M\n",
        "#SBATCH --weft=abc=\n",
        "set -e\n",
        "#SBATCH -t 1\n",
    ]
    assert options_of(script) == {"c": "2", "mem": "1024M", "weft": "abc="}


def test_a_task_has_what_the_process_asked_for() -> None:
    options = {"c": "4", "mem": "2G", "t": "1-02:00:00", **asked(name="p", tag="t", image="docker://i", gpus=1)}
    task = task_of(options, WORK / "x", WORK, default_image=None, tags={"run": "R1"}, time_limit_parameter="time_limit")
    assert (task["name"], task["executors"][0]["image"]) == ("p (t)", "i")
    assert task["resources"] == {
        "cpu_cores": 4,
        "ram_gb": 2.147483648,
        "backend_parameters": {"time_limit": "93600", "gpus": "1"},
    }


def test_a_process_without_a_container_needs_a_default_image() -> None:
    with pytest.raises(CannotRun, match="process p names no container"):
        task_of(asked(name="p"), WORK, WORK, default_image=None, tags={})


@pytest.mark.parametrize("options", [{}, {"weft": "not base64"}])
def test_without_wefts_own_option_nothing_is_sent(options: dict[str, str]) -> None:
    with pytest.raises(CannotRun, match="clusterOptions"):
        task_of(options, WORK, WORK, default_image="i", tags={})


def test_sizes_and_times() -> None:
    assert [bytes_of(size) for size in ("1", "1K", "3G")] == [2**20, 2**10, 3 * 2**30]
    assert [seconds_of(time) for time in ("00:01:30", "2-00:00:00")] == [90, 172_800]


@pytest.mark.parametrize(
    ("name", "value"), [("config", "../x"), ("config", "/etc/x"), ("profile", "-x"), ("entry", "a b"), ("shell", "x")]
)
def test_hostile_parameters_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_parameters({name: value})
    assert refused.value.field == f"workflow_engine_parameters.{name}"
