"""Turn a submission into a plan for this host: in a bubblewrap sandbox where there is one, bare where there is none."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from executors import bubblewrap, command
from executors.supervisor import COOKIE
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.folders import AttemptFolder, host_path, log_path
from weft.model import Mount, Step, Submission
from weft.ports import Health

if TYPE_CHECKING:
    from executors.supervisor import Capture, Plan, StepPlan

#: Most open files of one process, and most processes of one job's user.
OPEN_FILES, PROCESSES = 65_536, 4_096
NOBODY = (65_534, 65_534)


class HostPlanner:
    """Plans steps for this host; looks at it once, at the first use."""

    def __init__(self, settings: Settings, *, grace_seconds: float) -> None:
        """Keep what the settings say; ``grace_seconds`` is the time between SIGTERM and SIGKILL."""
        self._settings = settings
        self._grace_seconds = grace_seconds

    @cached_property
    def sandbox(self) -> tuple[bubblewrap.Host | None, str]:
        """The sandbox, or None; and in words what it is or why there is none."""
        if not self._settings.process.sandbox:
            return None, "the sandbox is switched off by the setting process.sandbox"
        found = shutil.which("bwrap")
        if found is None:
            return None, "bubblewrap (bwrap) is not installed"
        host = look(found, network=self._settings.process.network)
        problem = _probe(host)
        return (host, "a bubblewrap sandbox") if problem is None else (None, f"bubblewrap cannot be used: {problem}")

    def check(self) -> Health:
        """Tell whether steps can run here, and in what."""
        if not hasattr(os, "pidfd_open") or not Path("/proc/self/stat").exists():
            return Health(usable=False, detail="needs Linux 5.3 or newer with /proc", remedy="use a container engine")
        host, words = self.sandbox
        if host is not None:
            return Health(usable=True, detail=f"steps run on this host, in {words}")
        detail = f"steps run on this host without a sandbox: {words}"
        return Health(usable=True, detail=detail, remedy="install bubblewrap, or allow it user namespaces")

    def plan(self, work: Submission) -> Plan:
        """Decide everything that the supervisor will do.

        :raises ExecutorRefused: an argument that no program can be given, or a path that cannot be mounted.
        """
        host, words = self.sandbox
        user = (work.uid, work.gid) if os.geteuid() == 0 and work.uid is not None and work.gid is not None else None
        place = Place(
            where="this weft runs steps on the host (executor process)",
            host=host,
            words=words,
            become=user,
            identity=user or (os.geteuid(), os.getegid()),
            grace_seconds=self._grace_seconds,
            max_log_bytes=self._settings.max_log_bytes,
            metadata={"host": platform.node()},
        )
        return plan_for(place, work, _limits(work, user))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where steps run, and in what."""

    #: In words, for the job's messages.
    where: str
    #: The sandbox, or None; and in words what it is or why there is none.
    host: bubblewrap.Host | None
    words: str
    #: (uid, gid) that the supervisor gives a step; None where it is the right user already.
    become: tuple[int, int] | None
    #: (uid, gid) that a step has in the end.
    identity: tuple[int, int]
    #: Time between SIGTERM and SIGKILL.
    grace_seconds: float
    max_log_bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Where steps see the files of their image: the step, and the sandbox and the mounts that show them.
    image: Callable[[Step, Sequence[Mount]], tuple[Step, bubblewrap.Host, tuple[Mount, ...]]] | None = None


def plan_for(place: Place, work: Submission, limits: dict[str, int]) -> Plan:
    """Decide everything that a supervisor at ``place`` will do; ``limits`` are those of setrlimit(2).

    :raises ExecutorRefused: an argument that no program can be given, or a path that cannot be mounted.
    """
    for step in work.steps:
        _refuse_unusable_text(step)
    if place.host is None:
        work = _with_own_folders(work, place.identity)
    else:
        _write_identity(AttemptFolder(work.folder).control, place.identity)
    return {
        "key": work.key,
        "grace_seconds": place.grace_seconds,
        "steps": [_step(place, work, index, limits) for index in range(len(work.steps))],
        "messages": _messages(work.steps, place),
        "metadata": {**place.metadata, "sandbox": "none" if place.host is None else "bubblewrap"},
    }


