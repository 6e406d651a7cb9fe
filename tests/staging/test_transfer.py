"""Inputs come into place whole, in parallel, as the job's own; what cannot be had is said precisely."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from weft.errors import InvalidRequest, StagingFailed
from weft.folders import AttemptFolder, host_path
from weft.model import FileType, Input, Mount, Output, Step, Task
from weft.ports import Root
from weft.staging.stagers import Stagers
from weft.staging.transfer import Prepared, prepare

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs the program to be run as root")


def a_task(*inputs: Input, outputs: tuple[Output, ...] = (), volumes: tuple[str, ...] = (), **step: str) -> Task:
    steps = (Step(image="i", command=("true",), **step),)  # type: ignore[arg-type]
    return Task(steps=steps, inputs=inputs, outputs=outputs, volumes=volumes)


def seen(prepared: Prepared, path: str) -> Path:
    """The host's file that a step would see at ``path``."""
    found = host_path(prepared.mounts, path)
    assert found is not None
    return found


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def stage(attempt: AttemptFolder, stagers: Stagers, pauses: list[float]):
    def act(task: Task, **more: object) -> Prepared:
        return prepare(task, attempt, stagers, pause=pauses.append, **more)  # type: ignore[arg-type]

    return act


def test_content_becomes_an_executable_file_of_exactly_these_bytes(stage) -> None:
    text = "#!/bin/sh\r\necho 'ü' \0\n"
    prepared = stage(a_task(Input(path="/in/run.sh", content=text)))
    assert seen(prepared, "/in/run.sh").read_bytes() == text.encode()
    assert seen(prepared, "/in/run.sh").stat().st_mode & 0o777 == 0o755


def test_content_wins_over_a_url_unless_it_is_empty(stage, web) -> None:
    web.answers["/x"] = lambda handler: handler.say(200, b"from the url")
    prepared = stage(
        a_task(
            Input(path="/in/a", content="text", url=web.url("/gone")),
            Input(path="/in/b", content="", url=web.url("/x")),
            Input(path="/in/c", content=""),
        )
    )
    assert [seen(prepared, f"/in/{name}").read_text() for name in "abc"] == ["text", "from the url", ""]


def test_every_folder_that_steps_need_is_made(stage) -> None:
    task = a_task(
        outputs=(Output(path="/out/deep/x", url="/x"), Output(path="/d", url="/d", type=FileType.DIRECTORY)),
        volumes=("/vol",),
        stdout="/log/out",
    )
    prepared = stage(task)
    for path in ("/out/deep", "/d", "/vol", "/log"):
        assert seen(prepared, path).is_dir()


@root_only
def test_all_that_is_staged_belongs_to_the_jobs_user(stage, web, attempt: AttemptFolder) -> None:
    web.answers["/x"] = lambda handler: handler.say(200, b"x")
    task = a_task(
        Input(path="/in/sub/a", content="a"),
        Input(path="/in/b", url=web.url("/x")),
        Input(path="/top", content="t"),
        outputs=(Output(path="/in/out/x", url="/x"),),
        volumes=("/vol/v",),
    )
    prepared = stage(task, uid=4321, gid=4322)
    for path in ("/in", "/in/sub", "/in/sub/a", "/in/b", "/in/out", "/vol/v", "/top"):
        found = seen(prepared, path).stat()
        assert (path, found.st_uid, found.st_gid) == (path, 4321, 4322)
    assert not (attempt.root / "incoming").exists()


def test_a_local_file_is_shown_in_place_without_a_copy(stage, data: Path) -> None:
    (data / "a b").write_text("x")
    prepared = stage(a_task(Input(path="/in/a", url=f"file://{data}/a%20b"), Input(path="/in/c", content="c")))
    assert Mount(source=data / "a b", target="/in/a", read_only=True) in prepared.mounts
    assert seen(prepared, "/in").joinpath("a").read_bytes() == b""  # only a place to mount on
    assert seen(prepared, "/in/c").read_text() == "c"


def test_where_steps_run_elsewhere_everything_is_copied(stage, data: Path) -> None:
    (data / "a").write_text("x")
    prepared = stage(a_task(Input(path="/in/a", url=str(data / "a"))), in_place=False)
    assert seen(prepared, "/in/a").read_text() == "x"
    assert not any(mount.read_only for mount in prepared.mounts)


def test_a_local_file_that_the_jobs_user_cannot_read_is_copied_for_it(stage, data: Path) -> None:
    (data / "a").write_text("x")
    (data / "a").chmod(0o640)
    (data / "d").mkdir(mode=0o700)
    (data / "d/x").write_text("y")
    task = a_task(
        Input(path="/in/a", url=str(data / "a")), Input(path="/d", url=str(data / "d"), type=FileType.DIRECTORY)
    )
    prepared = stage(task, uid=4321, gid=4321)
    assert seen(prepared, "/in/a").read_text() == "x"
    assert seen(prepared, "/d/x").read_text() == "y"
    assert not any(mount.source.is_relative_to(data) for mount in prepared.mounts)
    if os.geteuid() == 0:
        assert seen(prepared, "/in/a").stat().st_uid == 4321


