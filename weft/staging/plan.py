"""What a task's steps will see and what must be fetched for it, decided without touching a file.

Mounted are folders, not files, so that a step may rename and delete in them: the parent of each file input and
output, directory inputs and outputs themselves, volumes, the parents of stdout and stderr, and what deep folders of one
task have in common. Of nested folders only the topmost is a mount, with a private folder of the host behind it. An
input that lies on the host is mounted in place, nested in that private folder, unless the task may write there. Only
what stands directly below ``/`` is mounted as a single file. A workdir is not mounted, nor is stdin: they are the
image's own where nothing covers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path, PurePosixPath

from weft.errors import InvalidRequest
from weft.folders import AttemptFolder
from weft.model import FileType, Input, Mount, Output, Task
from weft.paths import container_path
from weft.ports import Root
from weft.staging.wildcards import has_wildcards, literal, literal_folder

_TOP = PurePosixPath("/")
#: Top-level folders in which images have files of their own.
_OF_IMAGES = frozenset(
    {
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "var",
    }
)
#: How deep a folder must lie to be taken for the task's own: no image has one at such a place.
_OWN_DEPTH = 3
_SYSTEM = frozenset(map(PurePosixPath, ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/usr/bin", "/usr/lib")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """An input that lies on this host: where, what it is, and whether the steps see it at its path already."""

    source: Path
    type: FileType
    there: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The mounts, parents before children, and what must be made behind them; all paths as the steps see them."""

    mounts: tuple[Mount, ...]
    #: Folders to make, parents before children.
    folders: tuple[str, ...]
    #: Single-file mounts; the empty file behind each is to be made.
    files: tuple[str, ...]
    #: Where something will be mounted in a private folder, and what must stand there for it.
    places: tuple[tuple[str, FileType], ...]
    #: Inputs to copy.
    downloads: tuple[Input, ...]
    messages: tuple[str, ...]


def check(task: Task) -> None:
    """Refuse paths that contradict each other or that can never be mounted. Pure; for the API as well.

    :raises InvalidRequest: names the field.
    """
    for index, item in enumerate(task.inputs):
        container_path(item.path, f"inputs[{index}].path")
    for index, output in enumerate(task.outputs):
        _check_output(output, f"outputs[{index}]")
    for index, volume in enumerate(task.volumes):
        container_path(volume, f"volumes[{index}]")
    for index, step in enumerate(task.steps):
        for name in ("workdir", "stdin", "stdout", "stderr"):
            if getattr(step, name) is not None and (name, step.workdir) != ("workdir", "/"):
                container_path(getattr(step, name), f"executors[{index}].{name}")
    _check_inputs(task)


