"""A Docker executor with a data folder of its own: build submissions, run them to their end, restart."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from executors.docker import DockerExecutor, create
from executors.docker_containers import container_name, owner_of
from weft.config import Settings
from weft.folders import AttemptFolder
from weft.model import Handle, Kind, Mount, Step, Submission
from weft.ports import Observation, Phase
from weft.sections.backends import DockerSettings

UID = 600_100_007
WITHIN = 60.0


def a_step(script: str, **changes: Any) -> Step:
    """Return a step that runs ``script`` with busybox's shell."""
    return Step(**{"image": "busybox", "command": ("sh", "-c", script), **changes})


@dataclass
class Ended:
    """What is known of a job after its end."""

    seen: Observation
    folder: Path

    @property
    def exit_codes(self) -> list[int | None]:
        """One a step."""
        return [step.exit_code for step in self.seen.steps]

    def stdout(self, index: int = 0) -> str:
        """Return what step ``index`` wrote."""
        return (AttemptFolder(self.folder).logs / f"{index}.stdout").read_text()

    def stderr(self, index: int = 0) -> str:
        """Return what step ``index`` complained of."""
        return (AttemptFolder(self.folder).logs / f"{index}.stderr").read_text()


class DockerSite:
    """One installation on one engine."""

    def __init__(self, host: str, data: Path, **settings: Any) -> None:
        self.host = host
        self.data = data
        docker_settings = DockerSettings(host=host, **settings.pop("docker", {}))
        self.settings = Settings(data=data, docker=docker_settings, **settings)
        self._news = threading.Condition()
        self._wakes = 0
        self.api = docker.APIClient(host, version="auto")
        self.executor = self._started()

    def _started(self) -> DockerExecutor:
        executor = create(self.settings)
        executor.start(self._wake)
        return executor

    def _wake(self, _handle: Handle) -> None:
        with self._news:
            self._wakes += 1
            self._news.notify_all()

    def restart(self) -> None:
        """Replace the executor by one that remembers nothing."""
        self.executor.stop()
        self.executor = self._started()

    def close(self) -> None:
        """Remove all containers of this installation and stop."""
        for _key, handle in self.executor.list():
            self.executor.cancel(handle)
            self.executor.forget(handle)
        self.executor.stop()
        self.api.close()

    def submission(self, *steps: Step | str, **changes: Any) -> Submission:
        """Return a job with a writable mount at ``/data``."""
        job_id = uuid.uuid4().hex
        folder = self.data / "jobs" / job_id / "1"
        shared = folder / "mounts" / "data"
        shared.mkdir(parents=True)
        shared.chmod(0o777)
        fields: dict[str, Any] = {
            "key": f"{job_id}-1",
            "job_id": job_id,
            "attempt": 1,
            "kind": Kind.TASK,
            "steps": tuple(a_step(step) if isinstance(step, str) else step for step in steps),
            "folder": folder,
            "mounts": (Mount(source=shared, target="/data"),),
            "uid": UID,
            "gid": UID,
        }
        return Submission(**{**fields, **changes})

    def run(self, *steps: Step | str, **changes: Any) -> Ended:
        """Run a job to its end and forget it."""
        work = self.submission(*steps, **changes)
        handle = self.executor.submit(work)
        seen = self.until(handle, lambda seen: seen.phase is Phase.ENDED)
        self.executor.forget(handle)
        return Ended(seen, work.folder)

    def until(self, handle: Handle, wanted: Callable[[Observation], bool]) -> Observation:
        """Wait for the executor's wake-ups until an observation is as ``wanted``."""
        deadline = time.monotonic() + WITHIN
        while True:
            before = self._wakes
            seen = self.executor.observe([handle])[handle]
            if wanted(seen):
                return seen
            with self._news:
                if not self._news.wait_for(lambda: self._wakes != before, deadline - time.monotonic()):  # noqa: B023
                    raise AssertionError(f"not within {WITHIN:g} s; last seen: {seen}")

    def ended(self, handle: Handle) -> Observation:
        """Wait until the job has ended."""
        return self.until(handle, lambda seen: seen.phase is Phase.ENDED)

    def container(self, work: Submission, index: int = 0) -> str:
        """Return the name of a step's container."""
        return container_name(owner_of(self.data), work.key, index)

    def containers(self) -> list[str]:
        """Return the names of all containers of this installation, whatever their state."""
        everything = self.api.containers(all=True, filters={"label": "weft.folder"})
        mine = [one for one in everything if Path(one["Labels"]["weft.folder"]).is_relative_to(self.data)]
        return sorted(name.strip("/") for one in mine for name in one["Names"])


def eventually(path: Path, text: str) -> str:
    """Wait until the file at ``path`` holds ``text``; return all of it."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        if path.exists() and text in (content := path.read_text()):
            return content
        threading.Event().wait(0.01)
    raise AssertionError(f"{path} never held {text!r}")