def _step(place: Place, work: Submission, index: int, limits: dict[str, int]) -> StepPlan:
    step = work.steps[index]
    if place.host is None:
        planned = _bare(work, step, place.become)
    elif place.image is not None:
        step, host, below = place.image(step, work.mounts)
        planned = _sandboxed(work, step, host, place.become, below)
    else:
        planned = _sandboxed(work, step, place.host, place.become)
    planned["stdout"] = _capture(work, index, "stdout", place.max_log_bytes)
    planned["stderr"] = _capture(work, index, "stderr", place.max_log_bytes)
    planned["limits"] = limits
    return planned


def _capture(work: Submission, index: int, stream: str, limit: int) -> Capture | None:
    if _named(work.mounts, getattr(work.steps[index], stream)) is not None:
        return None
    return {"path": str(log_path(work.folder, work.mounts, work.steps, index, stream)), "limit": limit}


def look(bwrap: str, *, network: bool) -> bubblewrap.Host:
    """Look at this machine: what a sandbox can show of it."""
    etc = [*bubblewrap.ETC, *(path.name for pattern in bubblewrap.ETC_PATTERNS for path in Path("/etc").glob(pattern))]
    return bubblewrap.Host(
        bwrap=bwrap,
        root=os.geteuid() == 0,
        setpriv=shutil.which("setpriv"),
        system={
            path: str(Path(path).readlink()) if Path(path).is_symlink() else None
            for path in bubblewrap.SYSTEM
            if Path(path).is_dir()
        },
        etc=tuple(name for name in etc if Path("/etc", name).exists()),
        visible=_python_folders(),
        network=network,
        tmp_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4,
    )


def mapped(text: str, mounts: Iterable[Mount]) -> str:
    """Replace container paths in ``text`` by host paths, where a mount's whole path stands at a boundary.

    ``/data`` is replaced in ``if=/data/x`` and in ``/data``, not in ``/data2``, ``/my/data`` or ``./data``.
    """
    sources = {mount.target.rstrip("/"): str(mount.source) for mount in mounts}
    if not sources:
        return text
    longest_first = "|".join(re.escape(target) for target in sorted(sources, key=len, reverse=True))
    return re.sub(rf"(?<![\w./~-])(?:{longest_first})(?![\w.~-])", lambda found: sources[found[0]], text)


def _sandboxed(
    work: Submission,
    step: Step,
    host: bubblewrap.Host,
    user: tuple[int, int] | None,
    below: tuple[Mount, ...] = (),
) -> StepPlan:
    early, late = bubblewrap.split_environment(_environment(step))
    mounted = _is_mounted(work.mounts, step.workdir)
    program = bubblewrap.prepared(
        step.command,
        stdin=step.stdin,
        stdout=_named(work.mounts, step.stdout),
        stderr=_named(work.mounts, step.stderr),
        workdir=step.workdir if mounted else None,
    )
    options = bubblewrap.options(
        host,
        (*below, *work.mounts),
        workdir="/" if mounted else step.workdir or "/",
        env=early,
        identity=AttemptFolder(work.folder).control,
        user=user,
    )
    argv = bubblewrap.argv(host, bubblewrap.inner(host, program, user=user, late=late))
    return {
        **_empty_plan(step, user),
        "argv": argv,
        "env": {COOKIE: work.key},
        "sandbox": options,
        "no_links": bubblewrap.nested(work.mounts),
    }


def _bare(work: Submission, step: Step, user: tuple[int, int] | None) -> StepPlan:
    def here(path: str | None) -> str | None:
        return path if path is None else str(host_path(work.mounts, path) or path)

    program = bubblewrap.prepared(
        [mapped(word, work.mounts) for word in step.command],
        stdin=here(step.stdin),
        stdout=here(_named(work.mounts, step.stdout)),
        stderr=here(_named(work.mounts, step.stderr)),
        workdir=here(step.workdir),
    )
    wanted = {"TMPDIR": str(bubblewrap.TMP), **_environment(step)}
    environment = {name: mapped(value, work.mounts) for name, value in wanted.items()}
    return {
        **_empty_plan(step, user),
        "argv": ["/usr/bin/env", "--", *program],
        "env": {**environment, COOKIE: work.key},
        "user": None if user is None else list(user),
    }


def _empty_plan(step: Step, user: tuple[int, int] | None) -> StepPlan:
    return {
        "argv": [],
        "env": {},
        "cwd": "/",
        "ignore_error": step.ignore_error,
        "stdout": None,
        "stderr": None,
        "limits": {},
        "owner": None if user is None else list(user),
        "user": None,
        "sandbox": None,
        "no_links": [],
    }


