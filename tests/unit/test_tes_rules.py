"""What a task may say beyond its shape (tes.md, A7 to A16 and A33)."""

from __future__ import annotations

from typing import Any

import pytest

from tes_service.rules import read_task
from tes_service.wire import parse
from weft.errors import Forbidden, InvalidRequest
from weft.model import FileType, Task

LIMIT = 131_072


def read(checked: list[tuple[str, bool]] | None = None, **members: Any) -> tuple[Task, list[str]]:
    seen = [] if checked is None else checked
    document = {"executors": [{"image": "busybox", "command": ["true"]}], **members}
    return read_task(parse(document), max_content=LIMIT, check_url=lambda url, writing: seen.append((url, writing)))


def an_input(**members: Any) -> dict[str, Any]:
    return {"url": "s3://b/k", "path": "/data/in", **members}


def an_output(**members: Any) -> dict[str, Any]:
    return {"url": "s3://b/k", "path": "/data/out", **members}


def a_step(**members: Any) -> dict[str, Any]:
    return {"image": "busybox", "command": ["true"], **members}


def refused(field: str, words: str | None, **members: Any) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        read(**members)
    assert caught.value.field == field


# -- executors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("", "is empty"),
        ("-e INJ=yes busybox", "begins with a hyphen"),
        ("--privileged", "begins with a hyphen"),
        ("busy box", "white space"),
        ("busybox\n", "white space"),
        ("busy\u00a0box", "white space"),
        ("busybox\0", "control characters"),
        ("b" * 1025, "longer than"),
    ],
)
def test_an_image_that_is_no_name_is_refused(image: str, words: str) -> None:
    refused("executors[0].image", words, executors=[a_step(image=image)])


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ([], "executors[1].command"),
        ([""], "executors[1].command[0]"),
        (["sh", "a\0b"], "executors[1].command[1]"),
    ],
)
def test_a_command_that_cannot_start_is_refused(command: list[str], field: str) -> None:
    refused(field, None, executors=[a_step(), a_step(command=command)])


def test_arguments_may_be_empty_and_hold_anything_but_nul() -> None:
    task, _ = read(executors=[a_step(command=["sh", "", "a\nb\t", "é 'quoted'"])])
    assert task.steps[0].command == ("sh", "", "a\nb\t", "é 'quoted'")


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_a_name_that_is_no_variable_is_refused(name: str) -> None:
    refused("executors[0].env", "environment variable", executors=[a_step(env={name: "x"})])


@pytest.mark.parametrize("member", ["workdir", "stdin", "stdout", "stderr"])
@pytest.mark.parametrize("path", ["relative", "./here", "/a/../b", "/a\0b", "", "/proc/1/mem", "/dev/stdout", "/sys"])
def test_a_path_of_an_executor_is_absolute_and_tame(member: str, path: str) -> None:
    refused(f"executors[0].{member}", None, executors=[a_step(**{member: path})])


def test_a_command_may_start_in_the_root_folder() -> None:
    assert read(executors=[a_step(workdir="/")])[0].steps[0].workdir == "/"


def test_paths_are_normalised() -> None:
    task, _ = read(
        executors=[a_step(workdir="/work//x/./")],
        inputs=[an_input(path="/data//in/")],
        outputs=[an_output(path="/.nextflow/")],
        volumes=["/vol/", "/vol"],
    )
    assert task.steps[0].workdir == "/work/x"
    assert task.inputs[0].path == "/data/in"
    assert task.outputs[0].path == "/.nextflow"
    assert task.volumes == ("/vol",)


# -- inputs ----------------------------------------------------------------------------------------------------------


def test_content_wins_over_url_which_is_not_even_looked_at() -> None:
    checked: list[tuple[str, bool]] = []
    task, messages = read(checked, inputs=[an_input(url="nonsense", content="hello")])
    assert (task.inputs[0].url, task.inputs[0].content, checked) == (None, "hello", [])
    assert messages == ["inputs[0].url is ignored because content is given"]


def test_an_empty_content_beside_a_url_counts_as_absent() -> None:
    task, messages = read(inputs=[an_input(content="")])
    assert (task.inputs[0].url, task.inputs[0].content, messages) == ("s3://b/k", None, [])


def test_an_empty_content_alone_is_an_empty_file() -> None:
    task, _ = read(inputs=[{"path": "/data/in", "content": ""}])
    assert (task.inputs[0].url, task.inputs[0].content) == (None, "")


@pytest.mark.parametrize("members", [{}, {"url": ""}, {"url": None}])
def test_an_input_without_source_is_refused(members: dict[str, Any]) -> None:
    refused("inputs[0].url", "missing", inputs=[{"path": "/data/in", **members}])


@pytest.mark.parametrize("members", [{"content": "x"}, {"content": "", "url": None}])
def test_content_is_never_a_directory(members: dict[str, Any]) -> None:
    refused("inputs[0].type", "DIRECTORY", inputs=[{"path": "/data/in", "type": "DIRECTORY", **members}])


