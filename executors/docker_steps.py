"""Take one job forward by one container: create, attach, start, and read the evidence of its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

from docker.errors import APIError

from executors import docker_containers as containers
from executors import docker_stepfiles as stepfiles
from executors.docker_client import DockerClient, explain
from executors.docker_files import NotAFile
from executors.docker_jobs import DockerJob, StepView, fed_mark
from executors.docker_logs import Capture, Feed, LogStreams
from weft.errors import ExecutorRefused, Unavailable
from weft.folders import AttemptFolder
from weft.model import JsonObject, StepResult
from weft.ports import Failure

_OUTPUT = {"stdout": 1, "stderr": 1}


class StepRunner:
    """Starts steps and judges them. Whoever calls it holds the job's turn."""

    def __init__(
        self,
        client: DockerClient,
        streams: LogStreams,
        limits: containers.Limits,
        lock: threading.RLock,
        on_change: Callable[[DockerJob, StepView], None],
    ) -> None:
        """Tell ``on_change`` (in the streams' thread) that all of a step's output has come."""
        self._client = client
        self._streams = streams
        self._lock = lock
        self._on_change = on_change
        self.limits = limits

    def advance(self, job: DockerJob) -> bool:
        """Do the next thing for ``job``; False when there is nothing to do now.

        :raises Unavailable: the Engine does not answer; to be tried again later.
        """
        step = job.last
        if step is None or step.result is not None:
            if job.is_complete:
                job.ended = True
            else:
                self._launch_or_fail(job)
            return True
        if step.died and step.drained:
            return self._settle(job, step)
        if step.capture is None and not step.drained:
            self._follow(job, step)
        return False

    def _launch_or_fail(self, job: DockerJob) -> None:
        try:
            self.launch(job, len(job.steps))
        except ExecutorRefused as error:
            self._fail(job, error.message)

    def _fail(self, job: DockerJob, reason: str, *, retry: bool = False) -> None:
        with self._lock:
            job.failure, job.ended = Failure(reason=reason, retry=retry), True

    # -- start -------------------------------------------------------------------------------------------------

    def launch(self, job: DockerJob, index: int) -> None:
        """Start step ``index``, or take over its container if there is one.

        :raises ExecutorRefused: the Engine will never take it.
        :raises Unavailable: the Engine does not answer.
        """
        name = containers.container_name(self.limits.owner, job.work.key, index)
        there = self._client.inspect(name) if index < job.found else None
        if there is None:
            made = self._create(job, index, name)
            if made is not None:
                self._start(job, index, made)
                return
            there = self._client.inspect(name)
        if there is None:
            raise Unavailable(f"container {name} is being removed")
        self._take(job, index, there)

    def _create(self, job: DockerJob, index: int, name: str) -> str | None:
        """Create the container and return its id; None when the name is taken."""
        hosts = AttemptFolder(job.work.folder).control / "hosts"
        if not hosts.exists():
            hosts.write_text(containers.HOSTS)
            hosts.chmod(0o644)
        image = job.notes.images[index].id
        document = containers.create_document(job.work, index, image, hosts, self.limits)
        with self._client.answers() as api:
            try:
                return str(api.create_container_from_config(document, name)["Id"])  # type: ignore[no-untyped-call]
            except APIError as error:
                if error.status_code == 409:
                    return None
                if error.status_code == 503:
                    raise Unavailable(f"step {index}: the container was not created: {explain(error)}") from error
                raise ExecutorRefused(f"step {index}: the Engine refused the container: {explain(error)}") from error

    def _take(self, job: DockerJob, index: int, there: JsonObject) -> None:
        """Go on with a container that an earlier call or an earlier process made."""
        if there["Config"]["Labels"].get(containers.OWNER) != self.limits.owner:
            raise ExecutorRefused(f"container {there['Name'].strip('/')} belongs to another installation of weft")
        state = there["State"]
        if state["Status"] == "created":
            if state["Error"]:
                self._not_started(job, index, StepView(there["Id"], index), state["Error"])
            else:
                self._start(job, index, there["Id"])
            return
        step = StepView(there["Id"], index, started_at=containers.parse_time(state["StartedAt"]))
        step.died = not state["Running"]
        if index < job.found - 1:  # the next one was started, so this one was judged with all of its output
            step.drained = True
        elif job.work.steps[index].stdin is not None and not fed_mark(job.work.folder, index).exists():
            self._fail(job, f"step {index}: weft was stopped while it was feeding stdin", retry=True)
        else:
            step.drained = step.suspect = step.died
        with self._lock:
            job.steps.append(step)

    def _start(self, job: DockerJob, index: int, container: str) -> None:
        step = StepView(container, index)
        try:
            stepfiles.make_workdir(job.work, index, self.limits)
            stdin = self._open_stdin(job, step)
            step.sinks = stepfiles.open_sinks(job.work, index, self.limits)
        except OSError as error:
            self._fail(job, f"step {index}: {error.strerror}: {error.filename}")
            return
        self._attach(job, step, stdin)
        with self._lock:
            job.steps.append(step)
        refusal = self._try_to_start(job, step)
        if refusal is not None:
            self._not_started(job, index, step, refusal)

    def _try_to_start(self, job: DockerJob, step: StepView) -> str | None:
        """Start the container; return the Engine's words if it refuses."""
        try:
            with self._client.answers() as api:
                try:
                    api.start(step.container)
                except APIError as error:
                    job.steps.remove(step)
                    return explain(error)
        except Unavailable:  # perhaps it runs: the next try finds out
            job.steps.remove(step)
            raise
        step.started_at = step.started_at or time.time()
        return None

    def _attach(self, job: DockerJob, step: StepView, stdin: BinaryIO | None) -> None:
        """Connect to output and stdin before the start, so that nothing is lost.

        stdin has a connection of its own: should weft die, the Engine still gets all that was sent on it.
        """
        path = f"/containers/{step.container}/attach"
        if stdin is not None:
            try:
                feed, _ = self._client.open_stream("POST", path, {"stream": 1, "stdin": 1})
            except Unavailable:
                stdin.close()
                raise
            self._streams.add(Feed(feed, stdin, fed_mark(job.work.folder, step.index).touch))
        self._capture(job, step, "POST", path, {"stream": 1, **_OUTPUT})

    def _not_started(self, job: DockerJob, index: int, step: StepView, message: str) -> None:
        if self.limits.init and containers.lacks_init(message):
            self.limits = replace(self.limits, init=False)
            self._client.remove(step.container)
            self.launch(job, index)
            return
        outcome = containers.start_error(message, job.work.steps[index].command, time.time())
        if isinstance(outcome, StepResult):
            step.started_at, step.result = outcome.started_at, outcome
            with self._lock:
                job.steps.append(step)
        else:
            self._fail(job, f"step {index}: {outcome.reason}")

    # -- output and input --------------------------------------------------------------------------------------

    def _follow(self, job: DockerJob, step: StepView) -> None:
        """Read all output of a running container anew, from its start, and go on live."""
        try:
            step.sinks = stepfiles.open_sinks(job.work, step.index, self.limits)
        except OSError as error:
            self._fail(job, f"step {step.index}: {error.strerror}: {error.filename}")
            return
        self._capture(job, step, "GET", f"/containers/{step.container}/logs", {"follow": 1, **_OUTPUT})

    def _capture(self, job: DockerJob, step: StepView, method: str, path: str, query: dict[str, Any]) -> None:
        try:
            stream, first = self._client.open_stream(method, path, query)
        except Unavailable:
            stepfiles.close(step.sinks)
            raise
        step.capture = token = object()

        def on_end() -> None:
            with self._lock:
                if step.capture is token:
                    step.drained = True
            self._on_change(job, step)

        self._streams.add(Capture(stream, first, step.sinks, on_end))

    def _read_again(self, job: DockerJob, step: StepView) -> None:
        """Read all output of a stopped container anew: what came live may have holes."""
        step.sinks = stepfiles.open_sinks(job.work, step.index, self.limits)
        path = f"/containers/{step.container}/logs"
        stream, first = self._client.open_stream("GET", path, dict(_OUTPUT))
        capture = Capture(stream, first, step.sinks, lambda: None)
        stream.setblocking(True)
        with suppress(OSError):
            while capture.ready():
                pass
        capture.close(finished=False)

    def _open_stdin(self, job: DockerJob, step: StepView) -> BinaryIO | None:
        """Open the step's stdin: below a mount, else (also through links) as the container sees it."""
        named = job.work.steps[step.index].stdin
        if named is None:
            return None
        with suppress(NotAFile):
            found = stepfiles.open_stdin(job.work, named)
            if found is not None:
                return found
        copy = self._client.read_file(step.container, named)
        if copy is None:
            raise FileNotFoundError(2, "there is no such file for stdin", named)
        return copy

    # -- end ---------------------------------------------------------------------------------------------------

    def _settle(self, job: DockerJob, step: StepView) -> bool:
        """Read the evidence of a container's end; False when it has not ended after all."""
        ended = self._client.inspect(step.container)
        if ended is None:  # somebody removed it, and its exit code with it
            job.gone = True
            return True
        if ended["State"]["Running"]:
            step.died = False
            return False
        if step.suspect:
            try:
                self._read_again(job, step)
            except OSError as error:
                self._fail(job, f"step {step.index}: {error.strerror}: {error.filename}")
                return True
        if step.disturbed and containers.was_killed(ended):
            self._fail(
                job, f"step {step.index} was killed from outside, perhaps as the Docker Engine stopped", retry=True
            )
            return True
        stderr_end = step.sinks[2].end if 2 in step.sinks else b""
        result = containers.step_result(ended, job.work.steps[step.index].command, stderr_end)
        with self._lock:
            step.result = result
        for number, sink in step.sinks.items():
            if sink.error is not None:
                self._fail(job, f"step {step.index}: {stepfiles.STREAMS[number]} was not stored: {sink.error.strerror}")
        return True
