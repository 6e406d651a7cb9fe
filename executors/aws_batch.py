"""Run jobs on AWS Batch: one multi-container job an attempt, whose files come from and go to object storage.

weft and the job meet in S3 (``weft.staging.handover``): the plan lies there before the job is submitted, and the job
leaves its outcome there. Batch itself is asked as little as possible: one ``SubmitJob`` a job, and one
``DescribeJobs`` for each hundred jobs a beat. The native id is ``JOB:KEY``.

``SubmitJob`` cannot be repeated safely. So a note in the attempt's folder says that it is about to be called; where
its answer was lost the job is looked for by its name, which holds the key; and should a job have been made twice all
the same, the second finds the first one's claim in S3 and runs nothing.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import orjson

from executors import aws_batch_shape as shape
from executors import aws_batch_states as states
from executors.aws_batch_account import examine
from executors.aws_batch_client import AwsClient
from executors.aws_batch_logs import LiveLogs, keep
from executors.aws_batch_notes import Notes, NotesFile
from executors.aws_batch_resources import limits, size
from executors.keylocks import KeyLocks
from weft.config import Settings
from weft.errors import ExecutorRefused, StagingFailed, Unavailable
from weft.folders import AttemptFolder, Folders
from weft.model import Handle, JsonObject, Kind, Resources, Submission, task_from_json
from weft.parameters import time_limit
from weft.ports import Capabilities, Health, Observation, Phase
from weft.staging.handover import CLAIM, OUTCOME, PLAN, JobPlan, Outcome, read_outcome, write_plan
from weft.staging.s3_objects import Objects

NAME = "aws_batch"
UNSEEN = Observation(phase=Phase.UNSEEN)
#: Pauses between looks while a cancelled job ends, in seconds: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: How much longer Batch itself lets a job live than weft's own limit of its wall time, in seconds.
_LEEWAY, _LEAST_TIMEOUT = 600, 60
#: Stands in a handle for a job of which only files are left.
_NO_JOB = "none"
#: Outcomes that are read at once.
_READERS = 8


def create(settings: Settings) -> AwsBatchExecutor:
    """Return the executor ``aws_batch``; nothing is asked yet."""
    return AwsBatchExecutor(settings, AwsClient(settings.aws_batch))


class AwsBatchExecutor:
    """The ``aws_batch`` executor."""

    def __init__(self, settings: Settings, client: AwsClient, objects: Objects | None = None) -> None:
        """Keep the collaborators; without ``objects`` those of the settings' storage are used."""
        self._settings = settings
        self._wanted = settings.aws_batch
        self._client = client
        self._folders = Folders(settings.data)
        self._keys = KeyLocks()
        self._lock = threading.Lock()
        self._given_objects = objects
        self._definitions: dict[str, str] = {}
        self._ended: dict[Handle, Observation] = {}
        self._live = LiveLogs(
            client=client,
            group=self._wanted.log_group,
            most=self._wanted.live_logs,
            beat_seconds=settings.beat_seconds,
            most_bytes=settings.max_log_bytes,
        )

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the settings and the platform allow; nothing is asked."""
        cores, memory, disk = limits(self._wanted)
        chooses = {"queue"} if self._wanted.queues else set()
        return Capabilities(
            name=NAME,
            stages=True,
            shared_filesystem=False,
            backend_parameters=frozenset(chooses | ({"gpus"} if self._wanted.max_gpus else set())),
            cpu_cores=cores,
            ram_bytes=memory,
            disk_bytes=disk,
        )

    def check(self) -> Health:
        """Tell which account answers, and whether its queues and the storage can be used."""
        return examine(self._wanted, self._client, self._queues, lambda: self._objects)

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Begin to fetch live logs; the worker looks at the jobs once a beat."""
        self._live.start()

    def stop(self) -> None:
        """Fetch no more live logs; jobs go on."""
        self._live.stop()

    # -- submit ------------------------------------------------------------------------------------------------

    def submit(self, work: Submission) -> Handle:
        """Submit the job, unless its key was submitted before."""
        with self._keys.held(work.key):
            found = self.find(work.key)
            return self._submit(work) if found is None else found

    def _submit(self, work: Submission) -> Handle:
        if work.kind is not Kind.TASK or work.document is None:
            raise ExecutorRefused("only tasks can run on AWS Batch, handed over whole")
        task = task_from_json(work.document)
        shape.check(task)
        given = size(work.resources, len(task.steps), self._wanted)
        queue = self._queue_for(work.resources)
        definition = self._definition(*shape.definition(task, given, self._settings))
        uid, gid = map(int, self._wanted.user.split(":"))
        plan = JobPlan(key=work.key, task=task, uid=uid, gid=gid, max_log_bytes=self._settings.max_log_bytes)
        with _waiting_for_storage():
            self._objects.put(f"{work.key}/{PLAN}", write_plan(plan))
        notes = self._notes(work.key)
        notes.write(Notes(messages=given.messages))
        tags = {"weft:site": self._site, "weft:job": work.job_id, "weft:key": work.key}
        request = {
            "jobName": self._job_name(work.key),
            "jobQueue": queue,
            "jobDefinition": definition,
            "ecsPropertiesOverride": shape.overrides(f"{self._objects.url}/{work.key}", self._settings),
            "propagateTags": True,
            "tags": tags,
        }
        limit = _least(self._settings.time_limit_seconds, time_limit(work.document))
        if limit is not None:
            seconds = max(_LEAST_TIMEOUT, math.ceil(limit) + _LEEWAY)
            request["timeout"] = {"attemptDurationSeconds": seconds}
        job_id = self._client.submit(request)
        notes.write(Notes(job_id=job_id, messages=given.messages))
        return _handle(job_id, work.key)

    def _definition(self, name: str, body: Mapping[str, object]) -> str:
        """Return the definition for this shape: the one that was made before, else a new one."""
        with self._lock:
            known = self._definitions.get(name)
            if known is None:
                known = self._client.definition(name) or self._client.register(name, body)
                self._definitions[name] = known
        return known

    def _queue_for(self, asked: Resources) -> str:
        given = asked.backend_parameters.get("queue")
        if given is not None:
            if given not in self._queues:
                allowed = ", ".join(self._queues)
                raise ExecutorRefused(
                    f"backend_parameters.queue: {given!r} is not allowed", remedy=f"one of: {allowed}"
                )
            return given
        if asked.preemptible and self._wanted.spot_queue is not None:
            return self._wanted.spot_queue
        if self._wanted.queue is None:
            raise ExecutorRefused("aws_batch.queue is not set", remedy="name a job queue")
        return self._wanted.queue

    def find(self, key: str) -> Handle | None:
        """Return the job of this key; Batch is asked only where a submission's answer was lost."""
        notes = self._notes(key)
        noted = notes.read()
        if noted is None or noted.forgotten:
            return None
        if noted.job_id is None:
            name = self._job_name(key)
            found = [job for queue in self._queues for job in self._client.named(queue, name)]
            if not found:
                return None
            noted = noted.with_job(min(found, key=lambda job: job.created_at).id)
            notes.write(noted)
        return _handle(str(noted.job_id), key)

    # -- observe -----------------------------------------------------------------------------------------------

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Describe all jobs that are not known to have ended, a hundred a call, and read what the ended ones left."""
        seen = {handle: self._ended[handle] for handle in handles if handle in self._ended}
        noted = {handle: self._notes(_parts(handle)[1]).read() for handle in handles if handle not in seen}
        gone = {handle for handle, notes in noted.items() if notes is not None and notes.forgotten}
        seen |= dict.fromkeys(gone, UNSEEN)
        asked = {_parts(handle)[0]: handle for handle in noted if handle not in gone and _parts(handle)[0]}
        ended: dict[Handle, JsonObject] = {}
        for job in self._client.describe(list(asked)):
            handle = asked[job["jobId"]]
            if states.has_ended(job):
                ended[handle] = job
            else:
                seen[handle] = self._while_it_lives(handle, job)
        if ended:
            with ThreadPoolExecutor(min(_READERS, len(ended)), thread_name_prefix="weft-outcomes") as pool:
                seen |= zip(ended, pool.map(self._after_its_end, ended, ended.values()), strict=True)
        return {handle: _with_messages(observation, noted.get(handle)) for handle, observation in seen.items()}

    def _while_it_lives(self, handle: Handle, job: JsonObject) -> Observation:
        seen = states.while_it_lives(job, now=time.time(), patience=self._wanted.runnable_seconds)
        if seen.phase is Phase.RUNNING:
            key = _parts(handle)[1]
            self._live.watch(key, self._folders_of(key).logs, states.streams(job))
        return seen

    def _after_its_end(self, handle: Handle, job: JsonObject) -> Observation:
        key = _parts(handle)[1]
        self._live.drop(key)
        with _waiting_for_storage():
            outcome = self._outcome(key)
            if outcome is None:
                other = self._who_claimed(key)
                if other not in (None, job["jobId"]):
                    found = self._client.describe([str(other)])
                    if found and not states.has_ended(found[0]):
                        return self._while_it_lives(handle, found[0])
                    job = found[0] if found else job
            else:
                keep(self._folders_of(key).logs, outcome.logs, lambda name: self._objects.get(f"{key}/{name}"))
        said = "" if outcome is not None else self._staging_said(job)
        mine = job if outcome is None or outcome.native_job == job["jobId"] else {**job, "ecsProperties": {}}
        seen = _with_messages(states.after_its_end(mine, outcome, said), self._notes(key).read())
        self._ended[handle] = seen
        return seen

    def _outcome(self, key: str) -> Outcome | None:
        text = self._objects.get(f"{key}/{OUTCOME}")
        try:
            return None if text is None else read_outcome(text)
        except ValueError:
            return None

    def _who_claimed(self, key: str) -> str | None:
        text = self._objects.get(f"{key}/{CLAIM}")
        return None if text is None else str(orjson.loads(text)["native_job"])

    def _staging_said(self, job: JsonObject) -> str:
        """Read why staging gave up, where it could not say so in S3."""
        for name in (shape.STAGE_IN, shape.STAGE_OUT):
            stream = states.streams(job).get(name)
            if stream is not None:
                lines, _ = self._client.log_lines(self._wanted.log_group, stream, None)
                if lines:
                    return lines[-1].removeprefix("weft: ")
        return ""

    # -- end ---------------------------------------------------------------------------------------------------

    def cancel(self, handle: Handle) -> None:
        """End the job, and another one that claimed its plan, and wait until both have."""
        job_id, key = _parts(handle)
        if handle in self._ended or not job_id:
            return
        with _waiting_for_storage():
            claimed = self._who_claimed(key)
        self._end([name for name in dict.fromkeys((job_id, claimed or job_id)) if name != _NO_JOB])

    def _end(self, ids: Sequence[str]) -> None:
        """Terminate jobs, and wait until nothing of them runs.

        :raises Unavailable: it takes too long.
        """
        live = self._living(ids)
        for job_id in live:
            self._client.terminate(job_id, "weft: cancelled")
        deadline = time.monotonic() + self._wanted.timeout_seconds
        pause = _FIRST_PAUSE
        while live and (live := self._living(live)):
            if time.monotonic() > deadline:
                raise Unavailable(f"AWS Batch job {live[0]} does not end")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _living(self, ids: Sequence[str]) -> Sequence[str]:
        return [job["jobId"] for job in self._client.describe(ids) if not states.has_ended(job)]

    def forget(self, handle: Handle) -> None:
        """End the job and remove what lies in storage; that it is forgotten is noted in the attempt's folder."""
        job_id, key = _parts(handle)
        notes = self._notes(key)
        noted = notes.read()
        if not job_id or (noted is not None and noted.forgotten):
            return
        self.cancel(handle)
        with _waiting_for_storage():
            self._objects.delete_below(key)
        notes.write(Notes(job_id=job_id, forgotten=True))
        self._live.drop(key)
        self._ended.pop(handle, None)

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return this installation's jobs that may still run, and the keys of which something is left in storage."""
        with _waiting_for_storage():
            stored = self._objects.folders()
        prefix, live = self._job_name(""), set()
        for queue in self._queues:
            for job in self._client.live(queue):
                if job.name.startswith(prefix):
                    key = job.name.removeprefix(prefix)
                    live.add(key)
                    yield key, _handle(job.id, key)
        for key in stored:
            if key not in live:
                noted = self._notes(key).read()
                yield key, _handle((noted and noted.job_id) or _NO_JOB, key)

    # -- small things ------------------------------------------------------------------------------------------

    @cached_property
    def _site(self) -> str:
        """Names this installation among others that use the same queues and the same storage."""
        return hashlib.sha256(str(self._settings.data.resolve()).encode()).hexdigest()[:8]

    @cached_property
    def _queues(self) -> tuple[str, ...]:
        named = (self._wanted.queue, self._wanted.spot_queue, *self._wanted.queues)
        return tuple(dict.fromkeys(queue for queue in named if queue is not None))

    @cached_property
    def _objects(self) -> Objects:
        if self._given_objects is not None:
            return self._given_objects
        if self._wanted.storage is None:
            raise ExecutorRefused("aws_batch.storage is not set", remedy="s3://BUCKET/PREFIX")
        return Objects(self._settings.s3, f"{self._wanted.storage.rstrip('/')}/{self._site}")

    def _job_name(self, key: str) -> str:
        return f"weft-{self._site}-{key}"

    def _folders_of(self, key: str) -> AttemptFolder:
        job, _, attempt = key.rpartition("-")
        return self._folders.attempt(job, int(attempt))

    def _notes(self, key: str) -> NotesFile:
        job, _, attempt = key.rpartition("-")
        if not job or "/" in job or job.startswith(".") or not attempt.isdecimal():
            return NotesFile(None)
        return NotesFile(self._folders.attempt(job, int(attempt)))


@contextmanager
def _waiting_for_storage() -> Iterator[None]:
    """Let jobs wait for a storage that cannot be used, in its words, instead of failing them."""
    try:
        yield
    except StagingFailed as error:
        raise Unavailable(f"aws_batch.storage: {error.message}") from error


def _with_messages(seen: Observation, notes: Notes | None) -> Observation:
    if notes is None or not notes.messages or seen.phase is Phase.UNSEEN:
        return seen
    return replace(seen, messages=tuple(dict.fromkeys((*notes.messages, *seen.messages))))


def _handle(job_id: str, key: str) -> Handle:
    return Handle(executor=NAME, native_id=f"{job_id}:{key}")


def _parts(handle: Handle) -> tuple[str, str]:
    """Return job id and key; ("", …) for a handle that is none of ours."""
    job_id, colon, key = handle.native_id.partition(":")
    return (job_id, key) if colon else ("", handle.native_id)


def _least(*limits_: float | None) -> float | None:
    return min((limit for limit in limits_ if limit is not None), default=None)
