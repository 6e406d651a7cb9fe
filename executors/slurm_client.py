"""Speak to a cluster by Slurm's own commands: the one place of weft that starts them. argv lists, plain text back.

``Queue`` keeps the controller's load small: whatever the number of jobs, it is asked once a beat, and less often
while it does not answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from executors import command
from executors.slurm_states import SACCT_FORMAT, SQUEUE_FORMAT, Row, rows
from weft.errors import ExecutorRefused, Unavailable, WeftError
from weft.logs import get_logger
from weft.sections.backends import SlurmSettings

log = get_logger(__name__)

#: What sbatch says when the same submission may go through later (slurm_errno.h); anything else is a refusal.
TRANSIENT = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "temporarily unable to accept job",
    "Transport endpoint is not connected",
    "Connection refused",
    "Resource temporarily unavailable",
    "Slurm backup controller in standby mode",
    "Job violates accounting/QOS policy (job submit limit",
    "Protocol authentication error",
    "Unable to open job file",
    "No space left",
)
NO_ACCOUNTING = "accounting storage is disabled"
#: Pauses while the controller does not answer, in seconds.
_BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)
#: Job ids in one call of sacct.
_SACCT_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One line of ``sinfo``: a partition, or a part of one with nodes of one size."""

    name: str
    is_up: bool
    nodes: int
    cpus: int
    ram_bytes: int


class SlurmClient:
    """Slurm's commands."""

    def __init__(self, settings: SlurmSettings) -> None:
        """Keep the settings; nothing is started."""
        self._settings = settings

    @property
    def _environment(self) -> dict[str, str]:
        """What Slurm's commands may see: sbatch would hand on all of it to the job."""
        kept = {name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ}
        if self._settings.conf is not None:
            kept["SLURM_CONF"] = str(self._settings.conf)
        return {**kept, "LC_ALL": "C"}

    def _run(self, *argv: str) -> command.Completed:
        return command.run(argv, timeout=self._settings.timeout_seconds, env=self._environment)

    def _ask(self, *argv: str) -> str:
        done = self._run(*argv)
        if done.exit_code != 0:
            raise Unavailable(f"{argv[0]}: {done.stderr.strip()[-500:] or f'exit code {done.exit_code}'}")
        return done.stdout

    def submit(self, options: Sequence[str], script: str, *arguments: str) -> str:
        """Submit a batch job and return its id.

        :raises ExecutorRefused: Slurm will never take it like this; in Slurm's words.
        :raises Unavailable: it may take it later, or has taken it and could not say so.
        """
        done = self._run("sbatch", "--parsable", *options, script, *arguments)
        job_id = done.stdout.strip().partition(";")[0]
        if done.exit_code == 0 and job_id.isdecimal():
            return job_id
        said = " ".join(done.stderr.split())[-500:]
        if done.exit_code == 0 or any(phrase in said for phrase in TRANSIENT):
            raise Unavailable(f"Slurm takes no job now: {said}")
        raise ExecutorRefused(f"Slurm refused the job: {said}")

    def jobs(self, user: str, *names: str) -> list[Row]:
        """Return all jobs of an account that the controller remembers, or those of these names.

        :raises Unavailable: it does not answer.
        """
        named = [f"--name={','.join(names)}"] if names else []
        words = ("--noheader", "--array", "--states=all", f"--user={user}", *named, f"--format={SQUEUE_FORMAT}")
        return list(rows(self._ask("squeue", *words)))

    def past(self, job_ids: Sequence[str]) -> list[Row] | None:
        """Return what the accounting says of these jobs, also of earlier ones with the same ids.

        None where the cluster has no accounting.

        :raises Unavailable: it does not answer.
        """
        found: list[Row] = []
        for start in range(0, len(job_ids), _SACCT_BATCH):
            ids = ",".join(job_ids[start : start + _SACCT_BATCH])
            words = ("--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={SACCT_FORMAT}")
            done = self._run("sacct", *words, f"--jobs={ids}")
            if NO_ACCOUNTING in done.stderr:
                return None
            if done.exit_code != 0:
                raise Unavailable(f"sacct: {done.stderr.strip()[-500:]}")
            found += rows(done.stdout)
        return found

    def cancel(self, job_id: str, name: str) -> None:
        """Tell Slurm to end a job if it bears this name; one that has ended or never was is none of its business.

        :raises Unavailable: the controller does not answer.
        """
        done = self._run("scancel", "--full", f"--jobname={name}", job_id)
        if done.exit_code != 0 and "Invalid job id" not in done.stderr and "already completing" not in done.stderr:
            raise Unavailable(f"scancel: {done.stderr.strip()[-500:]}")

    def partitions(self) -> list[Partition]:
        """Return the partitions. :raises Unavailable: the controller does not answer."""
        found = []
        for line in self._ask("sinfo", "--noheader", "--exact", "--format=%R|%a|%D|%c|%m").splitlines():
            name, is_up, nodes, cpus, mebibytes = line.split("|")
            found.append(
                Partition(
                    name=name,
                    is_up=is_up == "up",
                    nodes=int(nodes),
                    cpus=int(cpus.rstrip("+")),
                    ram_bytes=int(mebibytes.rstrip("+")) << 20,
                )
            )
        return found

    def version(self) -> str:
        """Return such as "slurm-wlm 22.05.8". :raises Unavailable: the command is not there."""
        return self._ask("sinfo", "--version").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The queue as it was asked for at a time (seconds since the epoch)."""

    at: float
    jobs: Mapping[str, Row]


@dataclass(slots=True, kw_only=True)
class Queue:
    """The newest snapshot of the queue, never asked for more than once a beat, nor twice at the same time."""

    ask: Callable[[], Sequence[Row]]
    beat_seconds: float
    clock: Callable[[], float] = time.time
    #: How long ``look`` waits for an answer; a slow one is there for a later look.
    patience: float = 1.0
    _snapshot: Snapshot | None = None
    _failures: int = 0
    _next: float = 0.0
    _problem: str = "the queue has not answered yet"
    _asking: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> Snapshot:
        """Return the queue, at most a beat old.

        :raises Unavailable: it does not answer; it is not asked again before a pause that grows.
        """
        with self._lock:
            asking = self._begin()
            if asking is not None:
                asking.join(self.patience)
            if self._snapshot is None or self._failures or (asking is not None and asking.is_alive()):
                raise Unavailable(self._problem if self._failures else "squeue has not answered yet")
            return self._snapshot

    def _begin(self) -> threading.Thread | None:
        """Return the thread that asks now, a new one if it is time."""
        if self._asking is not None and self._asking.is_alive():
            return self._asking
        now = self.clock()
        if self._next - _BACK_OFF[-1] - self.beat_seconds < now < self._next:
            return None
        self._asking = threading.Thread(target=self._refresh, args=(now,), name="weft-squeue", daemon=True)
        self._asking.start()
        return self._asking

    def _refresh(self, now: float) -> None:
        try:
            found = self.ask()
        except WeftError as error:
            if not self._failures:
                log.warning("the queue does not answer", error=error.message)
            self._problem = error.message
            self._next = self.clock() + _BACK_OFF[min(self._failures, len(_BACK_OFF) - 1)]
            self._failures += 1
            return
        self._snapshot = Snapshot(at=now, jobs={row.job_id: row for row in found})
        self._failures, self._next = 0, now + self.beat_seconds
