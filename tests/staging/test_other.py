"""Schemes that fsspec's drivers serve, by the driver that keeps files in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed
from weft.model import FileType
from weft.sections.transfer import FsspecSettings
from weft.staging.other import OtherStager
from weft.staging.stagers import installed


@pytest.fixture
def stager() -> OtherStager:
    return OtherStager(FsspecSettings(schemes=("memory",)))


@pytest.fixture
def folder() -> str:
    """A folder that no other test uses."""
    return f"memory://{uuid.uuid4()}"


def test_files_go_in_and_out(stager: OtherStager, folder: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"body")
    stager.upload(source, f"{folder}/a/b c")
    stager.download(f"{folder}/a/b c", target)
    assert target.read_bytes() == b"body"
    assert [(entry.path, entry.size_bytes) for entry in stager.list(folder)] == [("a/b c", 4)]
    assert stager.kind(f"{folder}/a/b c") is FileType.FILE
    assert stager.kind(f"{folder}/a") is FileType.DIRECTORY
    assert stager.kind(f"{folder}/none") is None


def test_what_is_missing_is_said(stager: OtherStager, folder: str, tmp_path: Path) -> None:
    with pytest.raises(StagingFailed, match="no such file"):
        stager.download(f"{folder}/none", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_chains_and_ways_up_are_refused(stager: OtherStager) -> None:
    for url in ("memory://a::file:///etc/passwd", "memory://a/../b"):
        with pytest.raises(InvalidRequest):
            stager.check(url, writing=False)


@pytest.mark.parametrize("scheme", ["file", "local", "http", "s3"])
def test_a_door_to_this_machine_cannot_be_configured(scheme: str) -> None:
    with pytest.raises(InvalidRequest, match="is not for fsspec"):
        OtherStager(FsspecSettings(schemes=("memory", scheme)))


def test_only_what_the_settings_list_is_served(tmp_path: Path, folder: str) -> None:
    some = installed(Settings(data=tmp_path, fsspec=FsspecSettings(schemes=("memory",))))
    assert "memory" in some.schemes
    some.check_url(f"{folder}/x", writing=True)
    none = installed(Settings(data=tmp_path))
    assert not {"memory", "fsspec"} & set(none.schemes)
    for stagers, url in ((none, folder), (some, "gs://b/x"), (some, "fsspec://b/x")):
        with pytest.raises(InvalidRequest, match="not supported here"):
            stagers.check_url(url, writing=True)