def _environment(step: Step) -> dict[str, str]:
    """Give a step what it asks for, a home, and a search path that ends with the tools beside weft."""
    path = f"{bubblewrap.PATH}:{Path(sys.prefix) / 'bin'}"
    return {"PATH": path, "HOME": str(bubblewrap.TMP), **step.env}


def _limits(work: Submission, user: tuple[int, int] | None) -> dict[str, int]:
    """Return the resource limits of each process of a step (setrlimit(2))."""
    limits = {"CORE": 0, "NOFILE": OPEN_FILES}
    if work.resources.ram_bytes is not None:
        limits["DATA"] = work.resources.ram_bytes
    if user is not None:  # the limit counts all processes of a user: of weft's own it would count strangers
        limits["NPROC"] = PROCESSES
    return limits


def _is_mounted(mounts: Sequence[Mount], path: str | None) -> bool:
    return path is not None and host_path(mounts, path) is not None


def _named(mounts: Sequence[Mount], path: str | None) -> str | None:
    """Return the path that a step named for a stream, if a mount covers it."""
    return path if _is_mounted(mounts, path) else None


def _messages(steps: Sequence[Step], place: Place) -> list[str]:
    if place.image is not None:
        return []
    how = f"in {place.words}" if place.host is not None else f"without a sandbox, because {place.words}"
    images = dict.fromkeys(step.image for step in steps)
    lines = [f"image {image} was not used: {place.where}, {how}" for image in images]
    if place.host is None:
        lines.append("container paths in arguments and in the environment were replaced by host paths")
    return lines


def _with_own_folders(work: Submission, owner: tuple[int, int]) -> Submission:
    """Add folders of the job's own for /tmp and for each workdir that exists neither in a mount nor on the host.

    The Python environment stays where it is, wherever that is.
    """
    mounts = work.mounts + tuple(Mount(source=folder, target=str(folder)) for folder in _python_folders())
    workdirs = [step.workdir for step in work.steps if step.workdir is not None and not Path(step.workdir).is_dir()]
    for target in dict.fromkeys([str(bubblewrap.TMP), *workdirs]):
        if not _is_mounted(mounts, target):
            folder = AttemptFolder(work.folder).mounts / target.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(folder, *owner)
            mounts += (Mount(source=folder, target=target),)
    return replace(work, mounts=mounts)


def _write_identity(folder: Path, identity: tuple[int, int]) -> None:
    """Write the ``passwd`` and ``group`` files of the sandbox: root, the step's user, nobody."""
    uid, gid = identity
    people = {0: "root:x:0:0:root:/root:/bin/sh", uid: f"weft:x:{uid}:{gid}:weft:/tmp:/bin/sh"}
    groups = {0: "root:x:0:", gid: f"weft:x:{gid}:"}
    people.setdefault(NOBODY[0], "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin")
    groups.setdefault(NOBODY[1], "nogroup:x:65534:")
    for name, entries in (("passwd", people), ("group", groups)):
        (folder / name).write_text("\n".join(entries.values()) + "\n", encoding="utf-8")
        (folder / name).chmod(0o644)


def _refuse_unusable_text(step: Step) -> None:
    words: Mapping[str, Sequence[str]] = {
        "command": step.command,
        "env": [*step.env, *step.env.values()],
        "path": [path for path in (step.workdir, step.stdin, step.stdout, step.stderr) if path is not None],
    }
    for name, texts in words.items():
        if any("\0" in text for text in texts):
            raise ExecutorRefused(f"a NUL character in {name} cannot be given to a program", field=name)
    if any(not name or "=" in name for name in step.env):
        raise ExecutorRefused('the name of an environment variable is empty or holds "="', field="env")


def _python_folders() -> tuple[Path, ...]:
    """Return the folders of the Python environment that runs weft, where /usr does not hold them anyway."""
    interpreter = Path(sys.executable).resolve().parent.parent
    folders = dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), interpreter))
    return tuple(folder for folder in folders if folder.is_dir() and not folder.is_relative_to("/usr"))


def _probe(host: bubblewrap.Host) -> str | None:
    """Run ``true`` in such a sandbox; return what is wrong, or None."""
    if host.root and host.setpriv is None:
        return "setpriv (util-linux) is not installed"
    user = NOBODY if host.root else None
    options = bubblewrap.options(host, (), workdir="/", env={}, identity=None, user=user)
    try:
        done = command.run([host.bwrap, *options, "--", *bubblewrap.inner(host, ["true"], user=user)], timeout=10)
    except Unavailable as error:
        return error.message
    return None if done.exit_code == 0 else (done.stderr.strip() or f"exit code {done.exit_code}")
