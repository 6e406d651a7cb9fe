"""Run jobs as containers of a Docker Engine, closed by default; told by its events, never polled per job.

A native job is a sequence of containers ``weft-OWNER-KEY-N``, one a step, that stay until ``forget``: after a restart
all that happened is read back from the Engine. What moves a job on is one function, ``_advance``: it looks where the
job stands and does the next thing, and may be called at any time, by anybody, again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import cached_property

from executors import docker_containers as containers
from executors.docker_client import DockerClient, is_streamable
from executors.docker_events import EventStream
from executors.docker_jobs import NAME, UNSEEN, DockerJob, Notes, StepView, adopted_job, handle_of
from executors.docker_logs import LogStreams
from executors.docker_steps import StepRunner
from weft import submissions
from weft.config import Settings
from weft.errors import Unavailable
from weft.logs import get_logger
from weft.model import Handle, JsonObject, Submission
from weft.ports import Capabilities, Failure, Health, Observation

log = get_logger(__name__)

REMEDY = "start Docker, or add your user to the docker group, or set executor = process"
#: How long ``observe`` waits for jobs that it has just adopted to be looked at (seconds).
_ADOPTION_WAIT = 1.0
_REMOVED_WITHIN = 20.0


def create(settings: Settings) -> DockerExecutor:
    """Make the executor; nothing is connected yet."""
    return DockerExecutor(settings)


class DockerExecutor:
    """The ``docker`` executor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = DockerClient(settings.docker.host)
        self._owner = containers.owner_of(settings.data)
        self._label = f"{containers.OWNER}={self._owner}"
        self._lock = threading.RLock()
        self._jobs: dict[str, DockerJob] = {}
        self._wake: Callable[[Handle], None] = lambda _handle: None
        self._streams = LogStreams()
        self._events = EventStream(self._client, self._label, self._on_event, self._on_lost, self._sweep)
        self._pool: ThreadPoolExecutor | None = None

    # -- what it is --------------------------------------------------------------------------------------------

    @cached_property
    def _info(self) -> JsonObject:
        with self._client.answers() as api:
            return dict(api.info())

    @cached_property
    def _runner(self) -> StepRunner:
        limits = containers.limits_of(self._settings, self._owner, self._info)
        return StepRunner(self._client, self._streams, limits, self._lock, self._on_change)

    @property
    def capabilities(self) -> Capabilities:
        """What the Engine's host has; without its sizes while the Engine does not answer."""
        try:
            info = self._info
        except Unavailable:
            info = {}
        cores = info.get("NCPU")
        return Capabilities(
            name=NAME,
            wakes=True,
            backend_parameters=self._parameters(),
            users=self._users,
            cpu_cores=cores,
            ram_bytes=info.get("MemTotal"),
            slots=None if cores is None else 2 * cores,
        )

    @property
    def _users(self) -> frozenset[int]:
        return frozenset(self._settings.docker.users) if os.geteuid() == 0 else frozenset()

    def _parameters(self) -> frozenset[str]:
        asked = self._settings.docker
        offered = {"network": asked.allow_network, containers.GPUS: asked.max_gpus > 0, "user": bool(self._users)}
        return frozenset(name for name, is_offered in offered.items() if is_offered)

    def check(self) -> Health:
        """Tell whether the Engine answers."""
        host = self._client.host
        try:
            if not is_streamable(host):
                return Health(usable=False, detail=f"{host} is no local Docker Engine", remedy="use unix:// or tcp://")
            with self._client.answers() as api:
                version = api.version()["Version"]
        except Exception as error:  # it must never raise, whatever the address looks like
            return Health(usable=False, detail=str(error), remedy=REMEDY)
        return Health(usable=True, detail=f"Docker Engine {version} at {host}")

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Listen to the Engine's events, also when it is not there yet."""
        self._wake = wake
        self._events.start()

    def stop(self) -> None:
        """Stop listening; containers go on, and their output is read again by whoever adopts them."""
        self._events.stop()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._streams.stop()
        with self._lock:
            self._jobs.clear()
        self._client.close()

    # -- submit and find ---------------------------------------------------------------------------------------

    def submit(self, work: Submission) -> Handle:
        """Start the first step, or adopt the job of this key; pulls an image only if it is missing."""
        handle = handle_of(work.key)
        with self._lock:
            if work.key in self._jobs:
                return handle
        containers.check(work, self._runner.limits)
        images = {step.image: self._client.image(step.image) for step in work.steps}
        notes = Notes(images=tuple(images[step.image] for step in work.steps), host=self._info.get("Name", ""))
        with self._lock:
            job = self._jobs.setdefault(work.key, DockerJob(work, handle, notes))
        try:
            with job.turn:
                if not job.steps and not job.is_over:
                    submissions.save(work)
                    notes.save(work.folder)
                    self._runner.launch(job, 0)
        except Exception:
            with self._lock:  # whatever still happens to its container is for who adopts it
                job.cancelled = True
                self._jobs.pop(work.key, None)
            raise
        self._advance_later(job)
        return handle

    def find(self, key: str) -> Handle | None:
        """Look for the first step's container of this key."""
        found = self._client.inspect(containers.container_name(self._owner, key, 0))
        if found is None or found["Config"]["Labels"].get(containers.OWNER) != self._owner:
            return None
        return handle_of(key)

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return every job of this installation that has a container."""
        keys = {found["Labels"][containers.KEY] for found in self._client.containers(self._label)}
        return [(key, handle_of(key)) for key in sorted(keys)]

    # -- observe -----------------------------------------------------------------------------------------------

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Answer from what events told; one list where that is not enough."""
        with self._lock:
            unknown = [handle for handle in handles if handle.native_id not in self._jobs]
        if not self._events.connected:
            self._sweep()
        if unknown:
            self._adopt({handle.native_id for handle in unknown})
        with self._lock:
            jobs = {handle: self._jobs.get(handle.native_id) for handle in handles}
            return {handle: UNSEEN if job is None else job.observation() for handle, job in jobs.items()}

    def _adopt(self, keys: set[str]) -> None:
        """Take over the jobs of ``keys`` whose containers are there, and bring them forward."""
        found: dict[str, list[JsonObject]] = {}
        for container in self._client.containers(self._label):
            if container["Labels"][containers.KEY] in keys:
                found.setdefault(container["Labels"][containers.KEY], []).append(container)
        with self._lock:
            adopted = [self._jobs.setdefault(key, adopted_job(key, group)) for key, group in found.items()]
        wait([self._get_pool().submit(self._advance, job) for job in adopted], timeout=_ADOPTION_WAIT)

    # -- cancel and forget -------------------------------------------------------------------------------------

    def cancel(self, handle: Handle) -> None:
        """Kill and remove all containers of the job; it is then seen as ENDED until it is forgotten."""
        with self._lock:
            job = self._jobs.get(handle.native_id)
            if job is not None and not job.ended:
                job.cancelled = True
        self._remove_all(handle, job)
        if job is None:
            return
        with self._lock:
            if not job.ended:
                job.ended, job.failure = True, Failure(reason="cancelled: its containers were removed")
        self._wake(handle)

    def forget(self, handle: Handle) -> None:
        """Remove all containers of the job."""
        with self._lock:
            job = self._jobs.get(handle.native_id)
            sure = job is not None and job.ended and job.failure is None and not job.found
            if job is not None and not job.ended:
                job.cancelled = True
        if job is not None and sure:
            for step in job.steps:
                self._client.remove(step.container)
        else:
            self._remove_all(handle, job)
        with self._lock:
            self._jobs.pop(handle.native_id, None)

    def _remove_all(self, handle: Handle, job: DockerJob | None) -> None:
        """Remove what a list shows until it shows nothing; nobody starts anything meanwhile."""
        label = f"{containers.KEY}={handle.native_id}"
        deadline = time.monotonic() + _REMOVED_WITHIN
        with nullcontext() if job is None else job.turn:
            while found := self._client.containers(self._label, label):
                if time.monotonic() > deadline:
                    raise Unavailable(f"the Engine does not remove {found[0]['Names'][0]}")
                for container in found:
                    self._client.remove(container["Id"])

    # -- what happens by itself --------------------------------------------------------------------------------

    def _get_pool(self) -> ThreadPoolExecutor:
        # The Engine is the limit: more than twice its cores at once makes every start slower.
        workers = 2 * (self._info.get("NCPU") or 2)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(workers, thread_name_prefix="docker")
            return self._pool

    def _advance_later(self, job: DockerJob) -> None:
        try:
            self._get_pool().submit(self._advance, job)
        except (RuntimeError, Unavailable) as error:  # stopping, or the Engine went away: the sweep comes back to it
            log.debug("advance put off", key=job.work.key, error=str(error))

    def _advance(self, job: DockerJob) -> None:
        """Do all that can be done for ``job`` now."""
        try:
            with job.turn:
                while not job.is_over and self._runner.advance(job):
                    self._wake(job.handle)
        except Unavailable as error:
            log.debug("advance put off", key=job.work.key, error=error.message)
        except Exception as error:
            log.exception("unexpected error", key=job.work.key, error=repr(error))
            with self._lock:
                job.failure, job.ended = Failure(reason=f"weft failed unexpectedly: {error!r}"), True
            self._wake(job.handle)

    def _on_event(self, event: JsonObject) -> None:
        attributes = event["Actor"]["Attributes"]
        with self._lock:
            job = self._jobs.get(attributes.get(containers.KEY, ""))
            if job is None or (step := job.last) is None or step.container != event["Actor"]["ID"]:
                return
            match event["Action"]:
                case "start":
                    step.started_at = event["timeNano"] / 1e9
                case "kill":
                    step.disturbed = True
                case _:
                    step.died = True
        self._on_change(job, step)

    def _on_change(self, job: DockerJob, step: StepView) -> None:
        """Note that a container died or its output ended; when both are true it can be judged."""
        with self._lock:
            if step.drained and not self._events.connected:
                step.suspect = True
            due = step.died and step.drained
        if due:
            self._advance_later(job)

    def _on_lost(self) -> None:
        """Trust no end of output now: the stream of events broke, so the Engine may have died."""
        with self._lock:
            for job in self._jobs.values():
                if job.last is not None and job.last.result is None:
                    job.last.suspect = job.last.disturbed = True

    def _sweep(self) -> None:
        """Compare what is known with a list, because events can drop."""
        with self._lock:
            known = {key: job.last for key, job in self._jobs.items() if not job.is_over}
        if not known:
            return
        states = {found["Id"]: found["State"] for found in self._client.containers(self._label)}
        for key, step in known.items():
            with self._lock:
                job = self._jobs.get(key)
                if job is None or job.is_over or job.last is not step:
                    continue
                if step is not None and step.result is None:
                    job.gone = step.container not in states
                    step.compare(states.get(step.container, ""))
            if job.gone:
                self._wake(job.handle)
            else:
                self._advance_later(job)