def test_a_copy_keeps_the_mode_of_its_source(stage, data: Path) -> None:
    (data / "run").write_text("x")
    (data / "run").chmod(0o755)
    prepared = stage(a_task(Input(path="/in/run", url=str(data / "run"))), in_place=False)
    assert seen(prepared, "/in/run").stat().st_mode & 0o777 == 0o755


def test_writing_to_a_private_copy_leaves_the_original_alone(stage, data: Path) -> None:
    (data / "a").write_text("x")
    task = a_task(Input(path="/w/a", url=str(data / "a")), outputs=(Output(path="/w/a", url=str(data / "b")),))
    seen(stage(task), "/w/a").write_text("changed")
    assert (data / "a").read_text() == "x"


def test_the_type_is_corrected_both_ways(stage, data: Path) -> None:
    (data / "d").mkdir()
    (data / "d/x").write_text("x")
    (data / "f").write_text("f")
    task = a_task(
        Input(path="/in/d", url=str(data / "d")), Input(path="/in/f", url=str(data / "f"), type=FileType.DIRECTORY)
    )
    for in_place in (True, False):
        prepared = stage(task, in_place=in_place)
        assert prepared.types == {"/in/d": FileType.DIRECTORY, "/in/f": FileType.FILE}
        assert seen(prepared, "/in/d/x").read_text() == "x"
        assert seen(prepared, "/in/f").read_text() == "f"


def test_a_folder_of_many_files_with_odd_names_is_copied_exactly(stage, data: Path) -> None:
    names = [f"sub{n % 7}/file {n}" for n in range(500)] + ["quo'te\"", "new\nline", "ü", "#?%20", os.fsdecode(b"\xff")]
    for name in names:
        (data / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "d" / name).write_text(f"body of {len(name)}")
    for url in (f"{data}/d", f"file://{data}/d/"):
        prepared = stage(a_task(Input(path="/in", url=url, type=FileType.DIRECTORY)), in_place=False)
        inside = seen(prepared, "/in")
        assert {str(path.relative_to(inside)) for path in inside.rglob("*") if path.is_file()} == set(names)
        assert all((inside / name).read_text() == f"body of {len(name)}" for name in names)


def test_an_empty_folder_is_made_and_said(stage, data: Path) -> None:
    (data / "d").mkdir()
    task = a_task(Input(path="/in/d", url=f"{data}/d", type=FileType.DIRECTORY))
    prepared = stage(task, in_place=False)
    assert [*seen(prepared, "/in/d").iterdir()] == []
    assert prepared.messages == (f"input /in/d: nothing is stored below {data}/d; the folder is empty",)


def test_what_cannot_be_had_is_said_for_each_input(stage, web, data: Path) -> None:
    task = a_task(
        Input(path="/in/a.txt", url=web.url("/x?token=1")),
        Input(path="/in/b.txt", url=web.url("/y"), type=FileType.DIRECTORY),
        Input(path="/in/c.txt", content="good"),
    )
    with pytest.raises(StagingFailed) as caught:
        stage(task)
    assert f"input /in/a.txt: 404 at {web.url('/x')}" in caught.value.message
    assert "input /in/b.txt: " in caught.value.message
    assert "cannot be listed" in caught.value.message
    assert "c.txt" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/etc/passwd", "not under a folder"),
        ("http://10.0.0.1/x", "not a public one"),
        ("gs://bucket/x", "not supported"),
        ("https://u:p@data.example/x", "user or password"),
        ("{data}/none", "no such file"),
        ("{data}/link", "leads out"),
    ],
)
def test_what_is_not_allowed_fails_the_staging(stage, data: Path, url: str, words: str) -> None:
    (data / "link").symlink_to("/etc/passwd")
    with pytest.raises(StagingFailed, match=words) as caught:
        stage(a_task(Input(path="/in/x", url=url.format(data=data))))
    assert caught.value.message.startswith("input /in/x: ")


def test_a_passing_trouble_is_tried_three_times(stage, web, pauses: list[float]) -> None:
    web.answers["/x"] = lambda handler: handler.say(503, b"") if web.count("/x") < 3 else handler.say(200, b"x")
    assert seen(stage(a_task(Input(path="/in/x", url=web.url("/x")))), "/in/x").read_text() == "x"
    assert pauses == [0.5, 2.0]


