"""Say how bubblewrap shuts a step in: pure functions from what is wanted to argv. Nothing is started here.

The options are those of bubblewrap 0.8 (its manual page bwrap(1)). They go through a descriptor (``--args``), so
that neither a step's environment nor its mounts can be read in the process list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from executors.supervisor import ALIVE, ARGS, REPORT
from weft.errors import ExecutorRefused
from weft.model import Mount

#: Parts of the host's /etc that programs need and that hold no secret; the rest is not there.
ETC = (
    "alternatives", "bash.bashrc", "debian_version", "fonts", "host.conf", "hosts", "inputrc", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "magic", "magic.mime", "mime.types",
    "nsswitch.conf", "os-release", "perl", "pki/tls/certs", "profile", "protocols", "R", "resolv.conf", "services",
    "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
ETC_PATTERNS = ("ImageMagick*", "java*", "python*")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
TMP = PurePosixPath("/tmp")  # noqa: S108
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What makes a dynamic loader or a C library read files or run code that it names (glibc keeps such a list for
# set-user-id programs). These reach the step only after its own user was taken on.
_LOADER_PREFIXES = ("LD_", "GLIBC_", "MALLOC_", "LC_")
_LOADER_NAMES = frozenset(
    {"GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LANG", "LANGUAGE", "LOCALDOMAIN", "LOCPATH", "NIS_PATH", "NLSPATH"}
    | {"RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What is true of this machine, looked up once."""

    bwrap: str
    #: weft runs as root, so a step may be given a user of its own; needs ``setpriv`` (util-linux).
    root: bool
    setpriv: str | None = None
    #: Directory -> None where it is bound read-only, or the target where the host has a symbolic link.
    system: Mapping[str, str | None]
    #: Names below /etc that exist.
    etc: tuple[str, ...] = ()
    #: Other folders that every step may read, such as the Python environment that runs weft.
    visible: tuple[Path, ...] = ()
    network: bool = False
    #: Size of /tmp, where no mount lies there.
    tmp_bytes: int = 1 << 30


def argv(host: Host, program: Sequence[str]) -> list[str]:
    """Return the command line that runs ``program`` (see ``inner``) with options read from descriptor ARGS."""
    reports = ["--json-status-fd", str(REPORT), "--sync-fd", str(ALIVE)]
    return [host.bwrap, *reports, "--args", str(ARGS), "--", *program]


def inner(
    host: Host, command: Sequence[str], *, user: tuple[int, int] | None = None, late: Mapping[str, str] | None = None
) -> list[str]:
    """Return what runs inside first: the change of user, the environment that was held back, then ``command``.

    ``env`` also makes the exit codes 127 (no such program) and 126 (not a program) what they are in containers.
    """
    words = []
    if user is not None and host.setpriv is not None:
        uid, gid = user
        words = [host.setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all", "--"]
    return [*words, "/usr/bin/env", "--", *(f"{name}={value}" for name, value in (late or {}).items()), *command]


def options(
    host: Host,
    mounts: Sequence[Mount],
    *,
    workdir: str,
    env: Mapping[str, str],
    identity: Path | None,
    user: tuple[int, int] | None,
) -> list[str]:
    """Return the options that bubblewrap reads from its ``--args`` descriptor.

    ``identity`` is a host folder with the ``passwd`` and ``group`` files that the step sees.

    :raises ExecutorRefused: a mount's path cannot be made here.
    """
    words = [
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if host.network else ("--unshare-net",)),
        *("--hostname", "weft", "--die-with-parent", "--new-session", "--clearenv"),
    ]
    if host.root:
        words += ["--cap-drop", "ALL"]
        if user is not None:
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for part in _tree(host, mounts, workdir, identity):
        words += part
    words += ["--remount-ro", "/", "--chdir", workdir]
    for name, value in env.items():
        words += ["--setenv", name, value]
    return words


