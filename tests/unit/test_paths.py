"""Names from strangers, and opening files without leaving a folder."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from weft.errors import InvalidRequest
from weft.paths import LeadsOut, Tree, container_path, inside, open_beneath, relative_name


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("/work", "/work"),
        ("/work/", "/work"),
        ("//work//a/./b", "/work/a/b"),
        ("/work/ä ö'\"b", "/work/ä ö'\"b"),
        ("/processed", "/processed"),
        ("/device/x", "/device/x"),
        ("/work/..hidden", "/work/..hidden"),
        ("/work/*.txt", "/work/*.txt"),
    ],
)
def test_a_container_path_is_normalised(text: str, normal: str) -> None:
    assert container_path(text, "f") == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "work",
        "./work",
        "/",
        "//",
        "/.",
        "/a/../b",
        "/..",
        "/a\0b",
        "/a\nb",
        "/a\x7f",
        "/proc",
        "/proc/1/mem",
        "/sys/fs",
        "/dev",
        "/dev/sda",
        "//dev/sda",
        "/./proc/self",
        "~/x",
        "C:\\x",
    ],
)
def test_a_bad_container_path_names_its_field(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        container_path(text, "inputs[3].path")
    assert caught.value.field == "inputs[3].path"
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", ".", "/a", "..", "a/../b", "a/..", "a\0", "a\nb"])
def test_a_bad_relative_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        relative_name(text, "f")


def test_inside_joins_a_good_name_and_refuses_a_bad_one(tmp_path: Path) -> None:
    assert inside(tmp_path, "a//b/./c") == tmp_path / "a/b/c"
    with pytest.raises(InvalidRequest):
        inside(tmp_path, "../x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with all kinds of links, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root-evil").mkdir()
    (tmp_path / "root-evil/secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("good")
    links = {
        "near": "a/b/file",
        "far": str(root / "a/b/file"),
        "folder": "a",
        "up": "a/b/../../a/b/file",
        "chain": "near",
        "out": "../secret",
        "out-absolute": str(tmp_path / "secret"),
        "out-folder": "..",
        "out-sibling": "../root-evil",
        "round": "round",
        "dangling": "nothing",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def read(handle: int) -> str:
    with os.fdopen(handle) as stream:
        return stream.read()


@pytest.mark.parametrize("name", ["a/b/file", "near", "far", "folder/b/file", "up", "chain"])
def test_links_that_stay_inside_are_followed(root: Path, name: str) -> None:
    assert read(open_beneath(root, name)) == "good"


@pytest.mark.parametrize("name", ["out", "out-absolute", "out-folder/secret", "out-sibling/secret"])
def test_links_that_lead_out_are_refused(root: Path, name: str) -> None:
    with pytest.raises(LeadsOut) as caught:
        open_beneath(root, name)
    assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_names_that_lead_out_are_refused(root: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        open_beneath(root, name)


def test_a_circle_of_links_ends(root: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_beneath(root, "round")


def test_what_is_missing_is_said_as_the_system_says_it(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(root, "dangling")
    with pytest.raises(NotADirectoryError):
        open_beneath(root, "a/b/file/x")


def test_creating_never_writes_through_a_link(root: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_beneath(root, "out", os.O_WRONLY | os.O_CREAT)
    handle = open_beneath(root, "folder/new", os.O_WRONLY | os.O_CREAT)
    os.write(handle, b"x")
    os.close(handle)
    assert (root / "a/new").read_text() == "x"
    assert (root.parent / "secret").read_text() == "secret"


def test_a_pipe_does_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe")
    os.close(open_beneath(root, "pipe"))


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = open_descriptors()
    for name in ("a/b/file", "far", "out", "round", "nothing", "up"):
        try:
            os.close(open_beneath(root, name))
        except OSError:
            continue
    assert open_descriptors() == before


def test_a_folder_swapped_for_a_link_in_a_race_never_shows_what_is_outside(root: Path) -> None:
    (root / "x").mkdir()
    (root / "x/secret").write_text("good")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            (root / "x").rename(root / "y")
            (root / "x").symlink_to("../root-evil")
            (root / "x").unlink()
            (root / "y").rename(root / "x")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = set()
        for _ in range(2000):
            try:
                seen.add(read(open_beneath(root, "x/secret")))
            except OSError:
                continue
    finally:
        done.set()
        thread.join()
    assert seen == {"good"}


def test_an_absolute_link_means_the_path_in_the_tree_of_mounts(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_text("good")
    (tmp_path / "w/link").symlink_to("/data/file")
    (tmp_path / "w/out").symlink_to("/etc/passwd")
    tree = Tree({"/work": tmp_path / "w", "/data": tmp_path / "d"})
    assert read(tree.open("/work/link")) == "good"
    assert read(tree.open("/work/../data/file")) == "good"
    with pytest.raises(LeadsOut):
        tree.open("/work/out")
    with pytest.raises(LeadsOut):
        tree.open("/")


def test_the_deepest_folder_of_a_tree_wins(tmp_path: Path) -> None:
    (tmp_path / "w/in").mkdir(parents=True)
    (tmp_path / "w/in/file").write_text("placeholder")
    (tmp_path / "real").write_text("real")
    tree = Tree({"/w": tmp_path / "w", "/w/in/file": tmp_path / "real"})
    assert read(tree.open("/w/in/file")) == "real"
    assert [path for path, _ in tree.files("/w", lambda *_: None)] == ["/w/in/file"]
    assert tree.host(tree.find("/w/in/file")[0]) == tmp_path / "real"


def test_walking_skips_and_says_what_is_no_file_inside(root: Path) -> None:
    os.mkfifo(root / "pipe")
    skipped: dict[str, str] = {}
    found = [path for path, _ in Tree({"/r": root}).files("/r", skipped.__setitem__)]
    assert "/r/a/b/file" in found
    assert "/r/near" in found
    assert "/r/folder/b/file" in found
    assert skipped["/r/out"] == "a link that leads out"
    assert skipped["/r/pipe"] == "neither a file nor a folder"
    assert "/r/round" in skipped
    assert not any("secret" in path for path in found)


def test_a_link_to_a_folder_above_does_not_turn_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").touch()
    (tmp_path / "a/back").symlink_to("..")
    skipped: dict[str, str] = {}
    assert [path for path, _ in Tree({"/r": tmp_path}).files("/r", skipped.__setitem__)] == ["/r/a/f"]
    assert skipped == {"/r/a/back": "a link that turns in a circle"}


def test_missing_folders_are_made_inside_only(root: Path) -> None:
    tree = Tree({"/r": root})
    os.close(tree.folder("/r/new/deep", make=True))
    assert (root / "new/deep").is_dir()
    with pytest.raises(LeadsOut):
        tree.folder("/r/out-folder/new", make=True)
    with pytest.raises(LeadsOut):
        tree.folder("/elsewhere", make=True)
