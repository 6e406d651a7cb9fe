"""What a sandbox shows of an unpacked image, and where room is made for mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from executors.slurm_images import find, show
from weft.errors import ExecutorRefused


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "alpine+3"
    for folder in ("etc", "usr/bin", "usr/share", "proc", "dev", "tmp", "srv/data", "ch"):
        (root / folder).mkdir(parents=True)
    for file in ("etc/passwd", "etc/group", "etc/hosts", "srv/note"):
        (root / file).touch()
    (root / "bin").symlink_to("usr/bin")
    (root / "ch" / "environment").write_text("PATH=/usr/bin\nWITH=a=b\nodd\n=odd\n")
    return root


def bound(image: Path, *targets: str) -> dict[str, str]:
    return {
        mount.target: str(mount.source.relative_to(image)) for mount in show(image, targets).mounts if mount.read_only
    }


def test_folders_are_bound_whole_and_links_stay_links(image: Path) -> None:
    assert bound(image) == {"/ch": "ch", "/etc": "etc", "/srv": "srv", "/usr": "usr"}
    assert show(image, ()).links == {"/bin": "usr/bin"}


def test_a_mount_at_a_place_that_the_image_has_needs_no_room(image: Path) -> None:
    assert bound(image, "/srv/data") == bound(image)
    assert "/usr" not in bound(image, "/usr")


def test_room_is_made_for_a_mount_only_where_it_is_missing(image: Path) -> None:
    found = bound(image, "/srv/other/deep", "/quite/new")
    assert found == {"/ch": "ch", "/etc": "etc", "/srv/data": "srv/data", "/srv/note": "srv/note", "/usr": "usr"}


def test_an_image_without_users_gets_them(image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    found = bound(image)
    assert "/etc" not in found
    assert "/etc/hosts" in found


@pytest.mark.parametrize("target", ["/bin/tool", "/srv/note/below"])
def test_nothing_is_mounted_below_a_link_or_a_file(image: Path, target: str) -> None:
    with pytest.raises(ExecutorRefused, match="no folder of the image"):
        show(image, [target])


def test_the_environment_of_the_image_is_read(image: Path) -> None:
    assert show(image, ()).env == {"PATH": "/usr/bin", "WITH": "a=b"}


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("alpine+3", ["alpine:3", "library/alpine:3", "docker.io/library/alpine:3", "docker://alpine:3"]),
        ("alpine+latest", ["alpine", "alpine:latest", "docker.io/alpine"]),
        ("quay.io%org%tool+1.0", ["quay.io/org/tool:1.0", "docker://quay.io/org/tool:1.0"]),
    ],
)
def test_an_image_is_found_by_all_its_names(tmp_path: Path, folder: str, names: list[str]) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in names:
        assert find(tmp_path, name) == tmp_path / folder


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "docker://", "nosuch"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExecutorRefused, match="not unpacked"):
        find(tmp_path, name)
