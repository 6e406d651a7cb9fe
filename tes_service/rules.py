"""What a task may say: paths, images, inputs that do not get in each other's way. Pure but for ``check_url``.

The numbers (A7, …) are rows of ``docs/tes.md``. Every refusal names the member of the request and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from tes_service.wire import WireExecutor, WireInput, WireOutput, WireTask
from weft.errors import InvalidRequest, WeftError
from weft.model import FileType, Input, Output, Resources, Step, Task
from weft.paths import container_path
from weft.staging.wildcards import has_wildcards

#: Refuses a URL that can never work here (``Stagers.check_url`` with the caller's folders).
CheckUrl = Callable[[str, bool], None]

_LONGEST_IMAGE = 1024


def read_task(
    wire: WireTask, resources: Resources | None = None, *, max_content: int, check_url: CheckUrl
) -> tuple[Task, list[str]]:
    """Check a task and bring it into weft's own form; and what its owner should know.

    :param resources: those of the task, checked already.
    :param max_content: the most bytes of UTF-8 in one input's ``content``.
    :param check_url: gets a URL and whether weft would write there; raises ``WeftError``.
    :raises InvalidRequest: says which member is wrong and what to do.
    :raises Forbidden: a URL that this server's settings do not allow.
    """
    messages: list[str] = []
    task = Task(
        name=wire.name,
        description=wire.description,
        tags=wire.tags or {},
        steps=tuple([_step(f"executors[{index}]", item) for index, item in enumerate(wire.executors)]),
        inputs=tuple(_inputs(wire.inputs or (), max_content, check_url, messages)),
        outputs=tuple([_output(f"outputs[{index}]", item, check_url) for index, item in enumerate(wire.outputs or ())]),
        resources=resources,
        volumes=tuple(_volumes(wire.volumes or ())),
    )
    _no_collisions(task)
    return task, messages


def _step(field: str, wire: WireExecutor) -> Step:
    _check_image(wire.image, f"{field}.image")
    if not wire.command:
        raise InvalidRequest(
            f"{field}.command is empty", field=f"{field}.command", remedy="name the program and its arguments"
        )
    if not wire.command[0]:
        raise InvalidRequest(
            f"{field}.command[0] is empty", field=f"{field}.command[0]", remedy="name the program to start"
        )
    for name in wire.env or ():
        _check_variable(name, f"{field}.env")
    return Step(
        image=wire.image,
        command=tuple(wire.command),
        workdir="/" if wire.workdir == "/" else _path(wire.workdir, f"{field}.workdir"),
        stdin=_path(wire.stdin, f"{field}.stdin"),
        stdout=_path(wire.stdout, f"{field}.stdout"),
        stderr=_path(wire.stderr, f"{field}.stderr"),
        env=wire.env or {},
        ignore_error=bool(wire.ignore_error),
    )


def _check_image(image: str, field: str) -> None:
    if not image:
        raise InvalidRequest(f"{field} is empty", field=field, remedy="name a container image")
    if image.startswith("-"):
        raise InvalidRequest(f"{field} begins with a hyphen", field=field, remedy="name a container image")
    if " " in image or not image.isprintable():  # of all white space, the plain space alone is printable
        raise InvalidRequest(f"{field} holds white space or control characters", field=field, remedy="remove them")
    if len(image) > _LONGEST_IMAGE:
        raise InvalidRequest(f"{field} is longer than {_LONGEST_IMAGE} characters", field=field)


def _check_variable(name: str, field: str) -> None:
    if not name or "=" in name or "\0" in name:
        raise InvalidRequest(
            f"{field}: {name!r} cannot name an environment variable", field=field, remedy="a name without '=' and NUL"
        )


def _inputs(wires: Sequence[WireInput], limit: int, check_url: CheckUrl, messages: list[str]) -> Iterator[Input]:
    for index, wire in enumerate(wires):
        field = f"inputs[{index}]"
        if wire.content:
            if wire.url:  # A7: dropped, so that nothing can take it for the source
                messages.append(f"{field}.url is ignored because content is given")
            _check_content(wire, field, limit)
            yield _input(wire, field, url=None, content=wire.content)
        elif wire.url:  # A8: an empty content beside a url counts as absent
            _checked(check_url, wire.url, f"{field}.url", writing=False)
            yield _input(wire, field, url=wire.url, content=None)
        elif wire.content is not None:
            _check_content(wire, field, limit)
            yield _input(wire, field, url=None, content="")
        else:
            raise InvalidRequest(f"{field}.url is missing", field=f"{field}.url", remedy="send url or content")


def _input(wire: WireInput, field: str, *, url: str | None, content: str | None) -> Input:
    return Input(
        name=wire.name,
        description=wire.description,
        path=container_path(wire.path, f"{field}.path"),
        type=_type(wire.type, url),
        url=url,
        content=content,
        streamable=wire.streamable,
    )


def _check_content(wire: WireInput, field: str, limit: int) -> None:
    if wire.type == "DIRECTORY":
        raise InvalidRequest(
            f"{field}.content cannot be a DIRECTORY", field=f"{field}.type", remedy="leave type out, or send a url"
        )
    size = len((wire.content or "").encode())
    if size > limit:
        raise InvalidRequest(
            f"{field}.content has {size} bytes of UTF-8; this server takes {limit}",
            field=f"{field}.content",
            remedy="store it somewhere and send its url",
        )


def _output(field: str, wire: WireOutput, check_url: CheckUrl) -> Output:
    if not wire.url:
        raise InvalidRequest(f"{field}.url is empty", field=f"{field}.url", remedy="say where to store it")
    _checked(check_url, wire.url, f"{field}.url", writing=True)
    path = container_path(wire.path, f"{field}.path")
    return Output(
        name=wire.name,
        description=wire.description,
        path=path,
        path_prefix=_prefix(wire.path_prefix, path, field) if has_wildcards(path) else None,
        type=_type(wire.type, wire.url),
        url=wire.url,
    )


def _prefix(prefix: str | None, pattern: str, field: str) -> str:
    """Check the prefix of a pattern (A13)."""
    name = f"{field}.path_prefix"
    if not prefix:
        raise InvalidRequest(
            f"{name} is missing: {field}.path has wildcards",
            field=name,
            remedy="name the folder to cut off; or write \\* for a real asterisk",
        )
    folder = "/" if not prefix.strip("/") else container_path(prefix, name)
    if has_wildcards(folder) or not PurePosixPath(pattern).is_relative_to(folder):
        raise InvalidRequest(
            f"{name} is not a folder above {field}.path", field=name, remedy="name a folder that the path begins with"
        )
    return folder


def _volumes(paths: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for index, text in enumerate(paths):
        path = container_path(text, f"volumes[{index}]")
        if path not in seen:
            seen.add(path)
            yield path


def _no_collisions(task: Task) -> None:
    """Refuse two inputs at one path, and a file where a folder has to be."""
    inputs = [item.path for item in task.inputs]
    if len({*inputs, *task.volumes}) < len(inputs) + len(task.volumes):
        raise _same_path(task)
    files = {item.path for item in task.inputs if item.type is FileType.FILE}
    if not files.isdisjoint(_above(path for _, path in _places(task))):
        raise _below_a_file(task)


def _above(paths: Iterable[str]) -> set[str]:
    """Give the folders above normalised paths."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _same_path(task: Task) -> InvalidRequest:
    taken = {path: f"volumes ({path})" for path in task.volumes}
    for index, item in enumerate(task.inputs):
        if item.path in taken:
            return InvalidRequest(
                f"inputs[{index}].path is the same as that of {taken[item.path]}: {item.path}",
                field=f"inputs[{index}].path",
                remedy="give each its own path",
            )
        taken[item.path] = f"inputs[{index}]"
    raise AssertionError("no two are the same")


