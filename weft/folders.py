"""Where a job's files lie: one layout, known to staging, to every executor and to the services.

::

    DATA/
      weft.db                    the database
      engine/tes.sock            the way in for engines (a Unix socket of the same API)
      workers/NAME               locked by the worker of this name while it lives: ``weft.presence``
      staged/ID-1                empty: this attempt may have mounts, or something native
      jobs/ID/                   one job
        work/                    a run's working folder: attachments, and all that its tasks write
        1/                       the first attempt
          mounts/<container path>  what the steps see, except what is mounted in place
          logs/0.stdout 0.stderr   what step 0 wrote, unless the step named a path for it
          submission.json          what the executor was given: ``weft.submissions``
          control/                 the executor's own notes (process id, exit file, …)
          engine/                  a run's engine writes its output object here
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from weft.model import Mount, Step


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The folder of one attempt; nothing is made by looking."""

    root: Path

    @property
    def mounts(self) -> Path:
        """What the steps see, each container directory at its own path below this one."""
        return self.root / "mounts"

    @property
    def logs(self) -> Path:
        """Captured stdout and stderr, ``N.stdout`` and ``N.stderr`` for step N."""
        return self.root / "logs"

    @property
    def engine(self) -> Path:
        """Where a run's engine keeps its request and writes its output object."""
        return self.root / "engine"

    @property
    def control(self) -> Path:
        """The executor's own notes."""
        return self.root / "control"


@dataclass(frozen=True, slots=True)
class Folders:
    """The job folders below one data folder."""

    data: Path

    def job(self, job_id: str) -> Path:
        """Return the folder of one job."""
        return self.data / "jobs" / job_id

    def work(self, job_id: str) -> Path:
        """Return a run's working folder."""
        return self.job(job_id) / "work"

    def attempt(self, job_id: str, number: int) -> AttemptFolder:
        """Return the folder of one attempt."""
        return AttemptFolder(self.job(job_id) / str(number))

    def mark(self, key: str) -> None:
        """Note that the attempt of this key may have mounts from now on, so that nobody has to search for them."""
        staged = self.data / "staged"
        staged.mkdir(mode=0o700, parents=True, exist_ok=True)
        (staged / key).touch()

    def marked(self) -> list[str]:
        """Return the keys of the attempts that may have mounts; in a calm moment those of the jobs that run."""
        staged = self.data / "staged"
        return sorted(path.name for path in staged.iterdir()) if staged.is_dir() else []

    def clear(self, key: str) -> None:
        """Remove what the steps of this attempt saw, then the note. May be called twice."""
        job_id, _, number = key.rpartition("-")
        shutil.rmtree(self.attempt(job_id, int(number)).mounts, ignore_errors=True)
        (self.data / "staged" / key).unlink(missing_ok=True)


def host_path(mounts: Sequence[Mount], container_path: str) -> Path | None:
    """Translate a container path to the host by the deepest mount above it; None when no mount covers it."""
    wanted = PurePosixPath(container_path)
    best: Mount | None = None
    for mount in mounts:
        covers = wanted.is_relative_to(mount.target)
        if covers and (best is None or len(PurePosixPath(mount.target).parts) > len(PurePosixPath(best.target).parts)):
            best = mount
    if best is None:
        return None
    return best.source / wanted.relative_to(best.target)


def log_path(folder: Path, mounts: Sequence[Mount], steps: Sequence[Step], index: int, stream: str) -> Path:
    """Return the host file that receives ``stream`` ("stdout" or "stderr") of step ``index``.

    Where the step names a path for it, that is the file itself, so a later step may read it; else a file in
    ``logs/``. Every executor writes there, and the worker reads the live tails from there.
    """
    named = getattr(steps[index], stream)
    if named is not None:
        mounted = host_path(mounts, named)
        if mounted is not None:
            return mounted
    return AttemptFolder(folder).logs / f"{index}.{stream}"
