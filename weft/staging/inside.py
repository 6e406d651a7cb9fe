"""The staging program: what runs before and after a task's steps in a job that shares no file system with weft.

``python -m weft.staging.inside in`` fetches the task's plan and its inputs, and lays out the files by which the steps
run; ``out`` stores the outputs and says what became of the task. Between them each step runs in a container of its
own image. ``WEFT_JOB`` names the place of the plan (``weft.staging.handover``); the settings of staging come from the
environment, credentials from the job's role.

In these containers a folder of the task, such as ``/data``, is mounted at ``/job/mounts/data``, and what steps and
staging share at ``/weft``.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import orjson

from weft.config import Settings, load
from weft.errors import StagingFailed, WeftError
from weft.folders import AttemptFolder
from weft.model import StepResult, StoredOutput
from weft.staging.collect import CollectFailed, collect
from weft.staging.handover import (
    CLAIM,
    LONGEST_LOG_INSIDE,
    OUTCOME,
    PLAN,
    JobPlan,
    Outcome,
    StepLog,
    read_plan,
    write_outcome,
)
from weft.staging.plan import plan
from weft.staging.s3_objects import Objects
from weft.staging.stagers import installed
from weft.staging.stepfiles import fragment
from weft.staging.transfer import prepare

#: Exit code of stage-in where another native job of the same key was first, and where staging failed.
TAKEN, FAILED = 75, 74
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
_RUNNER = Path(__file__).with_name("step_runner.sh")


class Places:
    """Where things are in the staging containers; tests give another root."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Nothing is made."""
        self.shared = root / "weft"
        self.attempt = AttemptFolder(root / "job")

    @property
    def staged(self) -> Path:
        """Its presence opens the gate of the first step."""
        return self.shared / "staged"

    @property
    def note(self) -> Path:
        """What stage-in tells stage-out."""
        return self.shared / "note.json"

    def state(self, step: int) -> Path:
        """Return the folder of one step's evidence."""
        return self.shared / "state" / str(step)


def stage_in(settings: Settings, objects: Objects, places: Places, native_job: str, *, busybox: Path) -> int:
    """Claim the plan, bring the inputs, and open the gate; returns the exit code."""
    if not _claim(objects, native_job):
        _say("another job took this plan first; this one runs nothing")
        return TAKEN
    job = _plan(objects)
    _lay_out(job, places, busybox)
    note: dict[str, object] = {}
    try:
        done = prepare(
            job.task,
            places.attempt,
            installed(settings),
            uid=job.uid,
            gid=job.gid,
            in_place=False,
            mounted=True,
        )
    except WeftError as error:
        note["failure"] = error.message
        _say(error.message)
    else:
        note |= {"messages": done.messages, "types": done.types}
    places.note.write_bytes(orjson.dumps(note))
    if "failure" in note:
        return FAILED
    places.staged.touch()
    return 0


def stage_out(settings: Settings, objects: Objects, places: Places, native_job: str) -> int:
    """Store the outputs and the outcome; returns 0 if all steps ended well and all outputs are stored."""
    if not places.note.exists():
        _say("nothing was staged in")
        return FAILED
    note = orjson.loads(places.note.read_bytes())
    job = _plan(objects)
    steps = tuple(_results(job, places))
    well = len(steps) == len(job.task.steps) and all(
        step.exit_code == 0 or (step.exit_code is not None and asked.ignore_error)
        for step, asked in zip(steps, job.task.steps, strict=True)
    )
    failure = note.get("failure")
    outputs: tuple[StoredOutput, ...] = ()
    messages = list(note.get("messages", ()))
    types = {"inputs": note.get("types", {}), "outputs": {}}
    if failure is None:
        mounts = plan(job.task, places.attempt).mounts
        try:
            kept = collect(job.task, mounts, installed(settings), best_effort=not well)
        except CollectFailed as error:
            failure, kept = error.message, error.collected
        outputs, types["outputs"] = kept.stored, dict(kept.types)
        messages += kept.messages
    logs = tuple(_log(objects, job, places, step, stream) for step in range(len(steps)) for stream in _streams())
    objects.put(
        OUTCOME,
        write_outcome(
            Outcome(
                native_job=native_job,
                failure=failure,
                steps=steps,
                outputs=outputs,
                messages=tuple(messages),
                logs=logs,
                types=types,
            )
        ),
    )
    return 0 if well and failure is None else 1


