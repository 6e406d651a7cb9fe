"""``file://`` URLs and bare paths, and what keeps them in their folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weft.errors import Forbidden, InvalidRequest, StagingFailed, WeftError
from weft.model import FileType
from weft.ports import Root
from weft.staging.file import FileStager, create, local_path

ODD = ["a b", "quo'te\"", "new\nline", "ümlaut", "per%20cent", "hash#", "query?x=1", "-rf", "*", "semi;colon", "$HOME"]


@pytest.fixture
def stager(data: Path, tmp_path: Path) -> FileStager:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site-evil").mkdir()
    (tmp_path / "site-evil/x").write_text("secret")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/weft.db").write_text("secret")
    return FileStager([Root(data)], closed=tmp_path / "data")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("FILE:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file://localhost/a/b", "/a/b"),
        ("file:///a%20b/%C3%BC", "/a b/ü"),
        ("/a%20b", "/a%20b"),
        ("file:///a?b#c", "/a?b#c"),
        ("/a?b#c", "/a?b#c"),
    ],
)
def test_urls_are_decoded_and_bare_paths_are_not(url: str, path: str) -> None:
    assert local_path(url) == path


@pytest.mark.parametrize(
    "url",
    [
        *("file://host/a", "file://a", "file:", "file://", "file:a", "a/b", "/a/../b", "file:///a/%2e%2e/b"),
        *("/a\0b", "file:///a%00b", "file://u:p@localhost/a", "..", ""),
    ],
)
def test_a_url_that_can_never_work_is_the_callers_mistake(url: str) -> None:
    with pytest.raises(InvalidRequest):
        local_path(url)


def test_only_listed_folders_are_open(stager: FileStager, data: Path, tmp_path: Path) -> None:
    stager.check(str(data / "x"), writing=False)
    stager.check(f"file://{data}/x", writing=True)
    for path in (tmp_path / "secret", tmp_path / "site-evil/x", "/etc/passwd", "/", tmp_path):
        with pytest.raises(Forbidden) as caught:
            stager.check(str(path), writing=False)
        assert str(data) in str(caught.value.remedy)


def test_without_listed_folders_nothing_is_open(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="not under a folder"):
        FileStager([]).check("/x", writing=False)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_go_in_and_out_exactly(stager: FileStager, data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_text(name)
    for url in (stager.join(str(data), name), stager.join(f"file://{data}/sub", name)):
        stager.upload(tmp_path / "source", url)
        stager.download(url, tmp_path / "target")
        assert (tmp_path / "target").read_text() == name
    assert (data / name).is_file()
    assert (data / "sub" / name).is_file()
    assert {entry.path for entry in stager.list(str(data))} == {name, f"sub/{name}"}


def test_bytes_that_are_not_utf8_survive_in_urls(stager: FileStager, data: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / "source").write_text("x")
    url = stager.join(f"file://{data}", name)
    assert url.endswith("/%FF%FE")
    stager.upload(tmp_path / "source", url)
    assert (data / name).is_file()


def test_the_mode_of_a_copied_file_is_kept(stager: FileStager, data: Path, tmp_path: Path) -> None:
    (data / "run.sh").write_text("#!")
    (data / "run.sh").chmod(0o4750)
    stager.download(str(data / "run.sh"), tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o750
    (tmp_path / "copy").chmod(0o6711)
    stager.upload(tmp_path / "copy", str(data / "back"))
    assert (data / "back").stat().st_mode & 0o7777 == 0o711


def test_a_copy_is_never_the_same_file(stager: FileStager, data: Path, tmp_path: Path) -> None:
    (data / "a").write_text("x")
    stager.download(str(data / "a"), tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_ino != (data / "a").stat().st_ino


def test_an_empty_file_and_a_large_one_are_copied(stager: FileStager, data: Path, tmp_path: Path) -> None:
    for name, body in (("empty", b""), ("large", os.urandom(3 << 20))):
        (data / name).write_bytes(body)
        stager.download(str(data / name), tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == body


LINKS = {
    "near": "good",
    "deep": "folder/../good",
    "out": "../secret",
    "out-sibling": "../site-evil/x",
    "out-absolute": "/etc/passwd",
    "weft": "../data/weft.db",
}


@pytest.fixture
def linked(stager: FileStager, data: Path) -> FileStager:
    (data / "folder").mkdir()
    (data / "good").write_text("good")
    for name, target in LINKS.items():
        (data / name).symlink_to(target)
    (data / "absolute").symlink_to(data / "good")
    return stager


@pytest.mark.parametrize("name", ["near", "deep", "absolute"])
def test_links_inside_are_followed(linked: FileStager, data: Path, tmp_path: Path, name: str) -> None:
    linked.download(str(data / name), tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "good"
    assert linked.local(f"file://{data}/{name}") == data / "good"


@pytest.mark.parametrize("name", ["out", "out-sibling", "out-absolute", "weft"])
def test_links_out_are_refused_in_every_way(linked: FileStager, data: Path, tmp_path: Path, name: str) -> None:
    url = str(data / name)
    for act in (lambda: linked.download(url, tmp_path / "copy"), lambda: linked.local(url), lambda: linked.list(url)):
        with pytest.raises(StagingFailed, match="leads out"):
            act()
    assert linked.kind(url) is None
    assert not (tmp_path / "copy").exists()


def test_a_listing_with_a_link_out_fails_instead_of_leaving_it_out(linked: FileStager, data: Path) -> None:
    with pytest.raises(StagingFailed, match="leads out"):
        linked.list(str(data))


def test_an_upload_replaces_a_link_and_never_writes_through_it(linked: FileStager, data: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("mine")
    linked.upload(tmp_path / "source", str(data / "out"))
    assert (tmp_path / "secret").read_text() == "secret"
    assert (data / "out").read_text() == "mine"
    assert not (data / "out").is_symlink()
    (data / "door").symlink_to("../site-evil")
    with pytest.raises(StagingFailed, match="leads out"):
        linked.upload(tmp_path / "source", str(data / "door/x"))
    with pytest.raises(StagingFailed, match="leads out"):
        linked.upload(tmp_path / "source", str(data / "door/new/x"))
    assert (tmp_path / "site-evil/x").read_text() == "secret"
    assert not (tmp_path / "site-evil/new").exists()


def test_wefts_own_folder_is_closed_even_below_a_root(tmp_path: Path, stager: FileStager) -> None:
    wide = FileStager([Root(tmp_path)], closed=tmp_path / "data")
    (tmp_path / "back-door").symlink_to("data")
    (tmp_path / "source").write_text("x")
    for url in (f"{tmp_path}/data/weft.db", f"file://{tmp_path}/data/weft.db", f"{tmp_path}/back-door/weft.db"):
        with pytest.raises(Forbidden):
            wide.download(url, tmp_path / "copy")
        with pytest.raises(Forbidden):
            wide.upload(tmp_path / "source", url)
    for act in (wide.list, wide.local):
        with pytest.raises(Forbidden):
            act(str(tmp_path))
    wide.upload(tmp_path / "source", f"{tmp_path}/beside")
    assert (tmp_path / "data/weft.db").read_text() == "secret"


def test_a_runs_own_work_folder_is_open_to_its_tasks_only(stager: FileStager, tmp_path: Path) -> None:
    work = tmp_path / "data/jobs/r/work"
    work.mkdir(parents=True)
    (work / "a").write_text("x")
    with pytest.raises(Forbidden):
        stager.check(str(work / "a"), writing=False)
    more = stager.with_roots([Root(work, writable=True)])
    assert more.local(str(work / "a")) == work / "a"
    with pytest.raises(Forbidden):
        more.check(str(tmp_path / "data/weft.db"), writing=False)


def test_what_is_missing_is_said_precisely(stager: FileStager, data: Path, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed) as caught:
        stager.download(f"file://{data}/no%20such", tmp_path / "copy")
    assert caught.value.message == f"no such file or directory at file://{data}/no%20such"
    (data / "folder").mkdir()
    with pytest.raises(StagingFailed, match="not a file"):
        stager.download(str(data / "folder"), tmp_path / "copy")
    with pytest.raises(StagingFailed, match="is a directory"):
        stager.upload(tmp_path / "secret", str(data / "folder"))
    assert [*tmp_path.glob("copy*")] == []
    assert [path.name for path in data.iterdir()] == ["folder"]


def test_special_files_are_refused_and_do_not_block(stager: FileStager, data: Path, tmp_path: Path) -> None:
    os.mkfifo(data / "pipe")
    for act in (lambda: stager.download(str(data / "pipe"), tmp_path / "x"), lambda: stager.local(str(data / "pipe"))):
        with pytest.raises(StagingFailed):
            act()


def test_an_upload_onto_itself_changes_nothing(stager: FileStager, data: Path) -> None:
    (data / "a").write_text("x")
    before = (data / "a").stat()
    stager.upload(data / "a", f"file://{data}/a")
    assert (data / "a").stat().st_ino == before.st_ino
    assert (data / "a").read_text() == "x"


def test_a_repeated_upload_replaces(stager: FileStager, data: Path, tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "source").write_text(text)
        stager.upload(tmp_path / "source", str(data / "new/deep/x"))
        assert (data / "new/deep/x").read_text() == text
    assert [path.name for path in (data / "new/deep").iterdir()] == ["x"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the program to be run as root")
def test_what_is_stored_belongs_to_the_owner_of_the_folder(stager: FileStager, data: Path, tmp_path: Path) -> None:
    os.chown(data, 1234, 1235)
    (tmp_path / "source").write_text("x")
    stager.upload(tmp_path / "source", str(data / "new/x"))
    for path in (data / "new", data / "new/x"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_the_kind_is_looked_up(stager: FileStager, data: Path) -> None:
    (data / "a").touch()
    assert stager.kind(str(data)) is FileType.DIRECTORY
    assert stager.kind(str(data / "a")) is FileType.FILE
    assert stager.kind(str(data / "b")) is None


def test_a_root_that_is_a_link_itself_works_under_both_names(tmp_path: Path, data: Path) -> None:
    (data / "a").write_text("x")
    (data / "absolute").symlink_to(data / "a")
    (tmp_path / "alias").symlink_to(data)
    stager = FileStager([Root(tmp_path / "alias")])
    assert stager.local(str(tmp_path / "alias/absolute")) == data / "a"
    assert stager.local(str(data / "a")) == data / "a"


def test_the_plugin_reads_the_settings(settings, data: Path, tmp_path: Path) -> None:
    stager = create(settings)
    stager.check(str(data / "x"), writing=False)
    with pytest.raises(WeftError):
        stager.check(str(tmp_path / "x"), writing=False)
