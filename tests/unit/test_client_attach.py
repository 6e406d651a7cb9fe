"""Which files travel with a run, and what kind of workflow it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.client import attach, workflow
from weft.client.errors import BadRequest


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names_below(folder: Path, *exclude: str) -> list[str]:
    return [item.name for item in attach.below(folder, exclude)]


def test_everything_below_the_folder_travels_by_its_relative_name(tmp_path: Path) -> None:
    write(tmp_path, "Snakefile", "rules/a.smk", "data/x/y.fq")
    assert names_below(tmp_path) == ["Snakefile", "data/x/y.fq", "rules/a.smk"]


def test_hidden_and_compiled_files_stay_here(tmp_path: Path) -> None:
    write(tmp_path, "Snakefile", ".git/config", ".env", ".snakemake/log/x", "lib/__pycache__/a.pyc")
    assert names_below(tmp_path) == ["Snakefile"]


def test_what_weftignore_or_exclude_matches_stays_here(tmp_path: Path) -> None:
    write(tmp_path, "Snakefile", "results/a.txt", "deep/b.bam", "c.bam", "notes.md")
    (tmp_path / ".weftignore").write_text("# made by hand\nresults/\n*.bam\n")
    assert names_below(tmp_path, "notes*") == ["Snakefile"]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "secret", "workflow/Snakefile")
    folder = tmp_path / "workflow"
    (folder / "stolen").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(folder / "Snakefile")
    (folder / "loop").symlink_to(folder)
    assert names_below(folder) == ["Snakefile", "linked"]


def test_too_much_is_refused_and_the_largest_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "large.bam").write_bytes(b"x" * 2_000_000)
    write(tmp_path, "Snakefile")
    with pytest.raises(BadRequest, match=r"2 files, 2\.0 MB .*large\.bam \(2\.0 MB\)") as caught:
        attach.guard(attach.below(tmp_path), 1)
    assert "--max-attach-mb" in str(caught.value.remedy)
    attach.guard(attach.below(tmp_path), 3)


def test_a_file_can_be_attached_under_another_name(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml")
    item = attach.named(f"config/b.yaml={tmp_path / 'a.yaml'}")
    assert (item.name, item.source) == ("config/b.yaml", tmp_path / "a.yaml")
    assert attach.named(str(tmp_path / "a.yaml")).name == "a.yaml"


def test_attaching_what_is_not_there_is_refused() -> None:
    with pytest.raises(BadRequest, match="not-there"):
        attach.named("not-there")


def test_a_folder_stands_for_its_main_file(tmp_path: Path) -> None:
    write(tmp_path, "a/Snakefile", "b/workflow/Snakefile", "c/main.cwl", "d/readme")
    assert workflow.main_file(tmp_path / "a") == tmp_path / "a/Snakefile"
    assert workflow.folder_of(workflow.main_file(tmp_path / "b")) == tmp_path / "b"
    assert workflow.folder_of(workflow.main_file(tmp_path / "c")) == tmp_path / "c"
    for name in ("d", "not-there"):
        with pytest.raises(BadRequest):
            workflow.main_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("Snakefile", "SMK"),
        ("x/rules.smk", "SMK"),
        ("A.CWL", "CWL"),
        ("https://host/path/main.nf?token=x", "NFL"),
        ("flow.wdl", "WDL"),
    ],
)
def test_the_name_tells_the_language(name: str, language: str) -> None:
    assert workflow.language_of(name) == language


def test_a_name_that_tells_nothing_is_refused_with_the_option_to_use() -> None:
    with pytest.raises(BadRequest) as caught:
        workflow.language_of("pipeline.txt")
    assert "--type" in str(caught.value.remedy)


def offered(**types: list[str]) -> dict[str, object]:
    return {"workflow_type_versions": {name: {"workflow_type_version": listed} for name, listed in types.items()}}


@pytest.mark.parametrize(
    ("language", "info", "expected"),
    [
        ("SMK", offered(Snakemake=["9", "9.27", "9.27.1"]), ("Snakemake", "9.27.1")),
        ("snakemake", offered(SMK=["9.3", "9.27"]), ("SMK", "9.27")),
        ("CWL", offered(CWL=["v1.0", "v1.2", "v1.1"]), ("CWL", "v1.2")),
        ("SMK", {}, ("SMK", "9")),
        ("SMK", {"workflow_type_versions": None}, ("SMK", "9")),
        ("GALAXY", offered(galaxy=["24.1"]), ("galaxy", "24.1")),
    ],
)
def test_type_and_version_are_taken_in_the_servers_own_words(
    language: str, info: dict[str, object], expected: tuple[str, str]
) -> None:
    assert workflow.type_and_version(language, None, info) == expected


def test_a_version_that_was_asked_for_is_kept() -> None:
    assert workflow.type_and_version("CWL", "v1.0", offered(CWL=["v1.2"])) == ("CWL", "v1.0")
