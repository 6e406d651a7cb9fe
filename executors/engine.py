"""Run workflow engines: each a fork of a primed process, shut in, with weft's own TES as its one way out.

The executor ``engine`` is ``executors.process.ProcessExecutor`` with another plan and another launcher: runs are
supervised, observed, cancelled and adopted exactly like host processes. A step ``python -m MODULE …`` is run by the
warm host of that module (``executors.engine_host``), any other step by a fresh process with the same sandbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import platform
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, cast

from executors import bubblewrap, command, engine_host, sandbox, supervisor
from executors.process import Planner, ProcessExecutor
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.folders import AttemptFolder, Folders, log_path
from weft.model import Submission
from weft.ports import Capabilities, Executor, Health

if TYPE_CHECKING:
    from executors.supervisor import Plan, StepPlan

#: How long an engine may take to cancel its tasks after SIGTERM, in seconds; weft cancels what is left.
GRACE_SECONDS = 2.0
#: How long a host may take to import and prime its module, in seconds.
START_SECONDS = 60.0
#: Where the packages of weft lie.
PACKAGES = Path(__file__).resolve().parents[1]
_OWN = ("weft", "executors", "wes_service", "tes_service")
#: The image that a step names which means this very host.
HOST_IMAGE = "host"
#: The home of the user inside.
HOME = "/home/weft"
log = logging.getLogger(__name__)
_START = "import sys; sys.path.insert(0, sys.argv[1]); from executors.engine_host import main; main(sys.argv[2:])"


def create(settings: Settings) -> Executor:
    """Return the executor ``engine``."""
    return EngineExecutor(
        hosts=WarmLauncher(settings.data / "engine-host", idle_seconds=settings.engine.warm_idle_seconds),
        capabilities=Capabilities(
            name=engine_host.EXECUTOR, uses_image=False, wakes=True, slots=settings.engine.max_running
        ),
        folders=Folders(settings.data),
        plan=EnginePlanner(settings).plan,
        check=check,
    )


class EngineExecutor(ProcessExecutor):
    """A ``ProcessExecutor`` whose warm hosts end with it; engines that run go on."""

    def __init__(
        self,
        *,
        hosts: WarmLauncher,
        capabilities: Capabilities,
        folders: Folders,
        plan: Planner,
        check: Callable[[], Health],
    ) -> None:
        """Keep the collaborators."""
        super().__init__(capabilities=capabilities, folders=folders, plan=plan, launch=hosts, check=check)
        self._hosts = hosts

    def stop(self) -> None:
        """Stop listening, and let the warm hosts go."""
        super().stop()
        self._hosts.end()


def check() -> Health:
    """Tell whether engines can run here, and whether shut in."""
    problem = _probe()
    if problem is None:
        return Health(usable=True, detail="engines run in namespaces of their own, without a network")
    return Health(
        usable=True,
        detail=f"engines run without a sandbox, with resource limits only: {problem}",
        remedy="allow weft to make namespaces: run it as root, or enable unprivileged user namespaces",
    )


def _probe() -> str | None:
    """Look in a process of one thread whether a sandbox can be made."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from executors import sandbox; print(sandbox.problem() or '')"
    )
    done = command.run([sys.executable, "-I", "-S", "-c", script, str(PACKAGES)], timeout=10)
    return done.stdout.strip() or (done.stderr.strip()[-200:] if done.exit_code else None)


