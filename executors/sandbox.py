"""Shut a forked process in, without a program's help: namespaces, a private view of the files, no rights.

For processes that must not be executed anew because they are primed (``executors.engine_host``). What bubblewrap
does for a command, this does for a fork, by the same calls: unshare(2), mount(2), mount_setattr(2), pivot_root(2),
prctl(2), capset(2); see user_namespaces(7) for weft that is not root. Linux; standard library only.

``shut_in`` is called in a process with one thread. It forks: the child goes on inside as the first process of its
own process namespace, the parent waits for it and ends with its exit code. When the parent is killed, everything
inside is killed by the kernel.
"""

# ruff: noqa: PTH123  (the standard library's lowest layer is the right one between fork and the user's code)
from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

#: Flags of unshare(2).
NEW_FILES, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
EVERYTHING = NEW_FILES | NEW_UTS | NEW_IPC | NEW_PIDS | NEW_NET

#: Flags of mount(2) and umount2(2).
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_BIND, _REC, _PRIVATE, _REMOUNT, _RDONLY = 0x1000, 0x4000, 1 << 18, 32, 1
_DETACH = 2
#: mount_setattr(2), the same number on every architecture; its attributes.
_SYS_MOUNT_SETATTR, _AT_RECURSIVE, _AT_FDCWD = 442, 0x8000, -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
#: prctl(2).
_PDEATHSIG, _DUMPABLE, _CAPBSET_DROP, _NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 1, 4, 24, 38, 47, 4
_CAPABILITY_VERSION_3, _LAST_CAPABILITY = 0x20080522, 63

_DEVICES = ("null", "zero", "full", "random", "urandom")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the process inside sees; every path is the host's own and stays the same inside."""

    #: Read-only files and folders.
    readable: Sequence[str] = ()
    #: Files and folders that may be written, as far as the user may.
    writable: Sequence[str] = ()
    #: Path -> target of symbolic links, such as /bin -> usr/bin.
    links: dict[str, str] = field(default_factory=dict)
    #: Folders that are empty inside, except for what ``readable`` and ``writable`` name below them.
    hidden: Sequence[str] = ()
    #: Fresh empty folders in memory for the user: /tmp, a home.
    scratch: Sequence[str] = ("/tmp", "/home/weft")  # noqa: S108
    scratch_bytes: int = 1 << 30
    #: User and group to become; None stays who it is, without any capability.
    uid: int | None = None
    gid: int | None = None


class CannotShutIn(OSError):
    """The machine does not let a process make namespaces."""


def problem() -> str | None:
    """Try in a child whether a process can be shut in here; return what is wrong, or None."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            shut_in(View(readable=("/usr",)), lambda: 0)
        except OSError as error:
            os.write(writer, str(error).encode()[:500])
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == 0 else said or f"exit code {status}"


def shut_in(view: View, inside: Callable[[], int], on_end: Callable[[int], None] = lambda _code: None) -> NoReturn:
    """Call ``inside`` shut in, and end this process with the exit code that it returns; never returns.

    ``on_end`` is called with that code in the process that stayed outside. Should the view not come about, the
    problem is written to standard error and the exit code is 126, without a call of ``on_end``.

    :raises CannotShutIn: the namespaces are refused; nothing has changed.
    """
    flags = EVERYTHING if os.geteuid() == 0 else EVERYTHING | NEW_USER
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise CannotShutIn(number, f"namespaces are refused: {os.strerror(number)}")
    if flags & NEW_USER:
        _map_user(uid, gid)
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        _enter(view, inside, ready, go)
    os.close(go)
    made = os.read(ready, 1) == b"."
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = code if code >= 0 else 128 - code
    if made:
        on_end(code)
    os._exit(code)


def _enter(view: View, inside: Callable[[], int], ready: int, go: int) -> NoReturn:
    """Be the first process inside."""
    code = 126
    try:
        os.close(ready)
        die_with_parent()
        _see_only(view)
        _give_up_rights(view.uid, view.gid)
        die_with_parent()  # a change of user has taken it back
        os.write(go, b".")
        os.close(go)
        code = inside()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        os.write(2, f"weft: {type(error).__name__}: {error}\n".encode())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def die_with_parent() -> None:
    """Be killed when the parent dies; so nothing outlives the supervisor."""
    _prctl(_PDEATHSIG, signal.SIGKILL)


def _map_user(uid: int, gid: int) -> None:
    """Be the same user in the new user namespace (user_namespaces(7))."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


# -- files -----------------------------------------------------------------------------------------------------------