def plan(
    task: Task,
    folder: AttemptFolder,
    *,
    local: Mapping[str, Local] | None = None,
    roots: Sequence[Root] = (),
    writable_inputs: bool = False,
) -> Plan:
    """Decide the mounts of one attempt.

    :param local: for the path of each input that lies on this host and may be mounted in place, where it lies.
    :param roots: writable ones are mounted at their own path.
    :raises InvalidRequest: as ``check``.
    """
    check(task)
    live = [PurePosixPath(root.path) for root in roots if root.writable]
    kept = _kept(task, local or {}, live, writable_inputs)
    draft = _Draft(folder)
    for root in live:
        draft.mount(root, Path(root))
    for path, found in kept.items():
        if not found.there:
            draft.mount(path, found.source, read_only=not writable_inputs)
    folders = set(_folders(task, kept))
    for path in sorted(folders | _roofs(folders, live), key=_depth):
        draft.folder(path)
    for path in _single_files(task, kept):
        draft.single_file(path)
    draft.make_places({path: found.type for path, found in kept.items()})
    downloads = tuple(item for item in task.inputs if PurePosixPath(item.path) not in kept)
    return draft.finished(downloads)


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    attempt: AttemptFolder
    mounts: dict[PurePosixPath, Mount] = field(default_factory=dict)
    folders: list[PurePosixPath] = field(default_factory=list)
    files: list[PurePosixPath] = field(default_factory=list)
    places: list[tuple[PurePosixPath, FileType]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def mount(self, path: PurePosixPath, source: Path, *, read_only: bool = False) -> None:
        self.mounts[path] = Mount(source=source, target=str(path), read_only=read_only)

    def folder(self, path: PurePosixPath) -> None:
        if self.above(path) is None and path not in self.mounts:
            self.mount(path, self.private(path))
            if path in _SYSTEM:
                self.messages.append(f"the task's files in {path} hide what the image has there")
        self.folders.append(path)

    def single_file(self, path: PurePosixPath) -> None:
        if path not in self.mounts:
            self.mount(path, self.private(path))
            self.files.append(path)

    def make_places(self, types: Mapping[PurePosixPath, FileType]) -> None:
        """Note where a mount will sit in a private folder: something must be there to mount on."""
        for path in self.mounts:
            above = self.above(path)
            if above is not None and above.source == self.private(PurePosixPath(above.target)):
                self.places.append((path, types.get(path, FileType.DIRECTORY)))
                self.folders.append(path.parent)

    def above(self, path: PurePosixPath) -> Mount | None:
        """Return the deepest mount strictly above ``path``."""
        return next((self.mounts[parent] for parent in path.parents if parent in self.mounts), None)

    def private(self, path: PurePosixPath) -> Path:
        return self.attempt.mounts / path.relative_to(_TOP)

    def finished(self, downloads: tuple[Input, ...]) -> Plan:
        return Plan(
            mounts=tuple(self.mounts[path] for path in sorted(self.mounts, key=_depth)),
            folders=tuple(str(path) for path in sorted(set(self.folders), key=_depth)),
            files=tuple(map(str, self.files)),
            places=tuple((str(path), kind) for path, kind in self.places),
            downloads=downloads,
            messages=tuple(self.messages),
        )


def _check_output(output: Output, name: str) -> None:
    path = container_path(output.path, f"{name}.path")
    if not has_wildcards(path):
        return
    if output.path_prefix is None:
        raise InvalidRequest("a path with wildcards needs path_prefix", field=f"{name}.path_prefix", remedy="give it")
    if literal_folder(path) == "/":
        raise InvalidRequest(
            f"{path!r}: '/' cannot be mounted", field=f"{name}.path", remedy="wildcards in a folder below '/'"
        )


def _check_inputs(task: Task) -> None:
    files: dict[PurePosixPath, int] = {}
    for index, item in enumerate(task.inputs):
        path = PurePosixPath(item.path)
        if path in files:
            raise InvalidRequest(f"two inputs have the path {path}", field=f"inputs[{index}].path", remedy="one each")
        files[path] = index
    for path, index in files.items():
        above = next((parent for parent in path.parents if parent in files), None)
        if above is not None and task.inputs[files[above]].content:
            raise InvalidRequest(
                f"{path} lies in {above}, which is a file", field=f"inputs[{index}].path", remedy="another path"
            )


def _kept(
    task: Task, local: Mapping[str, Local], live: Sequence[PurePosixPath], writable_inputs: bool
) -> dict[PurePosixPath, Local]:
    """Choose the inputs that are not copied: those that are there already, and those that can be mounted in place."""
    holds_inputs = {parent for item in task.inputs for parent in PurePosixPath(item.path).parents}
    written = {place for path in _written(task) for place in (path, *path.parents)}
    kept = {}
    for item in task.inputs:
        path, found = PurePosixPath(item.path), local.get(item.path)
        if found is None:
            continue
        may_change = writable_inputs and found.type is FileType.DIRECTORY
        if found.there or not (
            path in holds_inputs
            or (path in written and not may_change)
            or any(_clash(path, found, root) for root in live)
        ):
            kept[path] = found
    return kept


def _clash(path: PurePosixPath, found: Local, root: PurePosixPath) -> bool:
    """Tell whether an input lies in a live folder on either side, where steps can swap it, or would hide one."""
    return (
        path.is_relative_to(root)
        or found.source.is_relative_to(root)
        or (root.is_relative_to(path) and Path(path) != found.source)
    )


def _written(task: Task) -> Iterator[PurePosixPath]:
    """Where the task says that it will write."""
    for output in task.outputs:
        yield PurePosixPath(literal_folder(output.path) if has_wildcards(output.path) else literal(output.path))
    yield from map(PurePosixPath, task.volumes)
    for step in task.steps:
        yield from (PurePosixPath(path) for path in (step.stdout, step.stderr) if path is not None)


def _folders(task: Task, kept: Mapping[PurePosixPath, Local]) -> Iterator[PurePosixPath]:
    """Every folder that must be there, ``/`` left out."""
    for path, is_folder in _claims(task, kept):
        folder = path if is_folder else path.parent
        if folder != _TOP:
            yield folder


def _roofs(folders: set[PurePosixPath], live: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """Return what the folders below one top-level folder have in common, where it is the task's own.

    Cromwell's script makes ``/cromwell-executions/…/call-X/tmp.1`` beside ``execution`` and ``inputs``.
    """
    below: dict[str, list[PurePosixPath]] = {}
    for path in folders:
        below.setdefault(path.parts[1], []).append(path)
    roofs = set()
    for top, paths in below.items():
        roof = PurePosixPath(commonpath(paths))
        if top not in _OF_IMAGES and len(roof.parts) > _OWN_DEPTH and not any(top in root.parts[1:2] for root in live):
            roofs.add(roof)
    return roofs


def _single_files(task: Task, kept: Mapping[PurePosixPath, Local]) -> Iterator[PurePosixPath]:
    """Files directly below ``/``."""
    for path, is_folder in _claims(task, kept):
        if not is_folder and path.parent == _TOP and path not in kept:
            yield path


def _claims(task: Task, kept: Mapping[PurePosixPath, Local]) -> Iterator[tuple[PurePosixPath, bool]]:
    """Each path that the task names, and whether it is a folder."""
    for item in task.inputs:
        path = PurePosixPath(item.path)
        found = kept.get(path)
        if found is None:
            yield path, item.type is FileType.DIRECTORY
        elif not found.there and found.type is FileType.FILE:
            yield path, False
    for output in task.outputs:
        if has_wildcards(output.path):
            yield PurePosixPath(literal_folder(output.path)), True
        else:
            yield PurePosixPath(literal(output.path)), output.type is FileType.DIRECTORY
    for volume in task.volumes:
        yield PurePosixPath(volume), True
    for step in task.steps:
        yield from ((PurePosixPath(path), False) for path in (step.stdout, step.stderr) if path is not None)


def _depth(path: PurePosixPath) -> tuple[int, str]:
    return len(path.parts), str(path)
