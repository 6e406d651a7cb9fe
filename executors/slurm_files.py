"""A job's own files, by which weft and the node understand one another without asking Slurm.

::

    control/               weft's own
      slurm.json           Notes: written before the submission, and again when Slurm has given the id
      cancelled            written before scancel; says "gone" when nothing runs any more
      slurm/               the account's, who runs the job
        job.json           the plan of the steps (``executors.supervisor``)
        slurm.claim        which Slurm job runs the steps, on which node; written once
        status.json        what became of the steps, by rename; ``over`` is the exit file
        slurm.log          what the job script itself complained of
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from executors import capture, lineage, slurm_node, supervisor
from executors.slurm_node import CLAIM, STATUS
from weft.folders import AttemptFolder

#: What a node needs to run a job, beside Python.
_NODE_MODULES = (capture, lineage, slurm_node, supervisor)
_SCRIPT = Path(__file__).with_name("slurm_job.sh")
_GONE = "gone"
_STEP_KEYS = {"started_at", "ended_at", "exit_code", "reason"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What weft knows of its submission; ``job_id`` is None while Slurm has not answered."""

    #: When it was submitted, in seconds since the epoch.
    at: float
    job_id: str | None = None
    #: Limits in words, for what is said when they are exceeded.
    memory: str = "the partition's own"
    time: str = "the partition's own"


@dataclass(slots=True)
class JobFiles:
    """The files of one attempt; what is asked for often is read again only when it has changed."""

    folder: Path
    _claim: dict[str, str] | None = None
    _status: _Cached = field(default_factory=lambda: _Cached())
    _notes: _Cached = field(default_factory=lambda: _Cached())

    @property
    def control(self) -> Path:
        """Weft's own folder."""
        return AttemptFolder(self.folder).control

    @property
    def node(self) -> Path:
        """The folder that the node writes in."""
        return self.control / "slurm"

    @property
    def log(self) -> Path:
        """What the job script complained of."""
        return self.node / "slurm.log"

    @property
    def claim(self) -> dict[str, str] | None:
        """``job_id`` and ``node`` of the Slurm job that runs the steps; None while none does."""
        if self._claim is None:
            document = _read(self.node / CLAIM)
            self._claim = document if document is not None and {"job_id", "node"} <= document.keys() else None
        return self._claim

    @property
    def status(self) -> dict[str, Any] | None:
        """What the supervisor wrote last; None before its first word."""
        document = self._status.read(self.node / STATUS)
        return document if document is not None and _is_status(document) else None

    @property
    def notes(self) -> Notes | None:
        """What weft wrote of its submission; None before it, and after the job was forgotten."""
        document = self._notes.read(self.control / "slurm.json")
        return None if document is None else Notes(**document)

    def write_notes(self, notes: Notes) -> None:
        """Write them, whole or not at all."""
        temporary = self.control / ".slurm.json"
        temporary.write_text(json.dumps(asdict(notes)), encoding="utf-8")
        temporary.replace(self.control / "slurm.json")

    @property
    def is_cancelled(self) -> bool:
        """Somebody asked for the end of this job."""
        return (self.control / "cancelled").exists()

    @property
    def is_gone(self) -> bool:
        """It was cancelled, and nothing runs any more."""
        try:
            return (self.control / "cancelled").read_text(encoding="utf-8") == _GONE
        except OSError:
            return False

    def mark_cancelled(self, *, gone: bool = False) -> None:
        """Note that the end was asked for, or that it has come."""
        (self.control / "cancelled").write_text(_GONE if gone else "", encoding="utf-8")

    def make(self, owner: tuple[int, int]) -> None:
        """Make the folders that the node writes in, for the account that jobs run as."""
        for path, mode in ((self.control, None), (AttemptFolder(self.folder).logs, None), (self.node, 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            if mode is not None:
                path.chmod(mode)
        if os.geteuid() == 0:
            for path in (AttemptFolder(self.folder).logs, self.node):
                os.chown(path, *owner)

    def write_plan(self, plan: object, owner: tuple[int, int]) -> None:
        """Write ``job.json``; only the account reads it, because a step's environment may hold secrets."""
        temporary = self.control / ".job.json"
        temporary.write_text(json.dumps(plan), encoding="utf-8")
        temporary.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(temporary, *owner)
        temporary.replace(self.node / "job.json")

    def remove(self) -> None:
        """Remove all of it, weft's notes first: without them the job is unknown."""
        (self.control / "slurm.json").unlink(missing_ok=True)
        shutil.rmtree(self.control, ignore_errors=True)

    def complaint(self, size: int = 500) -> str:
        """Return the end of what the job script complained of, in one line."""
        try:
            descriptor = os.open(self.log, os.O_RDONLY | os.O_NOFOLLOW)  # the folder is not weft's own
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            return " ".join(file.read()[-size:].decode(errors="replace").split())


@dataclass(slots=True)
class _Cached:
    """A JSON file that is only ever replaced whole, read again only when it was."""

    _document: dict[str, Any] | None = None
    _stamp: tuple[int, int] | None = None

    def read(self, path: Path) -> dict[str, Any] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns)
        if stamp != self._stamp:
            self._document, self._stamp = _read(path), stamp
        return self._document


def _is_status(document: dict[str, Any]) -> bool:
    """Tell whether this is what a supervisor writes: the account could put anything in its place."""
    steps = document.get("steps")
    return (
        {"over", "messages", "metadata"} <= document.keys()
        and isinstance(steps, list)
        and all(isinstance(step, dict) and step.keys() == _STEP_KEYS for step in steps)
        and set(document.get("failure", ())) <= {"reason", "retry"}
    )


def install(data: Path) -> Path:
    """Put what a node needs below the data folder, which every node sees; the folder is named by its content."""
    sources = [Path(str(module.__file__)) for module in _NODE_MODULES]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = data / "slurm" / digest
    if not target.is_dir():
        building = data / "slurm" / f".{digest}.{os.getpid()}"
        (building / "executors").mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copy(path, building / "executors" / path.name)
        (building / "executors" / "__init__.py").touch()
        compileall.compile_dir(building, quiet=2)
        for path in (data / "slurm", building, *building.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            building.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(building)
    return target


def script() -> str:
    """Return the path of the job script; sbatch reads it here and now."""
    return str(_SCRIPT)


def _read(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file that is only ever replaced whole; None when it is not there or was cut off."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, json.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None