def split_environment(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split what may be set at once from what a program that still has rights must not see."""
    late = {name: value for name, value in env.items() if _is_loader_name(name)}
    return {name: value for name, value in env.items() if name not in late}, late


def prepared(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    stdout: str | None = None,
    stderr: str | None = None,
    workdir: str | None = None,
) -> list[str]:
    """Return a command that opens these paths, makes and enters ``workdir``, and then becomes ``command``.

    All this happens inside, with the step's own rights: a link that an earlier step planted leads nowhere else.
    The paths are arguments, never part of the script.
    """
    script, words = [], []
    for operator, path in (("2>", None if stderr == stdout else stderr), ("<", stdin), (">", stdout)):
        if path is not None and operator != "<":
            script.append('[ -d "$1" ] || mkdir -p -- "$1"; shift')
            words.append(str(PurePosixPath(path).parent))
        if path is not None:
            script.append(f'exec {operator}"$1"; shift')
            words.append(path)
    if stdout is not None and stderr == stdout:
        script.append("exec 2>&1")
    if workdir is not None:
        script.append('[ -d "$1" ] || mkdir -p -- "$1"; cd -- "$1" || exit 126; shift; unset OLDPWD')
        words.append(workdir)
    if not script and "=" not in command[0]:
        return list(command)
    return ["/bin/sh", "-c", "; ".join([*script, 'exec "$@"']), "weft", *words, *command]


def _tree(host: Host, mounts: Sequence[Mount], workdir: str, identity: Path | None) -> list[list[str]]:
    """Return the options that make the file system, parents before children."""
    targets = {PurePosixPath(mount.target) for mount in mounts}
    parts: dict[PurePosixPath, list[str]] = {}
    for path, link in host.system.items():
        parts[PurePosixPath(path)] = ["--ro-bind", path, path] if link is None else ["--symlink", link, path]
    for name in host.etc:
        parts[PurePosixPath("/etc", name)] = ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in ("passwd", "group") if identity is not None else ():
        parts[PurePosixPath("/etc", name)] = ["--ro-bind", f"{identity}/{name}", f"/etc/{name}"]
    parts[PurePosixPath("/proc")] = ["--proc", "/proc"]
    parts[PurePosixPath("/dev")] = ["--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    parts[TMP] = ["--perms", "1777", "--size", str(host.tmp_bytes), "--tmpfs", str(TMP)]
    for folder in host.visible:
        if not _covered(PurePosixPath(folder), targets):
            parts[PurePosixPath(folder)] = ["--ro-bind", str(folder), str(folder)]
    if _is_missing(PurePosixPath(workdir), parts, targets):
        _refuse_below_system(PurePosixPath(workdir), host.system)
        parts[PurePosixPath(workdir)] = ["--perms", "1777", "--size", str(host.tmp_bytes), "--tmpfs", workdir]
    for mount in mounts:
        target = PurePosixPath(mount.target)
        _refuse_below_system(target, host.system)
        parts[target] = ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
    closed = [PurePosixPath(path) for path in (*map(str, host.visible), *host.system, "/proc", "/dev")]
    for parent in {parent for path in parts for parent in path.parents} - set(parts):
        if not _covered(parent, closed):  # bubblewrap itself would make it for root alone
            parts[parent] = ["--perms", "0755", "--dir", str(parent)]
    return [parts[path] for path in sorted(parts, key=lambda path: (len(path.parts), path))]


def nested(mounts: Sequence[Mount]) -> list[list[str]]:
    """Return [host folder, path below it] for each mount that lies inside another one.

    bubblewrap makes such a path with weft's own rights, so no part of it may be a link that a step planted.
    """
    found = []
    for mount in mounts:
        target = PurePosixPath(mount.target)
        outer = [other for other in mounts if other is not mount and target.is_relative_to(other.target)]
        found += [[str(other.source), str(target.relative_to(other.target))] for other in outer]
    return found


def _refuse_below_system(target: PurePosixPath, system: Iterable[str]) -> None:
    for path in system:
        if target.is_relative_to(path) and not Path(target).exists():
            raise ExecutorRefused(
                f"nothing can be mounted at {target}: without an image {path} is the host's own and read-only",
                remedy=f"use a path that is not below {path}, or a server with a container engine",
            )


def _is_missing(workdir: PurePosixPath, parts: Iterable[PurePosixPath], targets: Iterable[PurePosixPath]) -> bool:
    """Tell whether no mount makes ``workdir``, neither as its parent nor as its child."""
    if _covered(workdir, targets) or any(target.is_relative_to(workdir) for target in targets):
        return False
    return not any(
        path.is_relative_to(workdir) or (path != TMP and workdir.is_relative_to(path) and Path(workdir).is_dir())
        for path in parts
    )


def _covered(path: PurePosixPath, by: Iterable[PurePosixPath]) -> bool:
    return any(path.is_relative_to(target) for target in by)


def _is_loader_name(name: str) -> bool:
    return name.startswith(_LOADER_PREFIXES) or name in _LOADER_NAMES or not name.isidentifier()