def _claim(objects: Objects, native_job: str) -> bool:
    """Tell whether this job is the one that runs; asked again by the same job, the answer is the same."""
    mine = orjson.dumps({"native_job": native_job})
    return objects.put_first(CLAIM, mine) or objects.get(CLAIM) == mine


def _plan(objects: Objects) -> JobPlan:
    text = objects.get(PLAN)
    if text is None:
        raise StagingFailed(f"there is no plan at {objects.url}")
    return read_plan(text)


def _lay_out(job: JobPlan, places: Places, busybox: Path) -> None:
    """Lay out what the steps run by: files of root that they can read, and a folder each for their evidence."""
    shared = places.shared
    shared.chmod(0o755)
    shutil.copyfile(busybox, shared / "busybox")
    (shared / "busybox").chmod(0o755)
    shutil.copyfile(_RUNNER, shared / "run")
    (shared / "steps").mkdir(mode=0o755)
    for index, step in enumerate(job.task.steps):
        file = shared / "steps" / str(index)
        file.write_text(fragment(step), encoding="utf-8")
        file.chmod(0o644)
        places.state(index).mkdir(mode=0o755, parents=True)
        os.chown(places.state(index), job.uid, job.gid)
    Path("/tmp").chmod(0o1777)  # noqa: S108  the steps' own, on a volume


def _results(job: JobPlan, places: Places) -> list[StepResult]:
    """Read the evidence of the steps that started."""
    found = []
    for index in range(len(job.task.steps)):
        started = _time(places.state(index) / "started")
        if started is None:
            break
        exit_file = places.state(index) / "exit"
        text = _tail(exit_file, 16).strip()
        found.append(
            StepResult(
                started_at=started,
                ended_at=_time(exit_file),
                exit_code=int(text) if text.isdecimal() else None,
            )
        )
    return found


def _streams() -> tuple[str, str]:
    return ("stdout", "stderr")


def _log(objects: Objects, job: JobPlan, places: Places, step: int, stream: str) -> StepLog:
    named = getattr(job.task.steps[step], stream)
    text = _tail(places.state(step) / stream, job.max_log_bytes) if named is None else _named(job, places, named)
    if len(text) <= LONGEST_LOG_INSIDE:
        return StepLog(step=step, stream=stream, text=text)
    name = f"logs/{step}.{stream}"
    objects.put(name, text.encode())
    return StepLog(step=step, stream=stream, stored_as=name)


def _named(job: JobPlan, places: Places, path: str) -> str:
    """Read the end of a stream that the step named a path for."""
    mount = next(
        (mount for mount in plan(job.task, places.attempt).mounts if path.startswith(f"{mount.target}/")), None
    )
    if mount is None:
        return ""
    return _tail(mount.source / Path(path).relative_to(mount.target), min(job.max_log_bytes, LONGEST_LOG_INSIDE))


def _time(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def _tail(path: Path, limit: int) -> str:
    """Read the end of what a step wrote: a regular file, never through a link that it may have put there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - limit))
        return file.read(limit).decode("utf-8", errors="replace")


def _say(message: str) -> None:
    sys.stderr.write(f"weft: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Run one of the two programs, by the environment of the job."""
    settings = load()
    objects = Objects(settings.s3, os.environ["WEFT_JOB"])
    native_job = os.environ.get("AWS_BATCH_JOB_ID", "")
    try:
        if list(arguments) == ["in"]:
            busybox = next(path for path in map(Path, _BUSYBOX) if path.exists())
            return stage_in(settings, objects, Places(), native_job, busybox=busybox)
        return stage_out(settings, objects, Places(), native_job)
    except WeftError as error:
        _say(error.message)
    except Exception:
        _say(traceback.format_exc().strip())
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
