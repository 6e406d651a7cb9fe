"""Run jobs on a Slurm cluster: one Slurm job an attempt, its steps in sequence on one node.

weft and the node meet in the job's folder, on a file system that both see (``executors.slurm_files``). Slurm itself
is asked as little as possible: once to submit, and once a beat for all jobs that the files alone cannot judge
(``executors.slurm_evidence``). The native id is ``JOB:KEY``: a job id that Slurm gives again after a reset is known
by the key that it does not bear.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from executors import slurm_files, slurm_options
from executors.keylocks import KeyLocks
from executors.slurm_client import Partition, Queue, SlurmClient, Snapshot
from executors.slurm_evidence import UNSEEN, Evidence, by_files, by_slurm
from executors.slurm_files import JobFiles, Notes
from executors.slurm_plan import Account, NodePlanner, account
from executors.slurm_states import Row
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable, UnknownNativeState, WeftError
from weft.folders import Folders
from weft.logs import get_logger
from weft.model import Handle, Submission
from weft.ports import Capabilities, Health, Observation, Phase

log = get_logger(__name__)

NAME = "slurm"
_PREFIX = "weft"
#: Pauses between looks while a cancelled job ends, in seconds: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
#: How long to wait for the sizes of the nodes at the start, and when to ask again (seconds).
_MEASURE_PATIENCE, _MEASURE_SECONDS = 10.0, 60.0


def create(settings: Settings) -> SlurmExecutor:
    """Return the executor ``slurm``; nothing is asked yet."""
    return SlurmExecutor(settings, SlurmClient(settings.slurm))


class SlurmExecutor:
    """The ``slurm`` executor."""

    def __init__(self, settings: Settings, client: SlurmClient) -> None:
        """Keep the collaborators."""
        self._settings = settings
        self._client = client
        self._folders = Folders(settings.data)
        self._planner = NodePlanner(settings)
        self._queue = Queue(ask=lambda: client.jobs(self._account.name), beat_seconds=settings.beat_seconds)
        self._keys = KeyLocks()
        self._files: dict[str, JobFiles] = {}
        #: Native id -> when Slurm was first heard to say that the job ended, while its exit file is not there.
        self._overdue_since: dict[str, float] = {}
        #: Native ids, and the snapshot in which they were missing when the accounting was asked.
        self._asked: dict[str, tuple[float, Row | None]] = {}
        self._unknown_words: set[str] = set()
        self._measure_at = 0.0
        self._capabilities: Capabilities | None = None

    # -- what it is --------------------------------------------------------------------------------------------

    @cached_property
    def _account(self) -> Account:
        return account(self._settings.slurm.user)

    @property
    def _uid(self) -> int | None:
        try:
            return self._account.uid
        except ExecutorRefused:  # every submission will say so
            return None

    @cached_property
    def _name_prefix(self) -> str:
        """What the names of this installation's jobs begin with."""
        return f"{_PREFIX}-{hashlib.sha256(str(self._settings.data.resolve()).encode()).hexdigest()[:8]}-"

    @cached_property
    def _library(self) -> Path:
        return slurm_files.install(self._settings.data.resolve())

    @property
    def capabilities(self) -> Capabilities:
        """What the largest node has; without its sizes until Slurm has told them. Waits for it at most once."""
        if self._capabilities is None and time.monotonic() >= self._measure_at:
            first, self._measure_at = self._measure_at == 0, time.monotonic() + _MEASURE_SECONDS
            asking = threading.Thread(target=self._measure, name="weft-sinfo", daemon=True)
            asking.start()
            asking.join(_MEASURE_PATIENCE if first else 0)
        return self._capabilities or self._describe(())

    def _measure(self) -> None:
        try:
            partitions = self._client.partitions()
        except WeftError as error:
            log.warning("the sizes of the nodes are not known yet", error=error.message)
            return
        self._capabilities = self._describe(partitions)

    def _describe(self, partitions: Sequence[Partition]) -> Capabilities:
        up = [partition for partition in partitions if partition.is_up]
        wanted = self._settings.slurm
        ram = None if wanted.max_ram_gb is None else int(wanted.max_ram_gb * 10**9)
        return Capabilities(
            name=NAME,
            uses_image=wanted.images is not None,
            backend_parameters=slurm_options.known_parameters(wanted),
            cpu_cores=_least(max((partition.cpus for partition in up), default=None), wanted.max_cpus),
            ram_bytes=_least(max((partition.ram_bytes for partition in up), default=None), ram),
            run_as=self._uid,
            observe_batch=1_000_000,
        )

    def check(self) -> Health:
        """Tell which cluster answers, and who jobs run as there."""
        try:
            version, partitions, who = self._client.version(), self._client.partitions(), self._account
            accounting = "no accounting" if self._client.past(["0"]) is None else "accounting"
        except WeftError as error:
            remedy = error.remedy or "run weft where squeue works; name its slurm.conf by slurm.conf"
            return Health(usable=False, detail=error.message, remedy=remedy)
        up = sorted({partition.name for partition in partitions if partition.is_up})
        if not up:
            return Health(usable=False, detail=f"{version}: no partition is up", remedy="see sinfo")
        detail = f"{version}, partitions {', '.join(up)}, {accounting}; jobs run as {who.name}, "
        return Health(usable=True, detail=detail + f"steps run in: {self._planner.words}")

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Nothing to listen to: the worker looks once a beat."""

    def stop(self) -> None:
        """Nothing to stop; jobs go on."""

    # -- submit ------------------------------------------------------------------------------------------------

    def submit(self, work: Submission) -> Handle:
        """Submit the job, unless its key was submitted before."""
        with self._keys.held(work.key):
            found = self.find(work.key)
            return self._submit(work) if found is None else found

    def _submit(self, work: Submission) -> Handle:
        who, wanted = self._account, self._settings.slurm
        asked = slurm_options.options(work.resources, wanted)
        files = self._job_files(work.key)
        if files is None or files.folder.resolve() != work.folder.resolve():
            raise ExecutorRefused(f"job {work.key} does not lie below {self._settings.data}")
        owner = (who.uid, who.gid)
        files.make(owner)
        files.write_plan(self._planner.plan(work, who), owner)
        notes = Notes(at=time.time(), **slurm_options.limits(asked))
        files.write_notes(notes)
        options = [
            *asked,
            *slurm_options.identity(who.uid, who.gid),
            f"--job-name={self._name_prefix}{work.key}",
            f"--comment=weft {work.kind.value} {work.job_id}, attempt {work.attempt}",
            *("--no-requeue", "--chdir=/", "--input=/dev/null", "--output=/dev/null", f"--error={files.log.resolve()}"),
        ]
        python = slurm_options.python(wanted)
        job_id = self._client.submit(
            options, slurm_files.script(), python, str(self._library), str(files.node.resolve())
        )
        files.write_notes(replace(notes, job_id=job_id, at=time.time()))
        return _handle(job_id, work.key)

    def find(self, key: str) -> Handle | None:
        """Return the job of this key; Slurm is asked only where a submission's answer was lost."""
        files = self._job_files(key)
        notes = None if files is None else files.notes
        if files is None or notes is None:
            return None
        job_id = notes.job_id
        if job_id is None:
            job_id = files.claim["job_id"] if files.claim is not None else self._id_in_queue(key)
            if job_id is None:
                return None
            files.write_notes(replace(notes, job_id=job_id))
        return _handle(job_id, key)

    def _id_in_queue(self, key: str) -> str | None:
        name = f"{self._name_prefix}{key}"
        found = [row.job_id for row in self._client.jobs(self._account.name, name) if row.name == name]
        return max(found, key=int, default=None)

    # -- observe -----------------------------------------------------------------------------------------------

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Judge by the jobs' own files, and ask Slurm at most once a beat about all the others."""
        evidence = {handle: self._evidence(handle) for handle in handles}
        seen = {handle: UNSEEN if found is None else by_files(found) for handle, found in evidence.items()}
        open_cases = {handle: found for handle, found in evidence.items() if found is not None and not found.is_enough}
        if not open_cases:
            return seen
        try:
            queue = self._queue.look()
            rows = self._rows(open_cases, queue)
        except Unavailable:
            if any(observation.phase is Phase.ENDED for observation in seen.values()):
                return seen
            raise
        for handle, found in open_cases.items():
            if found.notes.at < queue.at:  # else the snapshot is older than the job
                seen[handle] = self._by_slurm(handle, found, rows.get(handle))
        return seen

    def _by_slurm(self, handle: Handle, found: Evidence, row: Row | None) -> Observation:
        """Take in Slurm's word; one that nobody knows changes nothing."""
        since = self._overdue_since.get(handle.native_id)
        overdue = since is not None and time.monotonic() - since > self._settings.slurm.grace_seconds
        try:
            if since is None and row is not None and row.has_ended:
                self._overdue_since[handle.native_id] = time.monotonic()
            return by_slurm(found, row, overdue=overdue)
        except UnknownNativeState as error:
            if error.message not in self._unknown_words:
                self._unknown_words.add(error.message)
                log.warning("unknown state", executor=NAME, error=error.message)
            return replace(by_files(found), messages=(error.message,))

    def _rows(self, cases: Mapping[Handle, Evidence], queue: Snapshot) -> dict[Handle, Row]:
        """Find each job's row in the queue or, where the queue has forgotten it, in the accounting."""
        found: dict[Handle, Row] = {}
        missing: dict[str, Handle] = {}
        for handle, case in cases.items():
            row = queue.jobs.get(case.job_id or "")
            if row is not None and row.name == self._job_name(handle):
                found[handle] = row
            elif case.job_id is not None and case.notes.at < queue.at:
                missing[case.job_id] = handle
        return found | self._past(missing, queue.at)

    def _past(self, missing: Mapping[str, Handle], at: float) -> dict[Handle, Row]:
        """Ask the accounting about jobs that are missing in the queue's snapshot of ``at``, once a snapshot."""
        new = {job: handle for job, handle in missing.items() if self._asked.get(handle.native_id, (0.0,))[0] != at}
        if new:
            known = {(row.job_id, row.name): row for row in self._client.past(list(new)) or ()}
            for job, handle in new.items():
                self._asked[handle.native_id] = (at, known.get((job, self._job_name(handle))))
        answers = {handle: self._asked[handle.native_id][1] for handle in missing.values()}
        return {handle: row for handle, row in answers.items() if row is not None}

    def _evidence(self, handle: Handle) -> Evidence | None:
        """Read the files of a job; None for one that was never submitted, or forgotten, or is another's."""
        job_id, key = _parts(handle)
        files = self._job_files(key)
        notes = None if files is None else files.notes
        if files is None or notes is None:
            return None
        claim = files.claim
        if job_id not in {notes.job_id, None if claim is None else claim["job_id"]}:
            return None
        return Evidence(
            notes=notes,
            status=files.status,
            claim=claim,
            cancelled=files.is_cancelled,
            gone=files.is_gone,
            complaint=files.complaint() if handle.native_id in self._overdue_since else "",
        )

    # -- end ---------------------------------------------------------------------------------------------------

    def cancel(self, handle: Handle) -> None:
        """End the Slurm job with all that it runs, and wait until it has."""
        evidence = self._evidence(handle)
        job_id, key = _parts(handle)
        files = self._job_files(key)
        if evidence is None or files is None:
            if job_id.isdecimal():
                self._cancel_orphan(handle)
            return
        if evidence.is_over or evidence.gone:
            return
        files.mark_cancelled()
        for native in {job_id, evidence.job_id or job_id}:
            self._client.cancel(native, self._job_name(handle))
        self._wait(handle, lambda: self._is_over(handle))
        files.mark_cancelled(gone=True)

    def _cancel_orphan(self, handle: Handle) -> None:
        """End a job whose folder is gone, if the queue has it under this very name."""
        if self._is_in_queue(handle):
            self._client.cancel(_parts(handle)[0], self._job_name(handle))
            self._wait(handle, lambda: False)

    def _is_over(self, handle: Handle) -> bool:
        evidence = self._evidence(handle)
        return evidence is None or evidence.is_over

    def _wait(self, handle: Handle, is_over: Callable[[], bool]) -> None:
        """Wait until nothing runs any more: by the exit file, or by the queue.

        :raises Unavailable: it takes too long.
        """
        deadline = time.monotonic() + self._settings.slurm.timeout_seconds
        pause = _FIRST_PAUSE
        while not is_over() and self._is_in_queue(handle):
            if time.monotonic() > deadline:
                raise Unavailable(f"Slurm job {_parts(handle)[0]} does not end")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_in_queue(self, handle: Handle) -> bool:
        job_id, name = _parts(handle)[0], self._job_name(handle)
        return any(
            row.job_id == job_id and row.name == name and row.may_run
            for row in self._client.jobs(self._account.name, name)
        )

    def forget(self, handle: Handle) -> None:
        """Remove the control folder; what still runs is cancelled before."""
        self.cancel(handle)
        _, key = _parts(handle)
        files = self._job_files(key)
        if files is not None:
            files.remove()
        self._files.pop(key, None)
        self._overdue_since.pop(handle.native_id, None)
        self._asked.pop(handle.native_id, None)

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return this installation's jobs that may still run."""
        for row in self._client.jobs(self._account.name):
            if row.name.startswith(self._name_prefix) and row.state != "COMPLETING" and row.may_run:
                key = row.name.removeprefix(self._name_prefix)
                yield key, _handle(row.job_id, key)

    # -- small things ------------------------------------------------------------------------------------------

    def _job_name(self, handle: Handle) -> str:
        return f"{self._name_prefix}{_parts(handle)[1]}"

    def _job_files(self, key: str) -> JobFiles | None:
        """Return the files of the attempt of this key; None for what is no key."""
        job, _, attempt = key.rpartition("-")
        if not job or "/" in job or job.startswith(".") or not attempt.isdecimal():
            return None
        if key not in self._files:
            self._files[key] = JobFiles(self._folders.attempt(job, int(attempt)).root)
        return self._files[key]


def _handle(job_id: str, key: str) -> Handle:
    return Handle(executor=NAME, native_id=f"{job_id}:{key}")


def _parts(handle: Handle) -> tuple[str, str]:
    """Return job id and key; ("", …) for a handle that is none of ours."""
    job_id, colon, key = handle.native_id.partition(":")
    return (job_id, key) if colon else ("", handle.native_id)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
