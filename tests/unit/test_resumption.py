"""A work folder copied for a run that resumes another: nothing is followed, nothing is lost, times are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weft.errors import StagingFailed
from weft.folders import Folders
from weft.resumption import Resumption, resumed_run


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two runs: ``old`` ended, ``new`` has attachments."""
    made = Folders(tmp_path)
    for name in ("old", "new"):
        made.work(name).mkdir(parents=True)
    return made


def write(path: Path, text: str, at: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(at, at))
    return path


def test_times_are_kept_and_attachments_win(folders: Folders) -> None:
    old, new = folders.work("old"), folders.work("new")
    write(old / "a/made.txt", "made", 1_111)
    write(old / "same.txt", "same", 2_222)
    write(old / "changed.txt", "before", 3_333)
    write(old / "was-a-folder/x", "x", 3_333)
    write(new / "same.txt", "same", 9_999)
    write(new / "changed.txt", "after!", 9_999)
    write(new / "was-a-folder", "file", 9_999)
    Resumption(folders).bring("old", "new")
    found = {str(path.relative_to(new)): path for path in new.rglob("*") if path.is_file()}
    assert {name: (path.read_text(), path.stat().st_mtime_ns) for name, path in found.items()} == {
        "a/made.txt": ("made", 1_111),
        "same.txt": ("same", 2_222),
        "changed.txt": ("after!", 9_999),
        "was-a-folder": ("file", 9_999),
    }
    (new / "a/made.txt").write_text("made again")
    Resumption(folders).bring("old", "new")
    assert (new / "a/made.txt").read_text() == "made again"
    assert (old / "a/made.txt").read_text() == "made"


def test_a_death_between_the_renames_is_healed(folders: Folders) -> None:
    write(folders.work("old") / "made.txt", "made", 1_111)
    write(folders.work("new") / "Snakefile", "rule", 1_111)
    folders.work("new").rename(folders.work("new").with_name("attached"))
    write(folders.work("new").with_name("work.half") / "made.txt", "ma", 1_111)
    Resumption(folders).bring("old", "new")
    assert {path.name: path.read_text() for path in folders.work("new").iterdir()} == {
        "made.txt": "made",
        "Snakefile": "rule",
    }


def test_no_link_is_followed_and_no_special_file_is_taken(folders: Folders, tmp_path: Path) -> None:
    old, new = folders.work("old"), folders.work("new")
    secret = write(tmp_path / "weft.db", "secret", 1_111)
    write(old / "a/made.txt", "made", 1_111)
    (old / "out").symlink_to(secret)
    (old / "folder-out").symlink_to(tmp_path)
    (old / "inside").symlink_to(old / "a/made.txt")
    (old / "near").symlink_to("a/made.txt")
    (old / "Snakefile").symlink_to(secret)
    (old / "sub").symlink_to(tmp_path)
    os.mkfifo(old / "pipe")
    write(new / "Snakefile", "rule", 9_999)
    write(new / "sub/x.smk", "x", 9_999)
    Resumption(folders).bring("old", "new")
    assert sorted(path.name for path in new.iterdir()) == sorted(
        ["Snakefile", "a", "folder-out", "inside", "near", "out", "sub"]
    )
    assert (new / "out").readlink() == secret
    assert (new / "inside").readlink() == new / "a/made.txt"
    assert (new / "near").read_text() == "made"
    assert not (new / "Snakefile").is_symlink()
    assert (new / "Snakefile").read_text() == "rule"
    assert not (new / "sub").is_symlink()
    assert secret.read_text() == "secret"
    assert not (tmp_path / "x.smk").exists()


def test_a_folder_that_is_gone_is_said_and_the_attachments_stay(folders: Folders) -> None:
    write(folders.work("new") / "Snakefile", "rule", 1_111)
    folders.work("old").rmdir()
    with pytest.raises(StagingFailed, match="run old cannot be resumed"):
        Resumption(folders).bring("old", "new")
    assert [path.name for path in folders.job("new").rglob("*")] == ["work", "Snakefile"]


@pytest.mark.parametrize("name", ["resume_from", "--resume-from", "resume-from"])
def test_the_parameter_is_known_by_all_its_spellings(name: str) -> None:
    assert resumed_run({"cores": "1", name: "R"}) == "R"
    assert resumed_run({"cores": "1"}) is None