def test_content_may_have_128_kib_of_utf8_and_the_refusal_says_the_limit() -> None:
    read(inputs=[{"path": "/data/in", "content": "é" * (LIMIT // 2)}])
    words = f"{LIMIT + 2} bytes of UTF-8; this server takes {LIMIT}"
    refused("inputs[0].content", words, inputs=[{"path": "/data/in", "content": "é" * (LIMIT // 2 + 1)}])


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/.", "in", "../in", "/a/..", "/a\0", "/a\nb", "/proc/x", "/dev/shm/x"]
)
def test_an_input_path_is_absolute_and_tame(path: str) -> None:
    refused("inputs[0].path", None, inputs=[an_input(path=path)])


def test_a_path_that_only_looks_like_the_kernels_is_fine() -> None:
    assert read(inputs=[an_input(path="/process/x")])[0].inputs[0].path == "/process/x"


def test_the_type_is_filled_in() -> None:
    inputs = [
        an_input(path="/a"),
        an_input(path="/b", url="s3://b/k/"),
        an_input(path="/c", url="s3://b/k/", type="FILE"),
        an_input(path="/d", type="DIRECTORY"),
    ]
    types = [item.type for item in read(inputs=inputs)[0].inputs]
    assert types == [FileType.FILE, FileType.DIRECTORY, FileType.FILE, FileType.DIRECTORY]


def test_two_inputs_at_one_path_are_refused_by_both_names() -> None:
    inputs = [an_input(path="/data/in"), an_input(path="/data//in/", url="s3://b/other")]
    refused("inputs[1].path", r"inputs\[1\]\.path is the same as that of inputs\[0\]", inputs=inputs)


def test_an_input_on_a_volume_is_refused() -> None:
    refused("inputs[0].path", "volumes", inputs=[an_input(path="/vol")], volumes=["/vol"])


@pytest.mark.parametrize(
    ("field", "members"),
    [
        ("inputs[1].path", {"inputs": [an_input(path="/a"), an_input(path="/a/b/c")]}),
        ("inputs[0].path", {"inputs": [an_input(path="/a/b/c"), an_input(path="/a")]}),
        ("outputs[0].path", {"inputs": [an_input(path="/a")], "outputs": [an_output(path="/a/out")]}),
        ("volumes[0]", {"inputs": [an_input(path="/a")], "volumes": ["/a/vol"]}),
        ("executors[0].stdout", {"inputs": [an_input(path="/a")], "executors": [a_step(stdout="/a/log")]}),
    ],
)
def test_nothing_lies_below_an_input_that_is_a_file(field: str, members: dict[str, Any]) -> None:
    refused(field, "which is a file", **members)


def test_files_may_lie_in_input_folders_and_volumes() -> None:
    read(
        inputs=[an_input(path="/a", type="DIRECTORY"), an_input(path="/a/b"), an_input(path="/vol/c")],
        volumes=["/vol", "/a/vol"],
    )


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_outputs_may_overlap_as_cwl_tes_sends_them() -> None:
    task, _ = read(
        outputs=[
            an_output(path="/work/out.txt", type="FILE"),
            an_output(path="/work", url="file:///x/", type="DIRECTORY"),
            an_output(path="/work/out.txt", url="s3://b/copy"),
        ]
    )
    assert len(task.outputs) == 3


@pytest.mark.parametrize("path", ["/work/*.vcf", "/work/?", "/work/[ab]", "/w*/x"])
def test_a_pattern_needs_a_prefix(path: str) -> None:
    refused("outputs[0].path_prefix", "has wildcards", outputs=[an_output(path=path)])


@pytest.mark.parametrize("prefix", ["/other", "/wor", "/work/*", "work", "/work/.."])
def test_a_prefix_is_a_plain_folder_above_the_pattern(prefix: str) -> None:
    refused("outputs[0].path_prefix", None, outputs=[an_output(path="/work/*.vcf", path_prefix=prefix)])


@pytest.mark.parametrize(("prefix", "kept"), [("/work", "/work"), ("/work/", "/work"), ("/", "/")])
def test_a_prefix_is_kept_for_a_pattern(prefix: str, kept: str) -> None:
    task, _ = read(outputs=[an_output(path="/work/*.vcf", path_prefix=prefix)])
    assert task.outputs[0].path_prefix == kept


def test_a_prefix_without_a_pattern_is_ignored() -> None:
    task, _ = read(outputs=[an_output(path=r"/work/\*.vcf", path_prefix="nonsense")])
    assert (task.outputs[0].path, task.outputs[0].path_prefix) == (r"/work/\*.vcf", None)


def test_an_output_without_url_is_refused() -> None:
    refused("outputs[0].url", "is empty", outputs=[an_output(url="")])


# -- urls and texts --------------------------------------------------------------------------------------------------


def test_every_url_is_checked_for_its_direction() -> None:
    checked: list[tuple[str, bool]] = []
    read(checked, inputs=[an_input(url="s3://b/in")], outputs=[an_output(url="s3://b/out")])
    assert checked == [("s3://b/in", False), ("s3://b/out", True)]


@pytest.mark.parametrize("error", [InvalidRequest, Forbidden])
def test_a_refused_url_is_named_by_its_member(error: type[InvalidRequest]) -> None:
    def check(url: str, writing: bool) -> None:
        raise error("no such thing", field="url", remedy="another one")

    document = {"executors": [a_step()], "outputs": [an_output()]}
    with pytest.raises(error) as caught:
        read_task(parse(document), max_content=LIMIT, check_url=check)
    assert (caught.value.field, caught.value.remedy) == ("outputs[0].url", "another one")
    assert caught.value.message == "outputs[0].url: no such thing"


@pytest.mark.parametrize(
    ("field", "members"),
    [
        ("name", {"name": "a\0"}),
        ("description", {"description": "\0"}),
        ("tags", {"tags": {"a\0": "b"}}),
        ("tags.a", {"tags": {"a": "b\0"}}),
        ("inputs[0].name", {"inputs": [an_input(name="\0")]}),
        ("outputs[0].description", {"outputs": [an_output(description="\0")]}),
    ],
)
def test_nul_is_refused_in_every_text(field: str, members: dict[str, Any]) -> None:
    refused(field, "NUL", **members)
