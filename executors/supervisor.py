"""Run the steps of one job, detached from weft, and leave evidence of how they ended. Standard library only.

A supervisor is one single-threaded process for one control folder. It outlives weft; ``executors.process`` finds it
again by the files below. Who starts it is free (a fresh ``python -I -S``, or a fork of a primed one): claim the
folder with ``claim``, then call ``supervise``.

::

    control/
      job.json      written before the start: ``Plan``
      pid           written once, by ``claim``: ``Claim``. A folder that has it is never started again
      status.json   written by the supervisor at each change, by rename: ``Status``; ``over`` is the last word
      cancelled     empty; written by ``ProcessExecutor.cancel`` before it sends SIGTERM

SIGTERM ends the job: SIGTERM to all processes of the step, SIGKILL after ``grace_seconds``. When the supervisor
itself is killed, bubblewrap (``--die-with-parent``) or PR_SET_PDEATHSIG takes the step along.
"""

# ruff: noqa: PTH104, PTH108, PTH114, PTH118, PTH123
# pathlib would cost 6 ms at the start of every job.
from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable

from executors.capture import CapturedFile
from executors.lineage import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    boot_id,
    end_descendants,
    kill_descendants,
    prctl,
    start_time,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would cost 5 ms
    from typing import NoReturn, NotRequired, TypedDict

    class Capture(TypedDict):
        """Where one stream goes; what is captured keeps its last ``limit`` to twice ``limit`` bytes."""

        path: str
        limit: int

    class StepPlan(TypedDict):
        """One step, ready to execute: nothing is left to decide."""

        argv: list[str]  # argv[0] is an absolute path
        env: dict[str, str]
        cwd: str
        ignore_error: bool
        stdout: Capture | None  # None: /dev/null, because argv redirects it
        stderr: Capture | None
        limits: dict[str, int]  # name after RLIMIT_ -> soft and hard limit
        owner: list[int] | None  # [uid, gid] who may open /dev/stdout again
        user: list[int] | None  # [uid, gid] to become before argv is executed
        sandbox: list[str] | None  # bubblewrap options, read by it from descriptor ARGS
        no_links: list[list[str]]  # [folder, path below it]: the step is refused if a part of the path is a link

    class Plan(TypedDict):
        """``job.json``."""

        key: str
        grace_seconds: float
        steps: list[StepPlan]
        messages: list[str]
        metadata: dict[str, str]

    class Claim(TypedDict):
        """``pid``: which process supervises; ``started`` tells it from another one that gets its number later."""

        executor: str
        pid: int
        started: int
        boot: str

    class StepStatus(TypedDict):
        """One started step; seconds since the epoch."""

        started_at: float
        ended_at: float | None
        exit_code: int | None
        reason: str | None

    class Problem(TypedDict):
        """Why the job ended for another reason than an exit code."""

        reason: str
        retry: bool

    class Status(TypedDict):
        """``status.json``; ``over`` is the evidence that the job ended by itself."""

        over: bool
        steps: list[StepStatus]
        failure: NotRequired[Problem]
        messages: list[str]
        metadata: dict[str, str]


#: Descriptors in a step's first process: bubblewrap reads options, writes its status, and holds one while it lives.
ARGS, REPORT, ALIVE = 3, 4, 5
CHUNK = 1 << 16
#: Environment variable of a step's first process, by which leftovers of a killed supervisor are found.
COOKIE = "WEFT_KEY"
STOPPED: Problem = {"reason": "the supervisor of this job was told to stop (SIGTERM)", "retry": True}