def _below_a_file(task: Task) -> InvalidRequest:
    files = {item.path: index for index, item in enumerate(task.inputs) if item.type is FileType.FILE}
    for (member, place), path in _places(task):
        for parent in _above([path]) & files.keys():
            field = member.format(place)
            return InvalidRequest(
                f"{field} ({path}) lies below inputs[{files[parent]}].path, which is a file",
                field=field,
                remedy="move one of them, or make that input a DIRECTORY",
            )
    raise AssertionError("none lies below a file")


def _places(task: Task) -> list[tuple[tuple[str, int], str]]:
    """Give each path in the container at which weft makes something, after the form of its member's name."""
    places = [(("inputs[{}].path", index), item.path) for index, item in enumerate(task.inputs)]
    places += [(("outputs[{}].path", index), item.path) for index, item in enumerate(task.outputs)]
    places += [(("volumes[{}]", index), path) for index, path in enumerate(task.volumes)]
    for index, step in enumerate(task.steps):
        if step.stdout is not None:
            places.append((("executors[{}].stdout", index), step.stdout))
        if step.stderr is not None:
            places.append((("executors[{}].stderr", index), step.stderr))
    return places


def _type(asked: str | None, url: str | None) -> FileType:
    """Fill in the type (A33); staging corrects it when it has looked."""
    if asked is not None:
        return FileType(asked)
    return FileType.DIRECTORY if url is not None and url.endswith("/") else FileType.FILE


def _path(text: str | None, field: str) -> str | None:
    return None if text is None else container_path(text, field)


def _checked(check_url: CheckUrl, url: str, field: str, *, writing: bool) -> None:
    """Check a URL, and name the member that it stands in."""
    try:
        check_url(url, writing)
    except WeftError as error:
        raise type(error)(f"{field}: {error.message}", field=field, remedy=error.remedy) from error
