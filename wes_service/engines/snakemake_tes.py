"""Run every Snakemake job as one TES task: the executor plugin "weft", registered without being installed.

A ``shell`` rule runs its own command in the rule's own container, which needs nothing but a shell. ``run``,
``script``, ``notebook``, ``wrapper`` and ``cwl`` rules and groups (pipes, services) need Snakemake beside the
command, so the task runs Snakemake for that one job in weft's own image, or in weft's own Python where tasks run on
the host. Nothing of the user's but the parsing of the Snakefile happens in the engine's process; a rule without a
command is no task.

The plugin counts as a *local* executor (https://snakemake.github.io/snakemake-plugin-catalog), because the run's
folder is the same for the engine and its tasks: local rules come here too, and no group is formed that the workflow
does not need.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake.benchmark import BenchmarkRecord, write_benchmark_records
from snakemake.logging import logger
from snakemake.shell import shell
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecMode, ExecutorSettingsBase

from wes_service.engines.program import Place, create_patiently, explain, interrupt
from wes_service.engines.snakemake_files import files_of
from wes_service.engines.snakemake_job import (
    LAUNCHER,
    SNAKEMAKE,
    CannotRun,
    container_of,
    is_plain_shell,
    resources_of,
    thread_environment,
)
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import JsonObject, TesRefused, TesUnavailable

common_settings = CommonSettings(
    non_local_exec=False,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)

#: A single argument may have 128 KiB (``MAX_ARG_STRLEN``); longer scripts go through a file.
LONGEST_ARGUMENT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SnakemakePlace(Place):
    """Where the jobs of a run go, and what Snakemake's own tasks need."""

    #: An image with Python and Snakemake in it.
    weft_image: str | None = None
    #: The Python that runs Snakemake inside the task.
    python: str = "python3"
    #: Tasks do not see the run's folder: each names the files that it needs and makes.
    apart: bool = False
    #: The engine's environment before the workflow was parsed; what the workflow changes is passed to its tasks.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc]
    """What the engine hands to its executor."""

    place: SnakemakePlace | None = None


def speak_plainly(record: logging.LogRecord) -> bool:
    """Filter of Snakemake's log: its jobs are not local and their containers are used, whatever it believes."""
    if hasattr(record, "local"):
        record.local = False
    return record.msg not in ("Singularity containers: ignored", "Assuming unrestricted shared filesystem usage.")


def register() -> None:
    """Make ``executor="weft"`` known to Snakemake. May be called twice."""
    logger.addFilter(speak_plainly)
    registry = ExecutorPluginRegistry()
    if not registry.is_installed("weft"):
        registry.register_plugin("weft", sys.modules[__name__])


