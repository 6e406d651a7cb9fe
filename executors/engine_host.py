"""Be the primed parent of engine processes: import an engine's module once, then fork a supervised run at each call.

::

    serve MODULE IDLE_SECONDS SOCKET    the warm host; standard input is the socket of that path, listening
    once MODULE CONTROL                 the same run, cold; standard input is the call's connection

A call is a connection that sends the path of a control folder with its ``job.json`` and is answered ``ok`` when the
folder is claimed, or with the reason why not. The job is then supervised by ``executors.supervisor`` in a process of
its own that outlives this one, and the step runs as ``MODULE.main(argv)`` in a fork that is shut in by
``executors.sandbox``. ``MODULE.prime()``, where there is one, is called once before the first fork: it warms up
whatever a run needs and leaves no thread behind.

The host is started with an empty environment and knows no secret. It ends when no call came for a while or its
socket is gone with the data folder; engines that run go on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from executors import sandbox, supervisor
from executors.lineage import PR_SET_NO_NEW_PRIVS, prctl

if TYPE_CHECKING:
    from executors.supervisor import StepPlan

#: The executor's name in claims and handles.
EXECUTOR = "engine"
#: How often an idle host looks whether its socket is still there, in seconds.
BEAT = 5.0
#: Option of prctl(2).
PR_SET_DUMPABLE = 4
#: Longest request: a path.
_LONGEST = 8192


def serve(module_name: str, idle_seconds: float, path: Path, listener: socket.socket) -> None:
    """Answer calls until it has been quiet for ``idle_seconds`` or the socket's ``path`` is gone."""
    _call_myself("weft-host")
    runner = _Runner(module_name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are nobody's to wait for
    last = time.monotonic()
    while (idle := time.monotonic() - last) < idle_seconds and path.exists():
        if select.select([listener], [], [], min(BEAT, idle_seconds - idle))[0]:
            _answer(listener, runner)
            last = time.monotonic()
    path.unlink(missing_ok=True)
    while select.select([listener], [], [], 0)[0]:  # who connected in the last moment
        _answer(listener, runner)


def _answer(listener: socket.socket, runner: _Runner) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5.0)
        try:
            if _peer(connection) != os.geteuid():
                return
            control = connection.recv(_LONGEST).decode()
            if control:
                runner.start(control, listener, connection)
        except Exception as error:
            traceback.print_exc()
            connection.sendall(f"error {type(error).__name__}: {error}".encode())


def _peer(connection: socket.socket) -> int:
    """Return the user at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])


class _Runner:
    """The primed module, and the fork of a supervisor for one run."""

    def __init__(self, module_name: str) -> None:
        self.module = importlib.import_module(module_name)
        prime = getattr(self.module, "prime", None)
        if prime is not None:
            prime()
        self.problem = sandbox.problem()
        gc.collect()
        gc.freeze()  # so that a collection in a fork does not touch, and copy, every page

    def start(self, control: str, listener: socket.socket, connection: socket.socket) -> None:
        """Fork a supervisor for ``control``; it answers the call itself when it has claimed the folder."""
        pid = os.fork()
        if pid:
            return
        _call_myself("weft-supervise")
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        _begin(control, self.module, self.problem, connection)


def _begin(control: str, module: ModuleType, problem: str | None, connection: socket.socket) -> NoReturn:
    """Claim the folder, answer the call, and supervise the job in this process, which ends with it."""
    try:
        signal.signal(signal.SIGTERM, lambda *_: _end_early(control))
        _redirect(control)
        claimed = supervisor.claim(control, EXECUTOR, os.getpid())
        with contextlib.suppress(OSError):  # a caller that died in the meantime changes nothing
            connection.sendall(b"ok")
        connection.close()
        if claimed:
            supervise(control, module, problem)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _end_early(control: str) -> None:
    """Leave evidence of a SIGTERM that came before the supervisor could take it."""
    supervisor.write_status(
        control, {"over": True, "steps": [], "failure": supervisor.STOPPED, "messages": [], "metadata": {}}
    )
    os._exit(0)


def _call_myself(name: str) -> None:
    """Set the name that ps -o comm shows (15 characters), because a fork keeps its parent's command line."""
    with contextlib.suppress(OSError):  # after a change of user it is no longer ours
        Path("/proc/self/comm").write_text(name)


