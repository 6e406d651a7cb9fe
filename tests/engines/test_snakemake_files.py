"""The files that one Snakemake job needs and makes, where its task does not see the run's folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weft.model import FileType, Input, Output
from weft.staging.wildcards import expand
from wes_service.engines.snakemake_files import files_of
from wes_service.engines.snakemake_job import CannotRun


class File(str):
    """A path as Snakemake has it."""

    is_directory = False
    flags: dict[str, Any] = {}  # noqa: RUF012


class Folder(File):
    is_directory = True


class Touched(File):
    flags = {"touch": True}  # noqa: RUF012


def a_job(**changes: Any) -> Any:
    fields = {"input": [], "output": [], "log": [], "shadow_dir": None, "rule": SimpleNamespace(name="r")}
    return SimpleNamespace(**{**fields, **changes})


def described(job: Any, work: Path, script: str = "none.sh") -> Any:
    return files_of(job, work, work, work / script)


def test_inputs_and_outputs_are_named_by_url_and_the_folder_is_a_volume(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    (tmp_path / "a b").write_text("a")
    job = a_job(input=[File("a b"), File("seen"), File("a b")], output=[File("out/x"), Folder("dir"), Touched("done")])
    found = described(job, tmp_path)
    assert [(item["path"], item["type"]) for item in found["inputs"]] == [
        (f"{tmp_path}/a b", "FILE"),
        (f"{tmp_path}/seen", "DIRECTORY"),
    ]
    assert [(item["url"], item["type"]) for item in found["outputs"]] == [
        ((tmp_path / "out/x").as_uri(), "FILE"),
        ((tmp_path / "dir").as_uri(), "DIRECTORY"),
    ]
    assert found["volumes"] == [str(tmp_path)]
    for item in found["inputs"]:
        Input(**{**item, "type": FileType(item["type"])})


@pytest.mark.parametrize("name", ["rule.log", "a[1]*.log", "-x", "ü?"])
def test_a_log_is_named_by_a_pattern_that_it_matches_and_that_may_match_nothing(tmp_path: Path, name: str) -> None:
    (item,) = described(a_job(log=[File(f"logs/{name}")]), tmp_path)["outputs"]
    output = Output(**{**item, "type": FileType(item["type"])})
    assert output.path_prefix == f"{tmp_path}/logs"

    def names(folder: str) -> list[str]:
        return [name, "other.log", "rule_log"] if folder == f"{tmp_path}/logs" else []

    assert expand(output.path, names) == [f"{tmp_path}/logs/{name}"]


def test_the_script_of_a_long_command_goes_along(tmp_path: Path) -> None:
    (tmp_path / "1.sh").write_text("true")
    assert [item["path"] for item in described(a_job(), tmp_path, "1.sh")["inputs"]] == [f"{tmp_path}/1.sh"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": [File("/data/elsewhere")]}, "outside of the run's folder"),
        ({"output": [File("/data/elsewhere")]}, "outside of the run's folder"),
        ({"shadow_dir": ".snakemake/shadow/1"}, "shadow folders need"),
    ],
)
def test_what_no_task_could_see_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotRun, match=words):
        described(a_job(**changes), tmp_path)