class Executor(RealExecutor):  # type: ignore[misc]
    """Snakemake's executor interface over TES."""

    def __post_init__(self) -> None:
        """Set up; no thread starts before there is a task."""
        place = self.executor_settings.place
        if place is None:
            raise ValueError("the executor weft needs a place")
        self.place: SnakemakePlace = place
        self._watch = TaskWatch(place.client, place.tags, self._crashed)
        self._slots = threading.Semaphore(place.jobs) if place.jobs is not None else None
        self._waiting: deque[Any] = deque()
        self._session = place.session

    # -- Snakemake's side ----------------------------------------------------------------------------------------

    def run_jobs(self, jobs: Sequence[Any]) -> None:
        """Run ``jobs``; called by the scheduler in the main thread, which now may be interrupted by SIGTERM."""
        signal.signal(signal.SIGTERM, interrupt)
        super().run_jobs(jobs)

    def run_job(self, job: Any) -> None:
        """Turn one job into a task, or finish it at once where it has nothing to run."""
        if not job.is_group() and job.is_norun:
            self.workflow.async_run(job.prepare())
            info = SubmittedJobInfo(job=job)
            self.report_job_submission(info)
            self.report_job_success(info)
        else:
            self._waiting.append(job)
            self._submit_waiting()

    def shutdown(self) -> None:
        """Stop watching; Snakemake calls this when no job runs any more."""
        self._watch.stop()

    def cancel(self) -> None:
        """End all tasks of this run."""
        self._waiting.clear()
        self._watch.cancel_all()
        self._watch.stop()

    @property
    def cores(self) -> Any:
        """The cores of the whole run."""
        return self.workflow.resource_settings.cores

    def get_exec_mode(self) -> Any:
        """Mode of the Snakemake that runs beside a job's command."""
        return ExecMode.SUBPROCESS

    def get_python_executable(self) -> str:
        """Run that Snakemake so that it ends without its idle second; "-m snakemake" follows as two arguments."""
        return f"{shlex.quote(self.place.python)} -c {shlex.quote(SNAKEMAKE)}"

    def get_job_exec_prefix(self, job: Any) -> str:
        """Begin in the run's folder."""
        return f"cd {shlex.quote(str(self.workflow.workdir_init))}"

    def additional_general_args(self) -> str:
        """Keep the task's log to what the job itself says."""
        return "--quiet progress rules host"

    def get_job_args(self, job: Any, **kwargs: Any) -> str:
        """Give the inner Snakemake the job's own cores."""
        return str(super().get_job_args(job, cores=job.threads, **kwargs))

    # -- from a job to a task ------------------------------------------------------------------------------------

    def _submit_waiting(self) -> None:
        """Submit as many waiting jobs as there are free slots."""
        while self._waiting and (self._slots is None or self._slots.acquire(blocking=False)):
            try:
                job = self._waiting.popleft()
            except IndexError:  # the other thread took it
                self._free_slot()
                continue
            if not self._submit(job):
                self._free_slot()

    def _free_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    def _submit(self, job: Any) -> bool:
        info = SubmittedJobInfo(job=job)
        started = time.time()
        job.register()  # incomplete before a task can write: a death in between is then no success
        try:
            task_id = create_patiently(
                self.place.client,
                self._task(job),
                key=f"{self._session}-{job.jobid}-{job.attempt}",
                say=self.logger.info,
            )
        except (CannotRun, TesRefused, TesUnavailable) as error:
            self.logger.error(f"Job {job.jobid} ({job.name}) could not be sent to TES: {error}")
            self.report_job_error(info)
            return False
        self.report_job_submission(info, register_job=False)
        self._watch.add(task_id, lambda task, state: self._ended(info, task, state, started))
        return True

    def _task(self, job: Any) -> JsonObject:
        """Give the TES task document of ``job`` and prepare the folder for it."""
        executors = self._shell_steps(job) if is_plain_shell(job) else [self._snakemake_step(job)]
        rules = sorted({str(rule) for rule in job.rules})
        wildcards = {} if job.is_group() else dict(job.wildcards_dict)
        return {
            "name": " ".join([",".join(rules), *(f"{name}={value}" for name, value in wildcards.items())]),
            "tags": {
                **self.place.tags,
                "rule": ",".join(rules),
                **{f"wildcards.{name}": str(value) for name, value in wildcards.items()},
            },
            "resources": resources_of(job, self.place.time_limit_parameter),
            "executors": executors,
            **self._files(job),
        }

    def _files(self, job: Any) -> JsonObject:
        """Give the run's folder, or the files of it that the job needs and makes."""
        work = self.place.work
        if not self.place.apart:
            return {"inputs": [{"type": "DIRECTORY", "url": work.as_uri(), "path": str(work)}]}
        return files_of(job, work, Path.cwd(), self._script_path(job))

    def _shell_steps(self, job: Any) -> list[JsonObject]:
        """Give the rule's own command in its own container, once for each repeat of a benchmark."""
        image = container_of(job) or self.place.default_image
        if image is None:
            raise CannotRun(
                f"rule {job.rule.name} names no container, and this site sets no default one (engine.default_image)"
            )
        self.workflow.async_run(job.prepare())
        step = {
            "image": image,
            "command": self._shell_command(job),
            "workdir": str(Path.cwd() / (job.shadow_dir or "")),
            "env": {**self._environment(), **thread_environment(job)},
        }
        return [step] * ((job.benchmark_repeats or 1) if job.benchmark else 1)

    def _shell_command(self, job: Any) -> list[str]:
        wanted = job.resources.get("shell_exec") or shell.get_executable() or "sh"
        prefix = shell._get_process_prefix(wanted)
        command = " ".join((job.shellcmd, shell._process_suffix)).strip()
        if len(command.encode()) > LONGEST_ARGUMENT:
            command = f". {shlex.quote(str(self._script(job, command)))}"
        own_prefix = shell._process_prefix or ""
        return ["/bin/sh", "-c", LAUNCHER, "sh", str(wanted), prefix, command, own_prefix]

    def _script(self, job: Any, command: str) -> Path:
        script = self._script_path(job)
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(command + "\n")
        return script

    def _script_path(self, job: Any) -> Path:
        return self.place.work / ".snakemake" / "weft" / f"{job.jobid}-{job.attempt}.sh"

    def _snakemake_step(self, job: Any) -> JsonObject:
        if self.place.apart:
            raise CannotRun(
                f"{job.name} is not a plain shell rule: it needs Snakemake and the run's folder beside its command, "
                "and tasks do not see that folder on this site's executor"
            )
        if self.place.weft_image is None:
            raise CannotRun(
                f"{job.name} is not a plain shell rule: it needs Snakemake beside its command, and this site sets no "
                "image that has it (engine.weft_image)"
            )
        if not job.is_group() and container_of(job):
            self.logger.info(f"The container of rule {job.rule.name} is not used: the job needs Snakemake beside it.")
        return {
            "image": self.place.weft_image,
            "command": ["/bin/sh", "-c", self.format_job_exec(job)],
            "workdir": str(self.place.work),
            "env": {
                **self._environment(),
                "XDG_CACHE_HOME": str(self.place.work / ".snakemake" / "cache"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        }

    def _environment(self) -> dict[str, str]:
        """Return what the workflow itself set (``os.environ[…] = …``) or declared (``envvars:``)."""
        before = self.place.environment
        changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
        return {**changed, **self.envvars()}

    # -- from a task to the job ----------------------------------------------------------------------------------

    def _ended(self, info: Any, task_id: str, state: str, started: float) -> None:
        """Take in that a task ended; called by the watch's thread."""
        self._free_slot()
        if state == "COMPLETE":
            if is_plain_shell(info.job) and info.job.benchmark:
                self._write_benchmark(info.job, time.time() - started)
            self.report_job_success(info)
        else:
            self.logger.error(self._explain(info.job, task_id, state))
            self.report_job_error(info, tes_task=task_id)
        self._submit_waiting()

    def _explain(self, job: Any, task_id: str, state: str) -> str:
        head = f"TES task {task_id} of {job.name} ended in {state}"
        try:
            logs = self.place.client.get(task_id).get("logs")
        except (TesRefused, TesUnavailable) as error:
            return f"{head}; its log cannot be read: {error}"
        return explain(head, logs if isinstance(logs, list) else [])

    def _write_benchmark(self, job: Any, seconds: float) -> None:
        """Write what is known from outside of the container: the wall time, shared among the repeats."""
        repeats = job.benchmark_repeats or 1
        records = [BenchmarkRecord(running_time=seconds / repeats) for _ in range(repeats)]
        write_benchmark_records(records, str(job.benchmark), extended_fmt=False)

    def _crashed(self, error: Exception) -> None:
        self.workflow.scheduler.executor_error_callback(error)
