"""Names of attachments, and writing them without following links."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.errors import InvalidRequest
from wes_service.attachments import Intake, Limits, split_name


def _intake(folder: Path) -> Intake:
    return Intake(folder=folder, limits=Limits(part_bytes=1000, total_bytes=1000))


@pytest.mark.parametrize(
    "name", ["a", "a/b/c", "...", "a..b", "..a", "a b", "ü", "日本", "-rf", "a:b", "~", "*", "a\u200db"]
)
def test_a_plain_name_is_kept(name: str) -> None:
    assert "/".join(split_name(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "..",
        "a/..",
        "../a",
        ".",
        "a/.",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x85",
        "\ud800",
        chr(0xFFFD),
    ],
)
def test_a_name_that_is_no_plain_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        split_name(name)
    assert refused.value.field == "workflow_attachment"
    assert refused.value.remedy
    refused.value.message.encode()


@pytest.mark.parametrize("name", [".weft", ".weft/x", ".Weft/x"])
def test_the_servers_own_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        split_name(name)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / "jobs" / "1" / "work"
    outside.mkdir()
    work.mkdir(parents=True)
    (work / "folder").symlink_to(outside)
    (work / "file").symlink_to(outside / "file")
    for name in ("folder/x", "file"):
        with pytest.raises(OSError, match=r"."):
            _intake(work).add(name, [b"x"])
    assert list(outside.iterdir()) == []


def test_files_in_one_folder_do_not_collide(tmp_path: Path) -> None:
    intake = _intake(tmp_path / "jobs" / "1" / "work")
    for name in ("a/b/x", "a/b/y", "a/x", "A2/x"):
        intake.add(name, [b"1", b"", b"2"])
    assert (intake.folder / "a/b/y").read_bytes() == b"12"
    assert intake.names == ["a/b/x", "a/b/y", "a/x", "A2/x"]
