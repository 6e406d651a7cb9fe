"""Submissions for an executor that moves files by itself: a mount of the suite becomes inputs, outputs and volumes.

What lies in a mount's folder goes along as content; what the steps left there comes back by way of S3 when the job
is seen to have ended. What the suite does by a live folder, the tests of this executor do in the running container.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker

from tests.contract.suite import PATIENCE, Bench
from tests.testbeds.batch_site import BUCKET, BatchSite
from weft.model import FileType, Handle, Input, Mount, Output, Resources, Step, Submission, Task, task_to_json
from weft.ports import Executor, Observation, Phase


class BatchBench(Bench):
    """Makes handed-over tasks."""

    def __init__(self, data: Path, image: str, site: BatchSite) -> None:
        super().__init__(data, image, user=None)
        self.site = site
        self._places = itertools.count(1)
        self._volumes: dict[str, list[tuple[Mount, str]]] = {}

    def submission(
        self, *steps: Step, mounts: tuple[Mount, ...] = (), resources: Resources | None = None
    ) -> Submission:
        work = super().submission(*steps, resources=resources)
        places = [(mount, f"volumes/{next(self._places)}") for mount in mounts if mount.source.is_dir()]
        self._volumes[work.key] = [(mount, key) for mount, key in places if not mount.read_only]
        outputs = [
            Output(path=mount.target, url=f"s3://{BUCKET}/{key}", type=FileType.DIRECTORY)
            for mount, key in self._volumes[work.key]
        ]
        task = Task(steps=steps, inputs=tuple(_inputs(mounts)), outputs=tuple(outputs))
        return replace(work, document=task_to_json(task))

    def bring_back(self, key: str) -> None:
        """Fetch what the steps left in the mounts."""
        for mount, prefix in self._volumes.get(key, ()):
            for found in self.site.keys(f"{prefix}/"):
                target = mount.source / found.removeprefix(f"{prefix}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.site.read(found))

    def container(self, handle: Handle, name: str = "step-0") -> Any:
        """Return a running container of a job."""
        labels = [f"weft-batch-job={handle.native_id.partition(':')[0]}", f"weft-batch-container={name}"]
        api = docker.DockerClient(self.site.docker_host)
        deadline = time.monotonic() + PATIENCE
        while not (found := api.containers.list(filters={"label": labels})):
            assert time.monotonic() < deadline, f"{name} of {handle} never ran"
            time.sleep(0.02)
        return found[0]

    def wait_inside(self, handle: Handle, path: str) -> None:
        """Return when a file is there for the first step."""
        container = self.container(handle)
        deadline = time.monotonic() + PATIENCE
        while container.exec_run(["/weft/busybox", "test", "-e", path]).exit_code != 0:
            assert time.monotonic() < deadline, f"{path} was never made"
            time.sleep(0.02)

    def touch_inside(self, handle: Handle, path: str) -> None:
        """Make a file that the first step sees."""
        with suppress(docker.errors.NotFound):  # the step that waited for the file has ended, and its container with it
            assert self.container(handle).exec_run(["/weft/busybox", "touch", path]).exit_code == 0

    def has_log(self, stream: str) -> bool:
        """Tell whether a container of this log stream was started."""
        logs = self.site.client("logs")
        found = logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix=stream)
        return bool(found["logStreams"])

    def containers(self, handle: Handle) -> list[str]:
        """Return what is left of a job's containers."""
        label = f"weft-batch-job={handle.native_id.partition(':')[0]}"
        api = docker.DockerClient(self.site.docker_host)
        return [str(one.name) for one in api.containers.list(all=True, filters={"label": label})]


class BringsBack:
    """An executor, with the mounts' folders up to date when a job is seen to have ended."""

    def __init__(self, executor: Executor, test: Any) -> None:
        self._executor, self._test = executor, test

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        seen = self._executor.observe(handles)
        for handle, observation in seen.items():
            if observation.phase is Phase.ENDED:
                self._test.made.bring_back(handle.native_id.partition(":")[2])
        return seen


def _inputs(mounts: Sequence[Mount]) -> list[Input]:
    found = []
    for mount in mounts:
        files = [mount.source] if mount.source.is_file() else sorted(mount.source.rglob("*"))
        for file in files:
            path = mount.target if file == mount.source else f"{mount.target}/{file.relative_to(mount.source)}"
            found.append(Input(path=path, content=file.read_text()))
    return found
