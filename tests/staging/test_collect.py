"""Outputs are found as the steps saw them, never through a link that leads out, and stored with their sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weft.errors import StagingFailed
from weft.folders import AttemptFolder, host_path
from weft.model import FileType, Input, Mount, Output, Step, Task
from weft.ports import Root
from weft.staging.collect import CollectFailed, collect
from weft.staging.stagers import Stagers
from weft.staging.transfer import prepare


def a_task(*outputs: Output, inputs: tuple[Input, ...] = (), volumes: tuple[str, ...] = ()) -> Task:
    return Task(steps=(Step(image="i", command=("true",)),), inputs=inputs, outputs=outputs, volumes=volumes)


class Job:
    """A prepared task whose step is played by the test."""

    def __init__(self, task: Task, attempt: AttemptFolder, stagers: Stagers, roots: tuple[Root, ...] = ()) -> None:
        self.task, self.stagers, self.roots = task, stagers, roots
        self.mounts = prepare(task, attempt, stagers, roots=roots).mounts

    def host(self, path: str) -> Path:
        found = host_path(self.mounts, path)
        assert found is not None
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def write(self, path: str, text: str = "x") -> None:
        self.host(path).write_text(text)

    def link(self, path: str, target: str) -> None:
        self.host(path).symlink_to(target)

    def collect(self, best_effort: bool = False):
        return collect(self.task, self.mounts, self.stagers, best_effort, roots=self.roots, pause=lambda _: None)


@pytest.fixture
def job(attempt: AttemptFolder, stagers: Stagers):
    return lambda task, **more: Job(task, attempt, stagers, **more)


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_goes_to_exactly_its_url_with_its_size(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/a.txt", url=f"file://{data}/new/b%20c.txt")))
    ran.write("/out/a.txt", "12345")
    stored = ran.collect().stored
    assert (data / "new/b c.txt").read_text() == "12345"
    assert [(item.url, item.path, item.size_bytes) for item in stored] == [
        (f"file://{data}/new/b%20c.txt", "/out/a.txt", 5)
    ]


def test_a_folder_is_flattened(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/d", url=f"{data}/d/", type=FileType.DIRECTORY)))
    for name in ("a", "sub/b", "sub/deep/.hidden"):
        ran.write(f"/out/d/{name}", name)
    collected = ran.collect()
    assert files_below(data) == {"d/a": "a", "d/sub/b": "sub/b", "d/sub/deep/.hidden": "sub/deep/.hidden"}
    assert [item.path for item in collected.stored] == ["/out/d/a", "/out/d/sub/b", "/out/d/sub/deep/.hidden"]
    assert [item.url for item in collected.stored] == [f"{data}/d/{n}" for n in ("a", "sub/b", "sub/deep/.hidden")]


def test_wildcards_lose_their_prefix_and_keep_the_rest(job, data: Path) -> None:
    ran = job(
        a_task(Output(path="/work/*/[ab]?.txt", url=f"{data}/g", path_prefix="/work")),
    )
    for name in ("x/a1.txt", "y/b2.txt", "y/c3.txt", "y/b.txt", "z.txt", ".h/a1.txt"):
        ran.write(f"/work/{name}", name)
    collected = ran.collect()
    assert files_below(data) == {"g/x/a1.txt": "x/a1.txt", "g/y/b2.txt": "y/b2.txt"}
    assert [item.path for item in collected.stored] == ["/work/x/a1.txt", "/work/y/b2.txt"]


def test_a_match_that_is_a_folder_is_stored_with_all_that_is_in_it(job, data: Path) -> None:
    ran = job(a_task(Output(path="/work/res*", url=f"{data}", path_prefix="/work")))
    ran.write("/work/results/a/b", "b")
    ran.write("/work/res.txt", "r")
    ran.collect()
    assert files_below(data) == {"results/a/b": "b", "res.txt": "r"}


def test_an_escaped_star_is_a_star(job, data: Path) -> None:
    ran = job(a_task(Output(path="/work/a\\*b", url=f"{data}/out")))
    ran.write("/work/a*b", "star")
    ran.write("/work/aXb", "no")
    assert ran.collect().stored[0].path == "/work/a*b"
    assert (data / "out").read_text() == "star"


def test_nothing_that_matches_is_said_and_no_error(job, data: Path) -> None:
    collected = job(a_task(Output(path="/work/*.part", url=str(data), path_prefix="/work"))).collect()
    assert collected.stored == ()
    assert collected.messages == ("output /work/*.part: nothing matches",)


def test_a_missing_file_fails_and_the_others_are_stored_all_the_same(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/none", url=f"{data}/none"), Output(path="/out/a", url=f"{data}/a")))
    ran.write("/out/a")
    with pytest.raises(CollectFailed) as caught:
        ran.collect()
    assert isinstance(caught.value, StagingFailed)
    assert caught.value.message == "output /out/none: the task did not write it"
    assert [item.path for item in caught.value.collected.stored] == ["/out/a"]
    assert (data / "a").exists()


def test_after_a_failed_step_what_is_missing_is_only_said(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/none", url=f"{data}/none"), Output(path="/out/a", url=f"{data}/a")))
    ran.write("/out/a")
    collected = ran.collect(best_effort=True)
    assert [item.path for item in collected.stored] == ["/out/a"]
    assert collected.messages == ("output /out/none: the task did not write it",)


def test_types_are_corrected(job, data: Path) -> None:
    ran = job(
        a_task(
            Output(path="/out/d", url=f"{data}/d"),
            Output(path="/out/f/", url=f"{data}/f", type=FileType.DIRECTORY),
            Output(path="/out/g", url=f"{data}/g/", type=FileType.DIRECTORY),
        )
    )
    for path in ("/out/f", "/out/g"):
        ran.host(path).rmdir()
        ran.write(path, path)
    ran.write("/out/d/x")
    collected = ran.collect()
    assert files_below(data) == {"d/x": "x", "f": "/out/f", "g/g": "/out/g"}
    assert "output /out/d: type corrected to DIRECTORY" in collected.messages
    assert "output /out/f: type corrected to FILE" in collected.messages


def test_a_file_needs_a_url_that_names_it(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/a", url=f"{data}/d/")))
    ran.write("/out/a")
    with pytest.raises(StagingFailed, match="must name the file"):
        ran.collect()


def test_empty_folders_are_said(job, data: Path) -> None:
    collected = job(a_task(Output(path="/out/d", url=f"{data}/d", type=FileType.DIRECTORY))).collect()
    assert collected.messages == ("output /out/d: the folder holds no files",)


def test_links_are_followed_inside_the_mounts_only(job, data: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    ran = job(a_task(Output(path="/out/d", url=f"{data}/d", type=FileType.DIRECTORY), volumes=("/vol",)))
    ran.write("/vol/real", "real")
    ran.write("/out/d/file", "file")
    links = {
        "container": "/vol/real",
        "relative": "file",
        "up-and-over": "../../vol/real",
        "passwd": "/etc/passwd",
        "host": str(tmp_path / "secret"),
        "climb": "../../../../../../secret",
        "folder": "/",
        "dangling": "nothing",
        "self": "self",
    }
    for name, target in links.items():
        ran.link(f"/out/d/{name}", target)
    os.mkfifo(ran.host("/out/d/pipe"))
    collected = ran.collect()
    assert files_below(data / "d") == {"container": "real", "relative": "file", "up-and-over": "real", "file": "file"}
    said = "\n".join(collected.messages)
    for name in ("passwd", "host", "climb", "folder"):
        assert f"output /out/d/{name}: skipped, a link that leads out" in said
    for name in ("dangling", "self", "pipe"):
        assert f"output /out/d/{name}: skipped" in said


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../../../../../../etc/passwd", "/proc/self/environ", "/dev/zero"]
)
def test_a_literal_output_that_leads_out_fails_and_is_never_read(job, data: Path, target: str) -> None:
    ran = job(a_task(Output(path="/out/x", url=f"{data}/x")))
    ran.link("/out/x", target)
    with pytest.raises(StagingFailed, match="leads out"):
        ran.collect()
    assert files_below(data) == {}


def test_a_folder_on_the_way_that_became_a_link_out_is_refused(job, data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_text("secret")
    ran = job(a_task(Output(path="/out/sub/x", url=f"{data}/x"), volumes=("/out",)))
    ran.host("/out/sub").rmdir()
    ran.link("/out/sub", str(tmp_path / "elsewhere"))
    with pytest.raises(StagingFailed, match="leads out"):
        ran.collect()


def test_matches_that_lead_out_are_skipped_and_said(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/*", url=f"{data}", path_prefix="/out")))
    ran.link("/out/x", "/etc/passwd")
    ran.link("/out/y", "/etc")
    ran.write("/out/z")
    collected = ran.collect()
    assert [item.path for item in collected.stored] == ["/out/z"]
    assert collected.messages == (
        "output /out/x: skipped, a link that leads out",
        "output /out/y: skipped, a link that leads out",
    )


def test_an_input_in_place_is_itself_not_its_empty_place(job, data: Path) -> None:
    (data / "in").write_text("input")
    ran = job(
        a_task(
            Output(path="/work", url=f"{data}/out", type=FileType.DIRECTORY),
            inputs=(Input(path="/work/sub/in", url=str(data / "in")),),
        )
    )
    ran.write("/work/made", "made")
    if len(ran.mounts) == 2:  # in place
        assert ran.host("/work/sub").joinpath("in").read_text() == ""
    ran.collect()
    assert files_below(data / "out") == {"sub/in": "input", "made": "made"}


def test_odd_names_arrive_exactly_and_bytes_that_are_no_text_are_said(job, data: Path) -> None:
    names = ["a b", "quo'te\"", "new\nline", "ü", "#?%20", "-rf", "*", os.fsdecode(b"\xff.txt")]
    url = f"file://{data}/out"
    ran = job(a_task(Output(path="/work/*", url=url, path_prefix="/work")))
    for name in names:
        ran.write(f"/work/{name}", "x")
    collected = ran.collect()
    assert set(files_below(data / "out")) == set(names)
    assert "output /work/\ufffd.txt: its name is not UTF-8" in collected.messages
    for item in collected.stored:
        item.url.encode()
        item.path.encode()
    assert f"{url}/%FF.txt" in {item.url for item in collected.stored}


def test_500_small_files_are_stored(job, data: Path) -> None:
    ran = job(a_task(Output(path="/work/d", url=f"{data}/d", type=FileType.DIRECTORY)))
    for number in range(500):
        ran.write(f"/work/d/{number % 5}/{number}", str(number))
    assert len(ran.collect().stored) == 500
    assert files_below(data / "d") == {f"{number % 5}/{number}": str(number) for number in range(500)}


def test_an_output_written_in_place_is_not_copied_onto_itself(job, tmp_path: Path) -> None:
    work = tmp_path / "data/jobs/r/work"
    work.mkdir(parents=True)
    ran = job(a_task(Output(path=str(work / "b"), url=f"file://{work}/b")), roots=(Root(work, writable=True),))
    (work / "b").write_text("made")
    before = (work / "b").stat().st_ino
    stored = ran.collect().stored
    assert (work / "b").stat().st_ino == before
    assert [(item.path, item.size_bytes) for item in stored] == [(str(work / "b"), 4)]


def test_an_upload_that_fails_is_named_with_its_path(job, web, data: Path) -> None:
    web.answers["/no"] = lambda handler: handler.say(403, b"")
    ran = job(
        a_task(
            Output(path="/out/a", url=web.url("/no?sig=1")),
            Output(path="/out/b", url=web.url("/yes")),
            Output(path="/out/c", url="/etc/weft-test"),
        )
    )
    for name in "abc":
        ran.write(f"/out/{name}", name)
    with pytest.raises(CollectFailed) as caught:
        ran.collect()
    assert f"output /out/a: 403 at {web.url('/no')}" in caught.value.message
    assert "output /out/c: /etc/weft-test is not under a folder" in caught.value.message
    assert web.stored == {"/yes": b"b"}


def test_an_output_that_no_mount_covers_is_refused(stagers: Stagers, data: Path) -> None:
    mounts = (Mount(source=data, target="/elsewhere"),)
    with pytest.raises(StagingFailed, match=r"output /out/a: .*leads out"):
        collect(a_task(Output(path="/out/a", url=f"{data}/a")), mounts, stagers)


def test_collecting_again_gives_the_same(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/*", url=str(data), path_prefix="/out")))
    ran.write("/out/a")
    assert ran.collect() == ran.collect()


def test_no_descriptor_is_left_open(job, data: Path) -> None:
    ran = job(a_task(Output(path="/out/d", url=f"{data}/d", type=FileType.DIRECTORY)))
    for number in range(30):
        ran.write(f"/out/d/{number}")
    ran.link("/out/d/bad", "/etc/passwd")
    before = len([*Path("/proc/self/fd").iterdir()])
    ran.collect()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
