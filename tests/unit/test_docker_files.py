"""Files that a container can write to are opened without following its links out."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from executors.docker_files import NotAFile, make_folder_beneath, read_beneath, write_beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("mine")
    (root / "way").symlink_to(tmp_path / "secret")
    (root / "link").symlink_to(tmp_path / "secret" / "file")
    os.mkfifo(root / "fifo")
    return root


def test_a_regular_file_is_read(root: Path) -> None:
    with os.fdopen(read_beneath(root, PurePosixPath("folder/file"))) as stream:
        assert stream.read() == "mine"


def test_a_mount_that_is_one_file_is_read(root: Path) -> None:
    with os.fdopen(read_beneath(root / "folder" / "file", PurePosixPath())) as stream:
        assert stream.read() == "mine"


@pytest.mark.parametrize("name", ["link", "way/file", "fifo", "folder"])
def test_links_and_what_is_no_file_are_not_read(root: Path, name: str) -> None:
    with pytest.raises(NotAFile):
        read_beneath(root, PurePosixPath(name))


@pytest.mark.parametrize("name", ["link", "way/file", "way/new", "fifo", "folder"])
def test_links_and_what_is_no_file_are_not_written(root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotAFile):
        write_beneath(root, PurePosixPath(name), None, append=True)
    assert (tmp_path / "secret" / "file").read_text() == "secret"
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["file"]


def test_a_file_is_emptied_and_its_missing_folders_are_made(root: Path) -> None:
    os.close(write_beneath(root, PurePosixPath("folder/file"), None, append=True))
    assert (root / "folder" / "file").read_text() == ""
    os.close(write_beneath(root, PurePosixPath("new/deep/file"), None, append=True))
    assert (root / "new" / "deep" / "file").is_file()


@pytest.mark.parametrize("name", ["link", "way/new", "fifo", "folder/file"])
def test_folders_are_not_made_through_links(root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotAFile):
        make_folder_beneath(root, PurePosixPath(name), (1234, 1235))
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["file"]


def test_a_folder_is_made_with_its_parents_and_may_be_there(root: Path) -> None:
    for _ in range(2):
        make_folder_beneath(root, PurePosixPath("folder/new/deep"), (os.getuid(), os.getgid()))
    assert (root / "folder" / "new" / "deep").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_new_belongs_to_the_owner(root: Path) -> None:
    os.close(write_beneath(root, PurePosixPath("new/file"), (1234, 1235), append=True))
    for path in (root / "new", root / "new" / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
