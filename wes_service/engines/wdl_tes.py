"""Run every WDL task's command as one TES task: miniwdl's container backend "weft".

The run's folder is the same path for the engine and its tasks, so the container's scratch folder is the host's own,
and inputs lie in it as hard links. miniwdl waits in one thread a task; all of them share one watch.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from WDL import Error
from WDL.runtime import task_container
from WDL.runtime.error import Terminated

from wes_service.engines.program import Place, create_patiently, explain, failed_step
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import JsonObject, TesRefused, TesUnavailable

log = logging.getLogger("wdl")
#: The name of the backend in miniwdl's configuration.
BACKEND = "weft"
#: How often a waiting task looks whether the engine is to end, in seconds.
BEAT = 0.1
#: bash where the image has it, as miniwdl's own backends; $1 is the script.
LAUNCHER = 'if command -v bash >/dev/null 2>&1; then exec bash "$1"; fi; exec sh "$1"'
_DISK_GB = {
    "": 1.0,
    "gb": 1.0,
    "gib": 1.073741824,
    "tb": 1000.0,
    "tib": 1099.511627776,
    "mb": 0.001,
    "mib": 0.001048576,
}


@dataclass
class Backend:
    """What the tasks of one engine process share."""

    place: Place
    watch: TaskWatch = field(init=False)
    #: Whether a signal asked for the end.
    terminated: bool = False

    def __post_init__(self) -> None:
        """Make the watch; its thread starts with the first task."""
        self.watch = TaskWatch(self.place.client, self.place.tags, lambda error: log.error("%s", error))


def use(backend: Backend | None) -> None:
    """Make the backend "weft" known to miniwdl, and the only one; None forgets it."""
    Container.backend = backend
    task_container._backends.clear()
    if backend is not None:
        task_container._backends[BACKEND] = Container


class Container(task_container.TaskContainer):  # type: ignore[misc]
    """One WDL task: miniwdl's ``TaskContainer``."""

    backend: Backend | None = None

    def __init__(self, config: Any, run_id: str, host_dir: str) -> None:
        """Let the container's folder be the host's."""
        super().__init__(config, run_id, host_dir)
        self.container_dir = self.host_dir

    @classmethod
    def global_init(cls, config: Any, logger: logging.Logger) -> None:
        """Nothing is needed."""

    @classmethod
    def detect_resource_limits(cls, config: Any, logger: logging.Logger) -> dict[str, int]:
        """Return what a task that asks for nothing may believe it has; nothing is limited to it."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {"cpu": os.cpu_count() or 1, "mem_bytes": memory}

    def process_runtime(self, logger: logging.Logger, runtime_eval: dict[str, Any]) -> None:
        """Read ``disks`` too, which miniwdl leaves aside."""
        super().process_runtime(logger, runtime_eval)
        if "disks" in runtime_eval:
            self.runtime_values["disk_gb"] = disk_gb(runtime_eval["disks"].json)

    def host_work_dir(self) -> str:
        """Return the same folder for every attempt, because its path is the container's."""
        return os.path.join(self.host_dir, "work")  # noqa: PTH118

    def reset(self, logger: logging.Logger) -> None:
        """Put the failed attempt's folder aside."""
        work = Path(self.host_work_dir())
        work.rename(work.with_name(f"work.failed{self.try_counter}"))
        super().reset(logger)

    def copy_input_files(self, logger: logging.Logger) -> None:
        """Link the inputs into the work folder; a link that cannot be made is a copy."""
        for source, target in self.input_path_map.items():
            place = Path(target.rstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.endswith("/"):
                shutil.copytree(source.rstrip("/"), place, copy_function=_link)
            else:
                _link(source, str(place))

    def _run(self, logger: logging.Logger, terminating: Callable[[], bool], command: str) -> int:
        """Run the command as a task and return its exit code.

        :raises Terminated: the engine is to end; the task is cancelled.
        :raises Error.RuntimeError: there is no exit code; says why.
        """
        backend = self.backend
        if backend is None:
            raise Error.RuntimeError("the backend weft needs a place")
        Path(self.host_dir, "command").write_text(command)
        over: queue.SimpleQueue[str] = queue.SimpleQueue()
        client = backend.place.client
        key = f"{backend.place.session}-{self.host_dir}-{self.try_counter}"
        try:
            task_id = create_patiently(client, self._task(backend.place), key=key, say=log.info)
        except (TesRefused, TesUnavailable) as error:
            raise Error.RuntimeError(f"{self.run_id} could not be sent to TES: {error}") from error
        log.info("%s is TES task %s", self.run_id, task_id)
        backend.watch.add(task_id, lambda _, state: over.put(state))
        while True:
            with suppress(queue.Empty):
                return self._exit_code(backend, task_id, over.get(timeout=BEAT))
            if terminating():
                backend.terminated = True
                with suppress(TesRefused, TesUnavailable):
                    client.cancel(task_id)
                raise Terminated

    def _exit_code(self, backend: Backend, task_id: str, state: str) -> int:
        if state == "COMPLETE":
            return 0
        try:
            logs = backend.place.client.get(task_id).get("logs")
        except (TesRefused, TesUnavailable):
            logs = None
        known: list[Any] = logs if isinstance(logs, list) else []
        code = failed_step(known).get("exit_code") if state == "EXECUTOR_ERROR" else None
        said = explain(f"TES task {task_id} of {self.run_id} ended in {state}", known)
        if code is None:
            raise Error.RuntimeError(said)
        if not self.success_exit_code(code):
            log.error("%s", said)
        return int(code)

    def _task(self, place: Place) -> JsonObject:
        """Give the TES task document."""
        image = self.runtime_values.get("docker") or place.default_image
        if not image:
            raise Error.RuntimeError(
                f"{self.run_id} names no docker image, and this site sets no default one (engine.default_image)"
            )
        script = os.path.join(self.host_dir, "command")  # noqa: PTH118
        return {
            "name": self.run_id,
            "tags": {**place.tags, "call": self.run_id},
            "resources": self._resources(place),
            "inputs": [{"type": "DIRECTORY", "url": place.work.as_uri(), "path": str(place.work)}],
            "executors": [
                {
                    "image": image,
                    "command": ["/bin/sh", "-c", LAUNCHER, "sh", script],
                    "workdir": self.host_work_dir(),
                    "env": {name: str(value) for name, value in self.runtime_values.get("env", {}).items()},
                    "stdout": self.host_stdout_txt(),
                    "stderr": self.host_stderr_txt(),
                }
            ],
        }

    def _resources(self, place: Place) -> JsonObject:
        values = self.runtime_values
        resources: JsonObject = {"cpu_cores": values.get("cpu", 1)}
        if "memory_reservation" in values:
            resources["ram_gb"] = values["memory_reservation"] / 10**9
        if values.get("disk_gb"):
            resources["disk_gb"] = values["disk_gb"]
        if place.network_parameter and values.get("docker_network"):
            resources["backend_parameters"] = {place.network_parameter: "true"}
        return resources


def disk_gb(asked: object) -> float | None:
    """Read ``runtime.disks`` (WDL 1.1: a number of GiB, "10 GiB", "/mnt 10 GiB", "local-disk 10 SSD", or a list).

    Return GB (10**9 bytes), all disks together; None where nothing is asked for.
    """
    parts = [part for item in (asked if isinstance(asked, list) else [asked]) for part in str(item).split(",")]
    found = 0.0
    for part in parts:
        number = re.search(r"(?:^|\s)(\d+(?:\.\d+)?)\s*([KMGT]i?B)?\b", part.strip(), re.IGNORECASE)
        if number:
            found += float(number[1]) * _DISK_GB.get((number[2] or "GiB").lower(), 1.0)
    return found or None


def _link(source: str, target: str) -> str:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy(source, target)
    return target
