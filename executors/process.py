"""Run jobs on this host, each under a detached supervisor: the executor where no container engine is reachable.

``ProcessExecutor`` knows only the control folder that ``executors.supervisor`` describes. How a submission becomes a
plan (``plan``) and how a supervisor is started (``launch``) are collaborators, so that another kind of host process
can be driven by the same class. The native id of a handle is the job's key, and the key tells the folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executors import command, lineage, supervisor
from executors.host import HostPlanner
from weft.config import Settings
from weft.errors import Bug, Unavailable
from weft.folders import AttemptFolder, Folders
from weft.model import Handle, StepResult, Submission
from weft.ports import Capabilities, Executor, Failure, Health, Observation, Phase

if TYPE_CHECKING:
    from executors.supervisor import Claim, Plan

#: Makes the job's plan. :raises ExecutorRefused: it can never run here.
Planner = Callable[[Submission], "Plan"]
#: Starts a supervisor for a control folder that holds ``job.json`` and returns when the folder is claimed (its ``pid``
#: file exists). For a folder that is claimed already it changes nothing. :raises Unavailable: it cannot now.
Launcher = Callable[[Path], None]

#: How long a step may take to end after SIGTERM, in seconds.
GRACE_SECONDS = 0.5
#: The first of so many calls of ``list`` walks through the folders of all jobs that there ever were.
WALK_ALL_EVERY = 60
log = logging.getLogger(__name__)


def create(settings: Settings) -> Executor:
    """Return the executor ``process``."""
    planner = HostPlanner(settings, grace_seconds=GRACE_SECONDS)
    cores = os.cpu_count() or 1
    return ProcessExecutor(
        capabilities=Capabilities(
            name="process",
            uses_image=False,
            wakes=True,
            cpu_cores=cores,
            ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            slots=2 * cores,
        ),
        folders=Folders(settings.data),
        plan=planner.plan,
        launch=Spawner("process"),
        check=planner.check,
    )


class Spawner:
    """Launches supervisors as fresh Python processes."""

    def __init__(self, executor: str) -> None:
        self._executor = executor

    def __call__(self, control: Path) -> None:
        """Start a supervisor, claim the folder for it, and only then tell it to go on.

        A supervisor that never gets its word goes on if the folder is claimed for it (weft died here), else it ends.
        """
        reader, writer = os.pipe()
        try:
            pid = command.spawn(supervisor_argv(control), env={}, stdin=reader, stderr=control / "supervisor.log")
            if supervisor.claim(str(control), self._executor, pid):
                with contextlib.suppress(BrokenPipeError):
                    os.write(writer, b"!")
            else:
                os.close(writer)
                writer = -1
                os.waitpid(pid, 0)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)


class ProcessExecutor:
    """Drives supervisors through their control folders."""

    def __init__(
        self,
        *,
        capabilities: Capabilities,
        folders: Folders,
        plan: Planner,
        launch: Launcher,
        check: Callable[[], Health],
    ) -> None:
        """Keep the collaborators; see ``Planner`` and ``Launcher``."""
        self.capabilities = capabilities
        self._folders = folders
        self._plan = plan
        self._launch = launch
        self._check = check
        self._deaths = _Deaths()
        self._lists = 0

    def check(self) -> Health:
        """Tell whether steps can run here, and whether in a sandbox."""
        return self._check()

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Begin to listen to the ends of supervisors."""
        self._deaths.start(wake)

    def stop(self) -> None:
        """Stop listening; supervisors go on."""
        self._deaths.stop()

    def submit(self, work: Submission) -> Handle:
        """Start the job, unless its folder says that it was started before."""
        control = self._control(work.key)
        if control != AttemptFolder(work.folder).control:
            raise Bug(f"job {work.key} does not lie in {control.parent}")
        handle = Handle(executor=self.capabilities.name, native_id=work.key)
        if self.find(work.key) is None:
            control.mkdir(parents=True, exist_ok=True, mode=0o700)
            AttemptFolder(work.folder).logs.mkdir(exist_ok=True)
            self._folders.mark(work.key)
            _write(control / "job.json", self._plan(work))
            self._launch(control)
        claim = _claim(control, self.capabilities.name)
        if claim is not None:
            self._listen(handle, claim)
        return handle

    def find(self, key: str) -> Handle | None:
        """Return the handle of the job of this key, if it was ever started."""
        if _claim(self._control(key), self.capabilities.name) is None:
            return None
        return Handle(executor=self.capabilities.name, native_id=key)

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Read what the supervisors wrote; two small files a job."""
        return {handle: self._look(handle) for handle in handles}

    def cancel(self, handle: Handle) -> None:
        """End the supervisor with all that runs below it."""
        control = self._control(handle.native_id)
        claim = _claim(control, self.capabilities.name)
        if claim is None:
            return
        if not _read(control / "status.json").get("over"):
            (control / "cancelled").touch()
        pidfd = _open_alive(claim)
        if pidfd is not None:
            with contextlib.closing(_Descriptor(pidfd)):
                _end(claim["pid"], pidfd)
        if not _read(control / "status.json").get("over"):
            sweep(handle.native_id)
        _reap(claim["pid"])

    def forget(self, handle: Handle) -> None:
        """Remove the control folder; what still runs is cancelled before."""
        self.cancel(handle)
        shutil.rmtree(self._control(handle.native_id), ignore_errors=True)

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return the jobs of this executor that were started and not forgotten."""
        for key in self._started():
            if _claim(self._control(key), self.capabilities.name) is not None:
                yield key, Handle(executor=self.capabilities.name, native_id=key)

    def _started(self) -> Iterable[str]:
        """Return the keys of the jobs that may have been started: those with a note, and now and then all there are."""
        self._lists += 1
        if self._lists % WALK_ALL_EVERY != 1:
            return self._folders.marked()
        paths = (self._folders.data / "jobs").glob("*/*/control/pid")
        return [f"{path.parents[2].name}-{path.parents[1].name}" for path in paths]

    def _control(self, key: str) -> Path:
        job, _, attempt = key.rpartition("-")
        return self._folders.attempt(job, int(attempt)).control if attempt.isdecimal() else Path(os.devnull)

    def _look(self, handle: Handle) -> Observation:
        control = self._control(handle.native_id)
        claim = _claim(control, self.capabilities.name)
        if claim is None:
            return Observation(phase=Phase.UNSEEN)
        # First whether it lives, then what it wrote: so "dead and not over" is never a matter of timing.
        alive = self._listen(handle, claim)
        status = _read(control / "status.json") or {**_read(control / "job.json"), "steps": []}
        over, failure = bool(status.get("over")), status.get("failure")
        if not over and not alive:
            sweep(handle.native_id)
            _reap(claim["pid"])
            failure = {"reason": "the supervisor of this job was killed", "retry": True}
        if failure is not None and (control / "cancelled").exists():
            failure = {"reason": "the job was cancelled"}
        return Observation(
            phase=Phase.ENDED if over or not alive else Phase.RUNNING,
            steps=tuple(StepResult(**step) for step in status["steps"]),
            failure=None if failure is None else Failure(**failure),
            metadata=status.get("metadata", {}),
            messages=tuple(status.get("messages", ())),
        )

    def _listen(self, handle: Handle, claim: Claim) -> bool:
        """Listen to the end of a supervisor; tell whether it lives at this moment."""
        lives = self._deaths.lives(handle)
        if lives is not None:
            return lives
        pidfd = _open_alive(claim)
        if pidfd is None:
            return False
        self._deaths.add(handle, claim["pid"], pidfd)
        return True