def test_a_lasting_trouble_ends_in_words(stage, web, pauses: list[float]) -> None:
    web.answers["/x"] = lambda handler: handler.say(503, b"")
    with pytest.raises(StagingFailed, match=r"input /in/x: 503 at .* \(3 tries\)"):
        stage(a_task(Input(path="/in/x", url=web.url("/x"))))
    assert web.count("/x") == 3


def test_staging_again_after_a_death_redoes_what_was_half_done(stage, attempt: AttemptFolder, web) -> None:
    web.answers["/x"] = lambda handler: handler.say(200, b"whole")
    task = a_task(Input(path="/in/x", url=web.url("/x")), volumes=("/vol",))
    (attempt.root / "incoming").mkdir(parents=True)
    (attempt.root / "incoming/0.part").write_text("ha")
    (attempt.mounts / "in").mkdir(parents=True)
    (attempt.mounts / "in/x").write_text("ha")
    (attempt.mounts / "vol").mkdir()
    (attempt.mounts / "vol/left").write_text("left over")
    prepared = stage(task)
    assert seen(prepared, "/in/x").read_text() == "whole"
    assert [*seen(prepared, "/vol").iterdir()] == []
    assert stage(task) == prepared


def test_many_inputs_come_in_parallel_and_all_arrive(stage, web) -> None:
    for number in range(100):
        body = str(number).encode()
        web.answers[f"/{number}"] = lambda handler, body=body: handler.say(200, body)
    prepared = stage(a_task(*(Input(path=f"/in/{n}", url=web.url(f"/{n}")) for n in range(100))))
    assert all(seen(prepared, f"/in/{n}").read_text() == str(n) for n in range(100))


def test_a_file_below_the_root_folder_is_there_on_its_own(stage, web) -> None:
    web.answers["/x"] = lambda handler: handler.say(200, b"x")
    prepared = stage(a_task(Input(path="/x", url=web.url("/x")), outputs=(Output(path="/y", url="/y"),)))
    assert seen(prepared, "/x").read_text() == "x"
    assert seen(prepared, "/y").read_bytes() == b""
    assert {mount.target for mount in prepared.mounts} == {"/x", "/y"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A run's work folder, in weft's own data folder."""
    folder = tmp_path / "data/jobs/r/work"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    return folder


def test_a_runs_task_sees_the_work_folder_itself(stage, work: Path) -> None:
    task = a_task(
        Input(path=str(work / "a"), url=f"file://{work}/a"),
        Input(path=str(work / "new/script"), content="x"),
        outputs=(Output(path=str(work / "out/b"), url=str(work / "out/b")),),
    )
    prepared = stage(task, roots=(Root(work, writable=True),))
    assert prepared.mounts == (Mount(source=work, target=str(work)),)
    assert (work / "out").is_dir()
    assert (work / "new/script").read_text() == "x"
    assert (work / "a").read_text() == "a"


def test_an_input_written_into_the_work_folder_never_goes_through_a_link(stage, work: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (work / "door").symlink_to(tmp_path / "victim")
    (work / "file").symlink_to(tmp_path / "victim/file")
    roots = (Root(work, writable=True),)
    with pytest.raises(StagingFailed, match="leads out"):
        stage(a_task(Input(path=str(work / "door/x"), content="x")), roots=roots)
    stage(a_task(Input(path=str(work / "file"), content="x")), roots=roots)
    assert [*(tmp_path / "victim").iterdir()] == []
    assert (work / "file").read_text() == "x"


def test_what_another_task_could_swap_is_copied(stage, work: Path) -> None:
    prepared = stage(a_task(Input(path="/in/a", url=str(work / "a"))), roots=(Root(work, writable=True),))
    assert seen(prepared, "/in/a").read_text() == "a"
    assert not any(mount.source == work / "a" for mount in prepared.mounts)


def test_contradictions_are_refused_before_anything_is_made(stage, attempt: AttemptFolder) -> None:
    with pytest.raises(InvalidRequest):
        stage(a_task(Input(path="/in/../x", content="x")))
    assert not attempt.root.exists()


def test_a_full_disk_is_said(stage, web, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StagingFailed, match="input /in/x: no space left on device"):
        stage(a_task(Input(path="/in/x", content="x")))


def test_an_object_that_changed_its_size_since_the_listing_is_not_taken(attempt: AttemptFolder, data: Path) -> None:
    from weft.staging.file import FileStager

    class Shrinking(FileStager):
        def list(self, url: str):
            return [replace(entry, size_bytes=99) for entry in super().list(url)]

    (data / "d").mkdir()
    (data / "d/x").write_text("x")
    task = a_task(Input(path="/in", url=f"{data}/d", type=FileType.DIRECTORY))
    with pytest.raises(StagingFailed, match="1 bytes instead of 99"):
        prepare(task, attempt, Stagers({"file": lambda: Shrinking([Root(data)])}), in_place=False)