class EnginePlanner:
    """Decides what an engine's process may see and use."""

    def __init__(self, settings: Settings) -> None:
        """Keep what the settings say."""
        self._settings = settings

    def plan(self, work: Submission) -> Plan:
        """Plan the steps of a run; there is one.

        :raises ExecutorRefused: a mount is not at its own path.
        """
        if any(str(mount.source) != mount.target for mount in work.mounts):
            raise ExecutorRefused("the executor engine shows folders at their own paths only")
        images = dict.fromkeys(step.image for step in work.steps if step.image != HOST_IMAGE)
        plan: Plan = {
            "key": work.key,
            "grace_seconds": GRACE_SECONDS,
            "steps": [self._step(work, index) for index in range(len(work.steps))],
            "messages": [f"image {image} was not used: engines run on weft's own host" for image in images],
            "metadata": {"host": platform.node()},
        }
        return cast("Plan", {**plan, "view": asdict(self._view(work))})

    def _step(self, work: Submission, index: int) -> StepPlan:
        step = work.steps[index]
        user = self._user(work)
        logs = [log_path(work.folder, work.mounts, work.steps, index, stream) for stream in ("stdout", "stderr")]
        limit = self._settings.max_log_bytes
        return {
            "argv": list(step.command),
            "env": {**_environment(), **step.env, supervisor.COOKIE: work.key},
            "cwd": step.workdir or "/",
            "ignore_error": step.ignore_error,
            "stdout": {"path": str(logs[0]), "limit": limit},
            "stderr": {"path": str(logs[1]), "limit": limit},
            "limits": self._limits(user is not None),
            "owner": user,
            "user": None,
            "sandbox": [],
            "no_links": [],
        }

    def _user(self, work: Submission) -> list[int] | None:
        known = os.geteuid() == 0 and work.uid is not None and work.gid is not None
        return [cast("int", work.uid), cast("int", work.gid)] if known else None

    def _limits(self, own_user: bool) -> dict[str, int]:
        memory = int(self._settings.engine.memory_gb * 10**9)
        limits = {"CORE": 0, "NOFILE": 65_536, "AS": memory}
        return {**limits, "NPROC": 4_096} if own_user else limits

    def _view(self, work: Submission) -> sandbox.View:
        """Show the system, Python, the run's folder, its token and the engines' socket; nothing else."""
        settings = self._settings
        user = self._user(work)
        way_out = settings.engine_socket.parent if settings.engine_socket.parent != settings.data else None
        token = AttemptFolder(work.folder).control / "token"
        system = [path for path in bubblewrap.SYSTEM if Path(path).is_dir() and not Path(path).is_symlink()]
        own = [PACKAGES / name for name in _OWN if not PACKAGES.is_relative_to(sys.prefix)]
        etc = [Path("/etc", name) for name in (*bubblewrap.ETC, "passwd", "group")]
        etc += Path("/etc").glob("java-*-openjdk")  # where Debian keeps what a Java machine cannot start without
        programs = [path.resolve() for path in (settings.engine.nextflow, settings.engine.nextflow_home) if path]
        readable: list[str | Path] = [*system, *_python(), *own, *etc, *programs, token]
        readable.append(way_out or settings.engine_socket)
        writable = [mount.source for mount in work.mounts if not mount.read_only]
        readable += [mount.source for mount in work.mounts if mount.read_only]
        return sandbox.View(
            readable=tuple(str(path) for path in readable if Path(path).exists()),
            writable=tuple(str(path) for path in writable),
            links={path: os.readlink(path) for path in bubblewrap.SYSTEM if Path(path).is_symlink()},  # noqa: PTH115
            hidden=tuple({str(settings.data), str(settings.data.resolve())}),
            scratch=("/tmp", HOME),  # noqa: S108
            uid=user[0] if user else None,
            gid=user[1] if user else None,
        )


def _environment() -> dict[str, str]:
    """Give an engine a plain environment, with nothing of weft's own in it."""
    return {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{bubblewrap.PATH}",
        "HOME": HOME,
        "TMPDIR": "/tmp",  # noqa: S108
        "USER": "weft",
        "LOGNAME": "weft",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _python() -> tuple[Path, ...]:
    """Return the folders of the Python that runs weft, where /usr does not hold them anyway."""
    interpreter = Path(sys.executable).resolve().parent.parent
    folders = dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), interpreter))
    return tuple(folder for folder in folders if folder.is_dir() and not folder.is_relative_to("/usr"))