class _Deaths:
    """Tells when processes end, children or not: one thread over their pidfds (pidfd_open(2))."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[Handle, int]] = {}
        self._handles: dict[Handle, int] = {}
        self._epoll: select.epoll | None = None
        self._thread: threading.Thread | None = None
        self._end = -1

    def start(self, wake: Callable[[Handle], None]) -> None:
        with self._lock:
            if self._epoll is not None:
                return
            self._epoll = select.epoll()
            self._end = os.eventfd(0)
            self._epoll.register(self._end, select.EPOLLIN)
            self._thread = threading.Thread(target=self._listen, args=(self._epoll, wake), name="weft-process")
            self._thread.daemon = True
            self._thread.start()

    def stop(self) -> None:
        with self._lock:
            thread, epoll, self._thread, self._epoll = self._thread, self._epoll, None, None
            if epoll is None or thread is None:
                return
            os.eventfd_write(self._end, 1)
        thread.join()
        epoll.close()
        with self._lock:
            for descriptor in (self._end, *self._watched):
                os.close(descriptor)
            self._watched.clear()
            self._handles.clear()

    def lives(self, handle: Handle) -> bool | None:
        """Tell whether the process of ``handle`` lives at this moment; None when it is not listened to."""
        with self._lock:
            pidfd = self._handles.get(handle)
            return None if pidfd is None else not _wait(pidfd, 0)

    def add(self, handle: Handle, pid: int, pidfd: int) -> None:
        """Listen to ``pidfd`` and own it; without a listener it is closed."""
        with self._lock:
            if self._epoll is None or handle in self._handles:
                os.close(pidfd)
                return
            self._watched[pidfd] = (handle, pid)
            self._handles[handle] = pidfd
            self._epoll.register(pidfd, select.EPOLLIN)

    def _listen(self, epoll: select.epoll, wake: Callable[[Handle], None]) -> None:
        while True:
            ready = {descriptor for descriptor, _ in epoll.poll()}
            if self._end in ready:
                return
            for descriptor in ready:
                handle = self._remove(epoll, descriptor)
                try:
                    wake(handle)
                except Exception:
                    log.exception("waking the worker failed for %s", handle.native_id)

    def _remove(self, epoll: select.epoll, descriptor: int) -> Handle:
        with self._lock:
            handle, pid = self._watched.pop(descriptor)
            self._handles.pop(handle, None)
            epoll.unregister(descriptor)
            os.close(descriptor)
        _reap(pid)
        return handle


class _Descriptor:
    """A descriptor that ``contextlib.closing`` can close."""

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        os.close(self.number)


def sweep(key: str, seconds: float = 1.0) -> None:
    """Kill what a killed supervisor left: processes that bear the job's cookie in their environment."""
    cookie = f"{supervisor.COOKIE}={key}".encode()
    deadline = time.monotonic() + seconds
    while (left := _bearing(cookie)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(pid)
                with contextlib.closing(_Descriptor(pidfd)):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    _wait(pidfd, seconds)


def _bearing(cookie: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if cookie in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _end(pid: int, pidfd: int) -> None:
    """Tell a supervisor to end; if it does not, kill it and everything below it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if _wait(pidfd, GRACE_SECONDS + 1.0):
            return
        below = [child for _, child in lineage.descendants(pid)]
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for child in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        if not _wait(pidfd, 5.0):
            raise Unavailable(f"process {pid} does not end, even by SIGKILL")


def _wait(pidfd: int, seconds: float) -> bool:
    """Tell whether the process ended within ``seconds``."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _open_alive(claim: Claim) -> int | None:
    """Return a pidfd of the claim's own process if it lives, never of another one that got its number."""
    try:
        pidfd = os.pidfd_open(claim["pid"])
    except OSError:
        return None
    with contextlib.suppress(OSError):
        same = lineage.start_time(claim["pid"]) == claim["started"] and lineage.boot_id() == claim["boot"]
        if same and not _wait(pidfd, 0):
            return pidfd
    os.close(pidfd)
    return None


def _reap(pid: int) -> None:
    """Take the exit status of a child that ended; most supervisors are children, adopted ones are not."""
    if pid > 0:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _claim(control: Path, executor: str) -> Claim | None:
    """Return who supervises this folder; a claim that a crash of the machine cut off is one of nobody, pid 0."""
    claim = _read(control / "pid")
    if not claim and (control / "pid").exists():
        return {"executor": executor, "pid": 0, "started": 0, "boot": ""}
    return claim if claim.get("executor") == executor else None  # type: ignore[return-value]


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that is only ever replaced whole; {} when it is not there or was cut off."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return document


def _write(path: Path, plan: Plan) -> None:
    temporary = path.with_name(f"{path.name}.{threading.get_ident()}")
    temporary.write_text(json.dumps(plan), encoding="utf-8")
    temporary.rename(path)


def supervisor_argv(control: Path) -> list[str]:
    """Return how to start ``executors/supervisor.py`` from its compiled form, without site-packages."""
    script = "import sys; sys.path.append(sys.argv[1]); from executors.supervisor import main; main(sys.argv[2])"
    folder = str(Path(supervisor.__file__).parents[1])
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", script, folder, str(control)]
