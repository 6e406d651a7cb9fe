"""Datasets: read by name, at whichever site holds them, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest, StagingFailed
from weft.model import FileType
from weft.staging import datasets
from weft.staging.stagers import Stagers, installed


@pytest.fixture
def stagers(tmp_path: Path) -> Stagers:
    held = tmp_path / "held"
    (held / "deep").mkdir(parents=True)
    (held / "a b.txt").write_text("words")
    (held / "deep" / "c").write_text("more")
    (tmp_path / "secret").write_text("no")
    (held / "out").symlink_to(tmp_path / "secret")
    return installed(Settings(data=tmp_path / "data", datasets={"cohort-1": held}))


def test_a_file_of_a_dataset_is_seen_in_place_by_its_url(stagers: Stagers, tmp_path: Path) -> None:
    url = "dataset://cohort-1/a%20b.txt"
    stagers.check_url(url, writing=False)
    stager = stagers.for_url(url)
    assert stager.local(url) == tmp_path / "held" / "a b.txt"
    assert (stager.kind(url), stager.kind("dataset://cohort-1/deep")) == (FileType.FILE, FileType.DIRECTORY)


@pytest.mark.parametrize(
    "url", ["dataset://other/a", "dataset://cohort-1/../secret", "dataset://cohort-1/%2e%2e/secret", "dataset:///etc"]
)
def test_what_is_not_in_a_dataset_is_refused(stagers: Stagers, url: str) -> None:
    with pytest.raises((Forbidden, InvalidRequest)):
        stagers.check_url(url, writing=False)


def test_a_link_that_leads_out_is_not_followed(stagers: Stagers, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed):
        stagers.for_url("dataset://cohort-1/out").download("dataset://cohort-1/out", tmp_path / "stolen")
    assert not (tmp_path / "stolen").exists()


def test_a_dataset_is_never_written_to(stagers: Stagers) -> None:
    with pytest.raises(Forbidden, match="not written to"):
        stagers.check_url("dataset://cohort-1/new", writing=True)


def test_a_runs_parameters_name_copies_that_go_when_it_ends(stagers: Stagers, tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    (workspace / "datasets").symlink_to(tmp_path / "held")  # planted by an earlier attempt
    params = {"one": "dataset://cohort-1/a%20b.txt", "all": [{"folder": "dataset://cohort-1/deep"}], "n": 5}
    assert datasets.brought(params, workspace, stagers) == {
        "one": "datasets/cohort-1/a b.txt",
        "all": [{"folder": "datasets/cohort-1/deep"}],
        "n": 5,
    }
    assert (workspace / "datasets" / "cohort-1" / "deep" / "c").read_text() == "more"
    datasets.remove(workspace)
    assert list(workspace.iterdir()) == []
    assert (tmp_path / "held" / "a b.txt").exists()


def test_a_run_that_names_a_dataset_of_another_site_says_so(stagers: Stagers, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed, match="workflow_params: dataset other is not at this site"):
        datasets.brought({"x": "dataset://other/a"}, tmp_path, stagers)