def _see_only(view: View) -> None:
    """Make the view below a memory file system, and make that the root."""
    shown = {*view.readable, *view.writable}
    sources = {path: os.path.realpath(path) for path in shown}
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=16m")  # noqa: S108
    for name in ("old", "new"):
        os.mkdir(f"/tmp/{name}", 0o755)  # noqa: PTH102, S108
    _pivot("/tmp", "/tmp/old")  # noqa: S108
    _mount("tmpfs", "/new", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=16m")
    os.umask(0o022)
    _make_base(view)
    for path in sorted({*shown, *view.hidden}, key=lambda path: path.count("/")):
        if path in view.hidden:
            _make_folder("/new" + path)
            _mount("tmpfs", "/new" + path, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=16m")
        else:
            _show(sources[path], path, writable=path in view.writable)
    _mount("none", "/new", None, _REMOUNT | _BIND | _NOSUID | _NODEV | _RDONLY)
    for path in view.hidden:
        _mount("none", "/new" + path, None, _REMOUNT | _BIND | _NOSUID | _NODEV | _RDONLY)
    os.chdir("/new")
    _pivot(".", ".")
    if _libc.umount2(b".", _DETACH) != 0:
        raise _failed("umount2")
    os.chdir("/")


def _make_base(view: View) -> None:
    """Make /proc, /dev, the scratch folders and the links."""
    os.mkdir("/new/proc", 0o755)  # noqa: PTH102
    _mount("proc", "/new/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for name in ("sys", "sysrq-trigger", "irq", "bus"):  # switches of the kernel that root's user id alone may turn
        path = f"/new/proc/{name}"
        if os.path.exists(path):  # noqa: PTH110
            _mount(path, path, None, _BIND | _REC)
            _set_attributes(path, _ATTR_RDONLY)
    os.mkdir("/new/dev", 0o755)  # noqa: PTH102
    for name in _DEVICES:
        _show(f"/dev/{name}", f"/dev/{name}", writable=True, device=True)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"/new/dev/{name}")  # noqa: PTH211
    for path in ("/dev/shm", *view.scratch):  # noqa: S108
        _make_folder("/new" + path)
        size = f"size={view.scratch_bytes}"
        _mount("tmpfs", "/new" + path, "tmpfs", _NOSUID | _NODEV, f"mode=1777,{size}")
    for path, target in view.links.items():
        _make_folder(os.path.dirname("/new" + path))  # noqa: PTH120
        os.symlink(target, "/new" + path)  # noqa: PTH211


def _show(source: str, path: str, *, writable: bool, device: bool = False) -> None:
    """Bind the host's ``source`` (without symbolic links) to ``path`` inside."""
    source, target = "/old" + source, "/new" + path
    if stat.S_ISDIR(os.stat(source).st_mode):  # noqa: PTH116
        _make_folder(target)
    else:
        _make_folder(os.path.dirname(target))  # noqa: PTH120
        with contextlib.suppress(FileExistsError):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    _mount(source, target, None, _BIND | _REC)
    attributes = _ATTR_NOSUID | (0 if device else _ATTR_NODEV) | (0 if writable else _ATTR_RDONLY)
    _set_attributes(target, attributes)


def _make_folder(path: str) -> None:
    os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [os.fsencode(source), os.fsencode(target), None if kind is None else kind.encode()]
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode()) != 0:
        raise _failed(f"mount {target.removeprefix('/new')}")


def _set_attributes(target: str, attributes: int) -> None:
    """Restrict a mount and all mounts below it (mount_setattr(2), Linux 5.12)."""
    wanted = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0))
    name = os.fsencode(target)
    if _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, name, _AT_RECURSIVE, wanted, ctypes.c_size_t(32)) != 0:
        raise _failed(f"mount_setattr {target.removeprefix('/new')}")


def _pivot(new_root: str, put_old: str) -> None:
    """Call pivot_root(2), which the C library does not wrap."""
    number = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}[os.uname().machine]
    if _libc.syscall(number, new_root.encode(), put_old.encode()) != 0:
        raise _failed("pivot_root")
    if new_root != ".":
        os.chdir("/")


# -- rights ----------------------------------------------------------------------------------------------------------


def _give_up_rights(uid: int | None, gid: int | None) -> None:
    """Become the user, and hold no capability, now or by executing anything."""
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    _drop_capabilities()
    _prctl(_NO_NEW_PRIVS, 1)
    _prctl(_DUMPABLE, 1)  # so that /proc/self stays the process's own after the change of user


def _drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets (capset(2), version 3)."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    if _libc.capset(header, ctypes.create_string_buffer(24)) != 0:
        raise _failed("capset")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _failed(f"prctl {option}")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