def _redirect(control: str) -> None:
    """Let go of the socket that is standard input, and keep what goes wrong in the control folder."""
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(f"{control}/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, null), (2, log)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


def supervise(control: str, module: ModuleType, problem: str | None) -> None:
    """Run the claimed job of ``control`` to its end, shut in unless there is a ``problem`` with that."""
    job = Path(control, "job.json")
    plan = json.loads(job.read_bytes())
    if problem is not None:
        plan["messages"].append(f"the engine runs without a sandbox, with resource limits only: {problem}")
        for step in plan["steps"]:
            step["sandbox"] = None
            step["user"] = step["owner"]
            step["env"]["HOME"] = f"{step['cwd']}/.weft/home"
        job.with_suffix(".new").write_text(json.dumps(plan), encoding="utf-8")
        job.with_suffix(".new").replace(job)
    view = sandbox.View(**plan["view"])
    own = os.getpid()

    def become(step: StepPlan) -> NoReturn:
        _call_myself("weft-engine")
        inside = _program(step, module)
        if problem is not None:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            prctl(PR_SET_DUMPABLE, 1)  # so that /dev/stdout stays the engine's own after the change of user
            os._exit(_code(inside))
        sandbox.die_with_parent()
        if os.getppid() != own:
            os._exit(128 + signal.SIGKILL)
        sandbox.shut_in(view, lambda: _closed(inside), _report)

    supervisor.supervise(control, become)


def _report(code: int) -> None:
    """Tell the supervisor that the sandbox stood, as bubblewrap does."""
    os.write(supervisor.REPORT, json.dumps({"exit-code": code}).encode())


def _closed(inside: Callable[[], int]) -> int:
    """Close the supervisor's descriptors inside, then run."""
    for descriptor in (supervisor.ARGS, supervisor.REPORT, supervisor.ALIVE):
        os.close(descriptor)
    return inside()


def _program(step: StepPlan, module: ModuleType) -> Callable[[], int]:
    """Return what a step does: the module's ``main`` if its command names that module, else an execve."""
    words = step["argv"]

    def run() -> int:
        os.chdir(step["cwd"])
        with contextlib.suppress(OSError):
            Path(step["env"]["HOME"]).mkdir(parents=True, exist_ok=True)
        if words[1:3] != ["-m", module.__name__]:
            os.execvpe(words[0], words, step["env"])  # noqa: S606
        _begin_anew(step["env"])
        sys.argv = [str(module.__file__), *words[3:]]
        main = cast("Callable[[Sequence[str]], int]", module.main)
        return main(words[3:])

    return run


def _begin_anew(env: Mapping[str, str]) -> None:
    """Forget what a fork shares with its siblings."""
    os.environ.clear()
    os.environ.update(env)
    os.umask(0o022)
    random.seed()
    tempfile.tempdir = None
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        cast("Any", stream).reconfigure(line_buffering=True)


def _code(inside: Callable[[], int]) -> int:
    try:
        return inside()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def once(module_name: str, control: str, connection: socket.socket) -> NoReturn:
    """Answer one call in this very process, cold."""
    found = importlib.util.find_spec(module_name)
    module = importlib.import_module(module_name if found else "builtins")
    _begin(control, module, sandbox.problem(), connection)


def main(argv: Sequence[str]) -> None:
    """Serve, or run once."""
    what, module_name, *rest = argv
    os.chdir("/")
    given = socket.socket(fileno=os.dup(0))
    if what == "once":
        once(module_name, rest[0], given)
    serve(module_name, float(rest[0]), Path(rest[1]), given)
    os._exit(0)
