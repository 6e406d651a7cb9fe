"""What is mounted, what is made and what is copied; no file is touched here."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.errors import InvalidRequest
from weft.folders import AttemptFolder
from weft.model import FileType, Input, Output, Step, Task
from weft.ports import Root
from weft.staging.plan import Local, Plan, check, plan

FOLDER = AttemptFolder(Path("/data/jobs/j/1"))
MOUNTS = FOLDER.mounts


def a_task(
    *inputs: Input,
    outputs: tuple[Output, ...] = (),
    volumes: tuple[str, ...] = (),
    **step: str,
) -> Task:
    return Task(
        steps=(Step(image="i", command=("true",), **step),),  # type: ignore[arg-type]
        inputs=inputs,
        outputs=outputs,
        volumes=volumes,
    )


def an_input(path: str, type: FileType = FileType.FILE, url: str = "https://data.example/x") -> Input:
    return Input(path=path, url=url, type=type)


def an_output(path: str, type: FileType = FileType.FILE, prefix: str | None = None) -> Output:
    return Output(path=path, url="/out/x", type=type, path_prefix=prefix)


def mounted(made: Plan) -> dict[str, tuple[Path, bool]]:
    return {mount.target: (mount.source, mount.read_only) for mount in made.mounts}


def private(*paths: str) -> dict[str, tuple[Path, bool]]:
    return {path: (MOUNTS / path[1:], False) for path in paths}


def test_a_task_without_files_has_no_mounts() -> None:
    made = plan(a_task(workdir="/work"), FOLDER)
    assert (made.mounts, made.folders, made.downloads) == ((), (), ())


def test_the_parent_of_a_file_and_a_directory_itself_are_mounted() -> None:
    task = a_task(
        an_input("/in/a.txt"),
        an_input("/ref/genome", FileType.DIRECTORY),
        outputs=(an_output("/out/b.txt"), an_output("/tree/c", FileType.DIRECTORY)),
        volumes=("/vol/v",),
        stdout="/log/out",
        stderr="/err/err",
    )
    made = plan(task, FOLDER)
    assert mounted(made) == private("/in", "/ref/genome", "/out", "/tree/c", "/vol/v", "/log", "/err")


def test_only_the_topmost_of_nested_folders_is_a_mount_and_all_are_made() -> None:
    task = a_task(an_input("/work/in/a"), outputs=(an_output("/work/b"), an_output("/work/deep/er/c")))
    made = plan(task, FOLDER)
    assert mounted(made) == private("/work")
    assert made.folders == ("/work", "/work/in", "/work/deep/er")


def test_folders_whose_names_only_begin_alike_are_not_nested() -> None:
    assert mounted(plan(a_task(an_input("/work/a"), an_input("/workshop/b")), FOLDER)) == private("/work", "/workshop")


def test_a_wildcard_mounts_its_deepest_literal_folder() -> None:
    task = a_task(outputs=(an_output("/work/out/*/x?.txt", prefix="/work"),))
    assert mounted(plan(task, FOLDER)) == private("/work/out")


def test_a_file_below_the_root_folder_is_mounted_alone() -> None:
    made = plan(a_task(an_input("/a.txt"), outputs=(an_output("/b.txt"),), stdout="/log"), FOLDER)
    assert mounted(made) == private("/a.txt", "/b.txt", "/log")
    assert set(made.files) == {"/a.txt", "/b.txt", "/log"}


def test_the_root_folder_is_never_mounted() -> None:
    task = a_task(an_input("/a.txt"), an_input("/d", FileType.DIRECTORY), volumes=("/v",), workdir="/", stdin="/etc/x")
    assert "/" not in mounted(plan(task, FOLDER))


def test_stdin_and_workdir_are_the_images_own_where_nothing_covers_them() -> None:
    assert mounted(plan(a_task(an_input("/in/a"), stdin="/etc/passwd", workdir="/srv"), FOLDER)) == private("/in")


def test_a_local_file_is_mounted_in_place_in_a_private_folder() -> None:
    local = {"/in/a": Local(source=Path("/data/a"), type=FileType.FILE)}
    made = plan(a_task(an_input("/in/a")), FOLDER, local=local)
    assert mounted(made) == {**private("/in"), "/in/a": (Path("/data/a"), True)}
    assert made.places == (("/in/a", FileType.FILE),)
    assert made.downloads == ()
    assert [mount.target for mount in made.mounts] == ["/in", "/in/a"]


def test_a_local_folder_is_mounted_itself() -> None:
    local = {"/ref": Local(source=Path("/data/ref"), type=FileType.DIRECTORY)}
    made = plan(a_task(an_input("/ref", FileType.DIRECTORY)), FOLDER, local=local)
    assert mounted(made) == {"/ref": (Path("/data/ref"), True)}
    assert made.places == ()


def test_a_switch_makes_inputs_in_place_writable() -> None:
    local = {"/ref": Local(source=Path("/data/ref"), type=FileType.DIRECTORY)}
    task = a_task(an_input("/ref", FileType.DIRECTORY), outputs=(an_output("/ref/new/x"),))
    made = plan(task, FOLDER, local=local, writable_inputs=True)
    assert mounted(made) == {"/ref": (Path("/data/ref"), False)}
    assert made.folders == ("/ref/new",)


@pytest.mark.parametrize(
    "task",
    [
        a_task(an_input("/ref", FileType.DIRECTORY), outputs=(an_output("/ref/x"),)),
        a_task(an_input("/ref", FileType.DIRECTORY), outputs=(an_output("/ref/*.txt", prefix="/ref"),)),
        a_task(an_input("/ref", FileType.DIRECTORY), volumes=("/ref/tmp",)),
        a_task(an_input("/ref", FileType.DIRECTORY), stderr="/ref/log"),
        a_task(an_input("/ref", FileType.DIRECTORY), an_input("/ref/more")),
        a_task(an_input("/ref"), outputs=(an_output("/ref"),)),
    ],
)
def test_what_the_task_may_write_is_copied(task: Task) -> None:
    local = {"/ref": Local(source=Path("/data/ref"), type=task.inputs[0].type)}
    made = plan(task, FOLDER, local=local)
    assert task.inputs[0] in made.downloads
    assert all(mount.source.is_relative_to(MOUNTS) for mount in made.mounts)


RUN = Path("/data/jobs/r/work")


def test_a_runs_work_folder_is_mounted_live_at_its_own_path() -> None:
    task = a_task(outputs=(an_output(f"{RUN}/new/x"),), workdir=str(RUN))
    made = plan(task, FOLDER, roots=(Root(RUN, writable=True),))
    assert mounted(made) == {str(RUN): (RUN, False)}
    assert made.folders == (f"{RUN}/new",)


def test_an_input_that_is_there_already_is_neither_copied_nor_mounted() -> None:
    local = {f"{RUN}/a": Local(source=RUN / "a", type=FileType.FILE, there=True)}
    made = plan(a_task(an_input(f"{RUN}/a")), FOLDER, local=local, roots=(Root(RUN, writable=True),))
    assert mounted(made) == {str(RUN): (RUN, False)}
    assert made.downloads == ()


def test_what_steps_can_change_meanwhile_is_copied_not_mounted() -> None:
    local = {"/in/a": Local(source=RUN / "a", type=FileType.FILE)}
    made = plan(a_task(an_input("/in/a")), FOLDER, local=local, roots=(Root(RUN, writable=True),))
    assert [item.path for item in made.downloads] == ["/in/a"]


def test_a_root_that_is_only_readable_is_not_mounted() -> None:
    assert plan(a_task(), FOLDER, roots=(Root(Path("/data")),)).mounts == ()


def test_a_live_folder_nested_in_a_private_one_gets_its_place() -> None:
    made = plan(a_task(volumes=("/data",)), FOLDER, roots=(Root(RUN, writable=True),))
    assert made.places == ((str(RUN), FileType.DIRECTORY),)
    assert [mount.target for mount in made.mounts] == ["/data", str(RUN)]


def test_hiding_a_folder_of_the_system_is_said() -> None:
    assert plan(a_task(an_input("/etc/conf")), FOLDER).messages == (
        "the task's files in /etc hide what the image has there",
    )
    assert plan(a_task(an_input("/etc/app/conf")), FOLDER).messages == ()


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (a_task(an_input("in/a")), "inputs[0].path"),
        (a_task(an_input("/in/a"), an_input("/in/../a")), "inputs[1].path"),
        (a_task(an_input("/in/a"), an_input("/in//a")), "inputs[1].path"),
        (a_task(Input(path="/a", content="x"), an_input("/a/b")), "inputs[1].path"),
        (a_task(outputs=(an_output("/"),)), "outputs[0].path"),
        (a_task(outputs=(an_output("/out/*"),)), "outputs[0].path_prefix"),
        (a_task(outputs=(an_output("/*.txt", prefix="/"),)), "outputs[0].path"),
        (a_task(volumes=("/proc/1",)), "volumes[0]"),
        (a_task(stdout="out"), "executors[0].stdout"),
        (a_task(workdir="work"), "executors[0].workdir"),
    ],
)
def test_paths_that_cannot_work_name_their_field(task: Task, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(task)
    assert caught.value.field == field


def test_many_nested_folders_are_planned_in_a_moment() -> None:
    inputs = [an_input(f"/work/{n % 50}/{n}") for n in range(2000)]
    local = {item.path: Local(source=Path("/data") / item.path[1:], type=FileType.FILE) for item in inputs}
    made = plan(a_task(*inputs, volumes=("/work",)), FOLDER, local=local)
    assert len(made.mounts) == 2001
    assert made.downloads == ()


def test_what_deep_folders_have_in_common_is_the_tasks_own_as_cromwell_needs() -> None:
    call = "/cromwell-executions/w/1/call-x"
    made = plan(a_task(an_input(f"{call}/inputs/a/b.txt"), outputs=(an_output(f"{call}/execution/rc"),)), FOLDER)
    assert mounted(made) == private(call)


@pytest.mark.parametrize(("one", "other"), [("/data/x/in/a", "/data/x/out/b"), ("/usr/share/a/b", "/usr/share/a/c/d")])
def test_a_folder_that_an_image_may_have_is_not_hidden_for_being_shared(one: str, other: str) -> None:
    made = plan(a_task(an_input(f"{one}/f"), outputs=(an_output(f"{other}/f"),)), FOLDER)
    assert mounted(made) == private(one, other)


def test_a_live_folder_is_never_hidden_by_what_others_have_in_common() -> None:
    root = Root(Path("/srv2/jobs/run/work"), writable=True)
    task = a_task(an_input("/srv2/jobs/run/a/f"), outputs=(an_output("/srv2/jobs/run/b/f"),))
    made = plan(task, FOLDER, roots=(root,))
    live = {str(root.path): (root.path, False)}
    assert mounted(made) == live | private("/srv2/jobs/run/a", "/srv2/jobs/run/b")