class WarmLauncher:
    """Asks the warm host of a step's module to start it; starts the host where there is none."""

    def __init__(self, folder: Path, *, idle_seconds: float) -> None:
        """Keep the hosts' sockets in ``folder``; nothing is made yet."""
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._children: set[int] = set()

    def __call__(self, control: Path) -> None:
        """Start a supervisor for ``control`` and return when the folder is claimed.

        :raises Unavailable: neither a warm nor a cold process can be started now.
        """
        self._reap()
        module = preloadable(control)
        if module is not None:
            try:
                self._call(module, control)
            except (Unavailable, OSError) as error:
                log.warning("no warm engine, starting a cold one: %s", error)
            else:
                return
        self._spawn_cold(module or "builtins", control)

    def end(self) -> None:
        """End all warm hosts: a host whose socket is gone stops, and a connection makes it look."""
        with self._lock:
            for path in self._folder.glob("?" * 16):
                with _short(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wake:
                    wake.settimeout(1.0)
                    with contextlib.suppress(OSError):
                        wake.connect(address)
                    path.unlink(missing_ok=True)
            self._reap()

    def _call(self, module: str, control: Path) -> None:
        name = _socket_name(module)
        for _ in range(2):  # a host may end between the connection and its answer
            with contextlib.suppress(ConnectionError, FileNotFoundError), self._connected(module, name) as connection:
                connection.settimeout(START_SECONDS)
                connection.sendall(str(control).encode())
                answer = connection.recv(4096).decode()
                if answer == "ok":
                    return
                if answer:
                    raise Unavailable(f"the warm host of {module} cannot start an engine: {answer}")
        raise Unavailable(f"the warm host of {module} does not answer")

    @contextlib.contextmanager
    def _connected(self, module: str, name: str) -> Iterator[socket.socket]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _short(self._folder / name) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(address)
            except (FileNotFoundError, ConnectionRefusedError):
                self._ensure_host(module, name, address)
                connection.connect(address)
            yield connection

    def _ensure_host(self, module: str, name: str, address: str) -> None:
        """Bind the socket and start a host that inherits it, unless another thread or process was first."""
        with self._lock, (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
                probe.connect(address)
                return  # closed without a request: the host takes no notice
            (self._folder / name).unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(address)
                listener.listen(128)
                argv = _argv("serve", module, str(self._idle_seconds), str(self._folder / name))
                notes = self._folder / "host.log"
                self._children.add(command.spawn(argv, env=_plain(), stdin=listener.fileno(), stderr=notes))

    def _spawn_cold(self, module: str, control: Path) -> None:
        """Start a process for this run alone."""
        mine, its = socket.socketpair()
        with mine:
            with its:
                argv = _argv("once", module, str(control))
                notes = control / "supervisor.log"
                self._children.add(command.spawn(argv, env=_plain(), stdin=its.fileno(), stderr=notes))
            mine.settimeout(START_SECONDS)
            if mine.recv(4096) != b"ok":
                said = notes.read_text(errors="replace").strip().rpartition("\n")[2]
                raise Unavailable(f"an engine cannot be started: {said or 'it gives no reason'}")

    def _reap(self) -> None:
        """Take the exit status of hosts that ended."""
        for pid in list(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._children.discard(pid)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give an address of the socket ``path`` that is short, however long the data folder's own path is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def preloadable(control: Path) -> str | None:
    """Return the module of a step ``python -m MODULE …`` that lies beside an installed engine; else None."""
    (words, *more) = (step["argv"] for step in json.loads((control / "job.json").read_bytes())["steps"])
    if more or len(words) < 3 or words[:2] != [sys.executable, "-m"]:
        return None
    beside = {point.module.rpartition(".")[0] for point in metadata.entry_points(group="weft.engines")}
    return str(words[2]) if words[2].rpartition(".")[0] in beside else None


def _argv(*words: str) -> list[str]:
    return [sys.executable, "-I", "-X", "utf8", "-c", _START, str(PACKAGES), *words]


def _plain() -> dict[str, str]:
    """Return the host's own environment: nothing of weft's."""
    return {"PATH": bubblewrap.PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent", "USER": "weft", "LOGNAME": "weft"}


def _socket_name(module: str) -> str:
    """Name a host by what it would run: another version of weft or of the module gets a host of its own."""
    found = util.find_spec(module)
    files = [Path(engine_host.__file__), *([Path(found.origin)] if found and found.origin else [])]
    facts = [sys.executable, module, metadata.version("weft"), *(str(path.stat().st_mtime_ns) for path in files)]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
