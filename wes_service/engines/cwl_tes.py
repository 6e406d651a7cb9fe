"""Run every CommandLineTool job of cwltool as one TES task, by cwltool's own extension points.

``Tools.make`` is a ``LoadingContext.construct_tool_object`` whose tools make ``TaskJob``s; ``TaskExecutor`` is the
``JobExecutor`` that submits them all and takes them in as they end, in one thread. The run's folder is the same path
for the engine and its tasks, so cwltool stages inputs and finds outputs as if the command ran beside it.
Expressions are evaluated here, in the engine's sandbox.
"""

from __future__ import annotations

import logging
import queue
import shlex
import signal
import time
import types
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cwltool.command_line_tool import CommandLineTool
from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.executors import JobExecutor
from cwltool.job import CommandLineJob, relink_initialworkdir
from cwltool.process import eval_resource, stage_files
from cwltool.utils import bytes2str_in_dicts
from cwltool.workflow import default_make_tool

from wes_service.engines.cwl_reuse import Finished
from wes_service.engines.cwl_task import CannotRun, image_of, resources_of, status_of
from wes_service.engines.program import Cancelled, Place, create_patiently, explain, failed_step
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import JsonObject, TesRefused, TesUnavailable

log = logging.getLogger("cwltool")
#: A single argument may have 128 KiB (``MAX_ARG_STRLEN``).
LONGEST_ARGUMENT = 128 << 10

#: A signal that arrives just before a wait is handled only after it, so no wait is longer than this, in seconds.
_LOOK_UP = 0.5


class Tasks:
    """The run's tasks: submits them, and hands back those that ended, in the thread that asks."""

    def __init__(self, place: Place, finished: Finished) -> None:
        """Take the place and what is finished already; no thread starts before there is a task."""
        self.place = place
        self.finished = finished
        self._over: queue.SimpleQueue[tuple[str, str] | BaseException] = queue.SimpleQueue()
        self._watch = TaskWatch(place.client, place.tags, self._over.put)
        self._running: dict[str, TaskJob] = {}
        self._limits: dict[str, float] = {}
        self._count = 0
        self._cancelled = False

    def __len__(self) -> int:
        """How many have not been taken in."""
        return len(self._running)

    def submit(self, job: TaskJob, document: JsonObject, time_limit: float | None = None) -> None:
        """Create a task for ``job``; ``time_limit`` in seconds is held here.

        :raises WorkflowException: TES refuses it.
        """
        if self._cancelled:
            raise Cancelled
        self._count += 1
        key = f"{self.place.session}-{self._count}"
        try:
            task_id = create_patiently(self.place.client, document, key=key, say=log.info)
        except (TesRefused, TesUnavailable) as error:
            raise WorkflowException(f"{job.name} could not be sent to TES: {error}") from error
        self._running[task_id] = job
        if time_limit:
            self._limits[task_id] = time_limit
        self._watch.add(task_id, lambda task, state: self._over.put((task, state)))

    def reuse(self, job: TaskJob) -> None:
        """Take ``job`` in as one that ended well, without a task."""
        self._count += 1
        task_id = f"{self.place.session}-reused-{self._count}"
        self._running[task_id] = job
        self._over.put((task_id, "COMPLETE"))

    def take(self) -> tuple[TaskJob, str, str]:
        """Wait for a task that ended; its job, its id and its state."""
        while True:
            try:
                over = self._over.get(timeout=_LOOK_UP)
            except queue.Empty:
                self._enforce_limits()
                continue
            if isinstance(over, BaseException):
                raise over
            task_id, state = over
            self._limits.pop(task_id, None)
            return self._running.pop(task_id), task_id, state

    def interrupt(self, signal_number: int, frame: types.FrameType | None) -> None:
        """Handle SIGTERM: the thread that takes is told, at a place where nothing is half done."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._cancelled = True
        self._over.put(Cancelled())

    def stop(self) -> None:
        """End all tasks that still run; nothing is taken in any more."""
        if self._running:
            self._watch.cancel_all()
        self._watch.stop()

    def _enforce_limits(self) -> None:
        """Cancel what has run for longer than its ``ToolTimeLimit``; the time in the queue does not count."""
        for task_id, limit in list(self._limits.items()):
            try:
                logs = self.place.client.get(task_id, view="BASIC").get("logs")
                started = logs[-1].get("start_time") if isinstance(logs, list) and logs else None
                if started and time.time() - datetime.fromisoformat(started).timestamp() > limit:
                    log.error("[job %s] is over its time limit of %g seconds", self._running[task_id].name, limit)
                    self._limits.pop(task_id)
                    self.place.client.cancel(task_id)
            except (TesRefused, TesUnavailable):
                continue


class Tools:
    """Makes cwltool's processes, with CommandLineTools that become tasks."""

    def __init__(self, tasks: Tasks) -> None:
        """Keep where the tasks go."""
        self._tasks = tasks

    def make(self, document: Any, loading: Any) -> Any:
        """Be ``LoadingContext.construct_tool_object``."""
        if document.get("class") == "CommandLineTool":
            return TaskTool(document, loading, self._tasks)
        return default_make_tool(document, loading)