def claim(control: str, executor: str, pid: int) -> bool:
    """Write that process ``pid`` supervises this folder; False when somebody has claimed it before."""
    entry: Claim = {"executor": executor, "pid": pid, "started": start_time(pid), "boot": boot_id()}
    temporary = os.path.join(control, f"pid.{pid}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(entry, file)
    try:
        os.link(temporary, os.path.join(control, "pid"))
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _is_claimed_for(control: str, pid: int) -> bool:
    try:
        with open(os.path.join(control, "pid"), encoding="utf-8") as file:
            entry: Claim = json.load(file)
    except FileNotFoundError:
        return False
    return entry["pid"] == pid


def supervise(control: str, become: Callable[[StepPlan], NoReturn] | None = None) -> None:
    """Run the job of a claimed folder to its end. Call it in a process with one thread; it takes over SIGTERM.

    ``become`` runs in the forked child of each step, with its streams and limits in place; ``execute`` by default.
    """
    with open(os.path.join(control, "job.json"), encoding="utf-8") as file:
        plan: Plan = json.load(file)
    status: Status = {"over": False, "steps": [], "messages": plan["messages"], "metadata": plan["metadata"]}
    stop = _stop_pipe()
    try:
        for step in plan["steps"]:
            if _is_readable(stop):
                status["failure"] = STOPPED
                break
            _refuse_links(step["no_links"])
            if not _run(control, status, step, become or execute, stop, plan["grace_seconds"]):
                break
    except Exception as error:
        kill_descendants(signal.SIGKILL)
        status["failure"] = {"reason": f"the supervisor of this job failed: {error!r}", "retry": True}
    status["over"] = True
    write_status(control, status)


def write_status(control: str, status: Status) -> None:
    """Replace ``status.json``: complete or not at all; the last one is on the disk when this returns."""
    temporary = os.path.join(control, "status.new")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(status, file)
        file.flush()
        if status["over"]:
            os.fsync(file.fileno())
    os.rename(temporary, os.path.join(control, "status.json"))


def _run(
    control: str,
    status: Status,
    step: StepPlan,
    become: Callable[[StepPlan], NoReturn],
    stop: int,
    grace: float,
) -> bool:
    """Run one step; tell whether the next one may start."""
    result: StepStatus = {"started_at": time.time(), "ended_at": None, "exit_code": None, "reason": None}
    status["steps"].append(result)
    running = _Running(step, become)
    write_status(control, status)
    stopped = running.wait(stop, grace)
    result["ended_at"] = time.time()
    result["exit_code"] = code = running.exit_code
    if stopped:
        status["failure"] = STOPPED
    elif running.sandbox_problem:
        status["failure"] = {"reason": running.sandbox_problem, "retry": False}
    elif code > 128 and code - 128 in signal.valid_signals():
        result["reason"] = f"killed by signal {code - 128} ({_signal_name(code - 128)})"
    return not stopped and "failure" not in status and (code == 0 or step["ignore_error"])


class _Running:
    """A step that runs: its process, its pipes, its files."""

    def __init__(self, step: StepPlan, become: Callable[[StepPlan], NoReturn]) -> None:
        self.sandboxed = step["sandbox"] is not None
        self.exit_code = -1
        self.sandbox_problem: str | None = None
        if not self.sandboxed:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.captures: dict[int, CapturedFile] = {}
        writers = [self._writer(step[name], step["owner"]) for name in ("stdout", "stderr")]
        self.report = os.memfd_create("report")
        self.alive, alive = os.pipe()
        self.pid = _fork(step, become, (*writers, _memory(step["sandbox"]), self.report, alive))
        self.pidfd = os.pidfd_open(self.pid)

    def _writer(self, capture: Capture | None, owner: list[int] | None) -> int:
        if capture is None:
            return os.open("/dev/null", os.O_WRONLY)
        reader, writer = os.pipe()
        if owner is not None:
            os.fchown(writer, *owner)
        self.captures[reader] = CapturedFile(capture["path"], capture["limit"])
        return writer

    def wait(self, stop: int, grace: float) -> bool:
        """Pump output until the step and all its children are gone; tell whether it was stopped from outside."""
        poll = select.poll()
        waiting = {*self.captures, self.pidfd, self.alive}
        for descriptor in (*waiting, stop):
            poll.register(descriptor, select.POLLIN)
        deadline: float | None = None
        while waiting:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            for descriptor, _ in poll.poll(timeout):
                if descriptor == stop:
                    poll.unregister(stop)
                    deadline = time.monotonic() + grace
                    kill_descendants(signal.SIGTERM, spare=1 if self.sandboxed else 0)
                elif self._finished(descriptor):
                    poll.unregister(descriptor)
                    waiting.discard(descriptor)
            if deadline is not None and time.monotonic() >= deadline:
                kill_descendants(signal.SIGKILL)
                deadline = time.monotonic() + 0.05
        self._close()
        return deadline is not None

    def _finished(self, descriptor: int) -> bool:
        if descriptor == self.pidfd:
            self.exit_code = _code_of(os.waitpid(self.pid, 0)[1])
            if not self.sandboxed:
                end_descendants()
            return True
        chunk = os.read(descriptor, CHUNK)
        if chunk and descriptor in self.captures:
            self.captures[descriptor].write(chunk)
        return not chunk

    def _close(self) -> None:
        if self.sandboxed and b"exit-code" not in os.pread(self.report, CHUNK, 0):
            said = " ".join(file.tail(500).decode(errors="replace") for file in self.captures.values()).strip()
            self.sandbox_problem = f"the sandbox could not be made: {said or f'exit code {self.exit_code}'}"
        for reader, file in self.captures.items():
            os.close(reader)
            file.close()
        for descriptor in (self.pidfd, self.report, self.alive):
            os.close(descriptor)


def _fork(step: StepPlan, become: Callable[[StepPlan], NoReturn], descriptors: tuple[int, ...]) -> int:
    """Start the step's first process with ``descriptors`` as 1, 2, ARGS, REPORT and ALIVE; close them here."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _prepare(step, descriptors, supervisor)
            become(step)
        except BaseException as error:
            os.write(2, f"weft: cannot run {step['argv'][:1]}: {error}\n".encode())
        os._exit(126)
    for descriptor in descriptors:
        # The report is read here when the step is over.
        if descriptor != descriptors[3]:
            os.close(descriptor)
    return pid


def _prepare(step: StepPlan, descriptors: tuple[int, ...], supervisor: int) -> None:
    os.setsid()
    # First out of the way, so that no dup2 overwrites one that is still needed.
    moved = [_duplicate_above(descriptor) for descriptor in (os.open("/dev/null", os.O_RDONLY), *descriptors)]
    for target, descriptor in enumerate(moved):
        os.dup2(descriptor, target)
    os.closerange(6 if step["sandbox"] is not None else 3, 1 << 20)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    _limit(step["limits"])
    if step["user"] is not None:
        uid, gid = step["user"]
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if step["sandbox"] is None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(128 + signal.SIGKILL)


def execute(step: StepPlan) -> NoReturn:
    """Become the step's program: the default ``become``."""
    os.chdir(step["cwd"])
    os.execve(step["argv"][0], step["argv"], step["env"])  # noqa: S606


def _limit(limits: dict[str, int]) -> None:
    import resource

    for name, wanted in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(number, (value, value))


def _memory(words: list[str] | None) -> int:
    """Return a descriptor from which ``words`` can be read, each ended by NUL."""
    descriptor = os.memfd_create("args")
    os.write(descriptor, b"".join(os.fsencode(word) + b"\0" for word in words or ()))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _duplicate_above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def _stop_pipe() -> int:
    """Return a descriptor that becomes readable when SIGTERM comes."""
    reader, writer = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(writer, b"x"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host that forked this process may not want to wait for anybody
    return reader


def _refuse_links(paths: list[list[str]]) -> None:
    """Fail when a step before this one has put a link where something must be mounted."""
    for folder, path in paths:
        place = folder
        for name in path.split("/"):
            place = os.path.join(place, name)
            if os.path.islink(place):
                raise OSError(f"{path} is to be mounted, but {name} is a symbolic link now")


def _is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _code_of(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time"


def main(control: str) -> None:
    """Wait on standard input for the word that the folder is claimed, then supervise it.

    Where weft died after the claim and before the word, the claim itself is the word: nobody else will ever start it.
    """
    os.chdir("/")
    if os.read(0, 1) or _is_claimed_for(control, os.getpid()):
        supervise(control)
    os._exit(0)