class TaskTool(CommandLineTool):  # type: ignore[misc]
    """A CommandLineTool whose jobs are TES tasks."""

    def __init__(self, document: Any, loading: Any, tasks: Tasks) -> None:
        """Keep where the tasks go."""
        super().__init__(document, loading)
        self._tasks = tasks

    def make_job_runner(self, context: Any) -> Any:
        """Return what makes a job."""
        return partial(TaskJob, self._tasks, self)


class TaskJob(CommandLineJob):  # type: ignore[misc]
    """One job, from its staged folder to its outputs."""

    def __init__(self, tasks: Tasks, tool: TaskTool, *words: Any) -> None:
        """Take what cwltool gives a job."""
        super().__init__(*words)
        self._tasks = tasks
        self._tool = tool
        self._context: Any = None
        #: What the job is known by; None for one that must not be reused.
        self._key: str | None = None

    def _required_env(self) -> dict[str, str]:
        """Give the variables of the CWL specification; the path to programs is the container's own."""
        return {"HOME": self.outdir, "TMPDIR": self.tmpdir}

    def run(self, context: Any, tmpdir_lock: object = None) -> None:
        """Stage the inputs and send the task, unless it is finished; the outputs are collected by ``finish``.

        :raises WorkflowException: the job cannot be run at all.
        """
        self._context = context
        Path(self.tmpdir).mkdir(parents=True, exist_ok=True)
        self._setup(context)
        try:
            document = self._task()
        except CannotRun as error:
            raise UnsupportedRequirement(str(error)) from error
        self._key = self._known_by(document)
        if self._key is not None and self._tasks.finished.take(self._key, Path(self.outdir)):
            log.info("[job %s] is finished already", self.name)
            self._tasks.reuse(self)
            return
        stage_files(self.pathmapper, ignore_writable=True, symlink=True)
        if self.generatemapper is not None:
            stage_files(self.generatemapper, ignore_writable=self.inplace_update, symlink=True)
            self._relink()
        log.info("[job %s] %s", self.name, shlex.join(document["executors"][0]["command"]))
        limit = None if self._tasks.place.time_limit_parameter else self.timelimit
        self._tasks.submit(self, document, limit)

    def _known_by(self, document: JsonObject) -> str | None:
        reuse, _ = self.get_requirement("WorkReuse")
        if reuse is not None and reuse.get("enableReuse", True) is not True:
            return None
        does = {name: document[name] for name in ("executors", "outputs")}
        places = {
            self.outdir: "OUT",
            self.tmpdir: "TMP",
            self.builder.stagedir: "STAGE",
            str(self._tasks.place.work): "WORK",
        }
        mappers = [mapper for mapper in (self.pathmapper, self.generatemapper) if mapper is not None]
        entries = [entry for mapper in mappers for _, entry in mapper.items()]
        return self._tasks.finished.key(does, entries, places)

    def _relink(self) -> None:
        relink_initialworkdir(self.generatemapper, self.outdir, self.outdir, inplace_update=self.inplace_update)

    def _task(self) -> JsonObject:
        """Give the TES task document."""
        place = self._tasks.place
        docker, _ = self.get_requirement("DockerRequirement")
        work = str(place.work)
        step = {
            "image": image_of(docker, place.default_image, self.name),
            "command": self._command(),
            "workdir": self.outdir,
            "env": {name: str(value) for name, value in self.environment.items()},
            "stdin": self._stdin(),
            "stdout": self._stream(self.stdout),
            "stderr": self._stream(self.stderr),
        }
        return {
            "name": self.name,
            "tags": {**place.tags, "tool": str(self._tool.tool.get("id", "")).rpartition("/")[2]},
            "resources": self._resources(),
            "inputs": [{"type": "DIRECTORY", "url": place.work.as_uri(), "path": work}],
            "outputs": self._elsewhere(docker),
            "executors": [{key: value for key, value in step.items() if value is not None}],
        }

    def _command(self) -> list[str]:
        words = [str(word) for word in self.command_line]
        if not words:
            raise CannotRun(f"{self.name} has an empty command line: give it a baseCommand or arguments")
        if self.mpi_procs:
            raise CannotRun(f"{self.name}: MPIRequirement is not supported")
        if any(len(word.encode()) >= LONGEST_ARGUMENT for word in words):
            raise CannotRun(f"{self.name}: an argument is longer than {LONGEST_ARGUMENT} bytes")
        return words

    def _stdin(self) -> str | None:
        if self.stdin is None:
            return None
        found = self.pathmapper.reversemap(self.stdin)
        if found is None:
            raise CannotRun(f"{self.name}: stdin {self.stdin!r} is none of its input files")
        return str(found[1])

    def _stream(self, name: str | None) -> str | None:
        if name is None:
            return None
        path = Path(self.outdir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _elsewhere(self, docker: Mapping[str, Any] | None) -> list[JsonObject]:
        """Take what the tool writes where its image has its output folder (``dockerOutputDirectory``), too."""
        if self.generatemapper is not None:
            for entry in self.generatemapper:
                if not Path(entry.target).is_relative_to(self._tasks.place.work):
                    raise CannotRun(f"{self.name}: InitialWorkDirRequirement: {entry.target!r} is an absolute path")
        wanted = docker.get("dockerOutputDirectory") if docker else None
        if not wanted:
            return []
        return [{"type": "DIRECTORY", "path": str(wanted), "url": Path(self.outdir).as_uri()}]

    def _resources(self) -> JsonObject:
        asked, _ = self.get_requirement("ResourceRequirement")
        most = (asked or {}).get("ramMax")
        most_ram = None if most is None else eval_resource(self.builder, most)
        resources = resources_of(asked, self.builder.resources, most_ram)
        place = self._tasks.place
        parameters = {}
        if place.network_parameter and self.networkaccess:
            parameters[place.network_parameter] = "true"
        if place.time_limit_parameter and self.timelimit:
            parameters[place.time_limit_parameter] = str(self.timelimit)
        return {**resources, "backend_parameters": parameters} if parameters else resources

    # -- after the task --------------------------------------------------------------------------------------------

    def finish(self, task_id: str, state: str) -> bool:
        """Collect the outputs of the ended task and tell the workflow; True if the job succeeded."""
        status, outputs = self._judge(task_id, state)
        self._tasks.finished.learn(outputs)
        if status == "success" and state == "COMPLETE" and self._key is not None:
            self._tasks.finished.note(self._key, Path(self.outdir))
        log.log(logging.INFO if status == "success" else logging.WARNING, "[job %s] completed %s", self.name, status)
        if self.output_callback:
            self.output_callback(outputs, status)
        return status == "success"

    def _judge(self, task_id: str, state: str) -> tuple[str, Any]:
        code, logs = (0, []) if state == "COMPLETE" else self._evidence(task_id)
        if state == "COMPLETE" or (state == "EXECUTOR_ERROR" and code is not None):
            status = status_of(code or 0, self.successCodes, self.temporaryFailCodes, self.permanentFailCodes)
        else:
            status = "permanentFail"
        if status != "success":
            log.error("%s", explain(f"TES task {task_id} of {self.name} ended in {state}", logs))
            if state != "EXECUTOR_ERROR" or code is None:
                return status, {}
        try:
            if self.generatemapper is not None:
                self._relink()
            return status, bytes2str_in_dicts(self.collect_outputs(self.outdir, code or 0))
        except WorkflowException as error:
            log.error("[job %s] Job error:\n%s", self.name, error)
        except OSError as error:
            log.error("[job %s] its outputs cannot be read: %s", self.name, error)
        return "permanentFail", {}

    def _evidence(self, task_id: str) -> tuple[int | None, list[Any]]:
        try:
            logs = self._tasks.place.client.get(task_id).get("logs")
        except (TesRefused, TesUnavailable):
            return None, []
        known: list[Any] = logs if isinstance(logs, list) else []
        return failed_step(known).get("exit_code"), known


class TaskExecutor(JobExecutor):  # type: ignore[misc]
    """Submits every job as soon as cwltool offers it; one thread does everything."""

    def __init__(self, tasks: Tasks) -> None:
        """Keep where the tasks go."""
        super().__init__()
        self._tasks = tasks
        self._failed = False

    def run_jobs(self, process: Any, job_order: Any, logger: logging.Logger, context: Any) -> None:
        """Run the jobs of ``process`` to their ends."""
        most = self._tasks.place.jobs
        signal.signal(signal.SIGTERM, self._tasks.interrupt)
        try:
            for job in process.job(job_order, self.output_callback, context):
                if job is not None:
                    self._begin(job, context)
                elif not self._tasks:
                    logger.error("Workflow cannot make any more progress.")
                    break
                if self._tasks and (job is None or len(self._tasks) == most):
                    self._finish_one()
                while self._tasks and self._failed and context.on_error == "continue":
                    self._finish_one()  # a workflow that has a failed step gives up on those that still run
            while self._tasks:
                self._finish_one()
        finally:
            self._tasks.stop()
            if self._failed:
                context.move_outputs = "copy"  # what finished jobs left stays, for a run that resumes this one

    def _begin(self, job: Any, context: Any) -> None:
        if getattr(job, "outdir", None):
            self.output_dirs.add(job.outdir)
        job.run(context)

    def _finish_one(self) -> None:
        job, task_id, state = self._tasks.take()
        self._failed |= not job.finish(task_id, state)
