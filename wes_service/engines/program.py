"""What the programs inside the engines' sandboxes share: options, the end by SIGTERM, a task's birth and its obituary.

Standard library only: nothing of any engine is imported here.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from weft.errors import InvalidRequest
from wes_service.engines.task_watch import PATIENCE, Lister
from wes_service.engines.tes_client import JsonObject, TesClient, TesUnavailable

#: The exit code of an engine that was cancelled.
CANCELLED = 128 + signal.SIGTERM
#: How long a signal may go unheard, in seconds.
HEARING = 0.2
#: How much of a failed task's stderr is shown.
TAIL = 4000


class BadRequest(Exception):
    """The run cannot begin; the text is for its submitter."""


class Cancelled(KeyboardInterrupt):
    """SIGTERM arrived: the engine cancels its tasks and ends."""


class Tes(Lister, Protocol):
    """The part of ``TesClient`` that engines use."""

    def create(self, task: Mapping[str, Any], *, key: str) -> str:
        """Create a task, once a key; return its id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the tasks of a run go."""

    client: Tes
    run_id: str
    #: The run's folder, the same path for the engine and its tasks.
    work: Path
    #: For steps that name no image; None refuses them.
    default_image: str | None = None
    #: Most tasks at once.
    jobs: int | None = None
    #: Keys of ``backend_parameters`` that take a wall time in seconds and a wish for a network, where there are any.
    time_limit_parameter: str | None = None
    network_parameter: str | None = None
    #: Marks this engine's creates among those of the run's other attempts.
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def tags(self) -> dict[str, str]:
        """What marks the tasks of this run."""
        return {"run": self.run_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run asks for."""

    workflow_url: str
    #: ``workflow_params``, which each language calls by another name.
    params: JsonObject = field(default_factory=dict)
    #: The engine's parameters by their one name, with their values read.
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_request(path: Path, read_parameters: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Request:
    """Read what ``wes_service.engines.launch.engine_step`` wrote.

    :raises InvalidRequest: an engine parameter that is not allowed.
    """
    document = json.loads(path.read_bytes())
    return Request(
        workflow_url=document["workflow_url"],
        params=document.get("workflow_params") or {},
        parameters=read_parameters(document.get("workflow_engine_parameters") or {}),
    )


def exit_code_of(engine: Callable[[], int]) -> int:
    """Run an engine and return its exit code; where it cannot even begin, or is cancelled, say so on stderr."""
    try:
        return engine()
    except (BadRequest, InvalidRequest) as error:
        print(error, file=sys.stderr)
        return 1
    except Cancelled:
        print("Cancelled.", file=sys.stderr)
        return CANCELLED


def interrupt(signal_number: int, frame: types.FrameType | None) -> None:
    """Handle the first SIGTERM; the next ones find the end already under way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled


def hear_the_end() -> None:
    """Let SIGTERM raise ``Cancelled`` in the main thread, also where it comes just before that begins to wait.

    Python calls a handler between two of its own steps: a signal that arrives right before a wait is heard when the
    wait ends. So a timer interrupts every wait for a moment.
    """
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, HEARING, HEARING)


def read_options(program: str, argv: Sequence[str]) -> argparse.Namespace:
    """Read what ``wes_service.engines.launch.engine_step`` wrote."""
    return options_parser(program).parse_args(argv)


def options_parser(program: str) -> argparse.ArgumentParser:
    """Return the options that every engine's program takes."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--outcome", type=Path, required=True)
    parser.add_argument("--tes", required=True, help="unix:///path or http://host:port")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--default-image")
    parser.add_argument("--weft-image")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--apart", action="store_true", help="tasks do not see the run's folder")
    parser.add_argument("--time-limit-parameter")
    parser.add_argument("--network-parameter")
    return parser


def tes_client(options: argparse.Namespace) -> TesClient:
    """Return the client with the run's own token."""
    token = options.token_file.read_text().strip() if options.token_file else None
    return TesClient(options.tes, token)


def place_of(options: argparse.Namespace, jobs: int | None) -> Place:
    """Return where the tasks of this program's run go; the current folder is the run's."""
    return Place(
        client=tes_client(options),
        run_id=options.run_id,
        work=Path.cwd(),
        default_image=options.default_image,
        jobs=jobs,
        time_limit_parameter=options.time_limit_parameter,
        network_parameter=options.network_parameter,
    )


def write_outcome(path: Path, outcome: JsonObject) -> None:
    """Write the output object, all of it or nothing."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(outcome))
    temporary.replace(path)


def made(folder: Path) -> Path:
    """Make a folder where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fresh(folder: Path) -> Path:
    """Return a name like ``folder`` that nothing has yet: attachments or a resumed run may have been there before."""
    while folder.exists() or folder.is_symlink():
        folder = folder.with_name(f"{folder.name}_")
    return folder


def find_workflow(workflow_url: str, work: Path) -> Path:
    """Return the workflow's file; ``./Snakefile`` and ``Snakefile#fragment`` are the same as ``Snakefile``.

    :raises BadRequest: nothing of that name was attached; lists what was.
    """
    wanted = PurePosixPath(workflow_url.partition("#")[0])
    found = work / wanted
    if not wanted.is_absolute() and ".." not in wanted.parts and found.is_file():
        return found
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    attached = [name for name in names if not name.startswith((".weft/", ".snakemake/"))]
    raise BadRequest(
        f"workflow_url {workflow_url!r} is none of the attached files: "
        + (", ".join(attached[:50]) if attached else "nothing was attached")
    )


def create_patiently(client: Tes, task: Mapping[str, Any], *, key: str, say: Callable[[str], None]) -> str:
    """Create a task and return its id, and wait for a server that is away.

    :raises TesRefused: the server will never accept it.
    :raises TesUnavailable: the server was away for ``PATIENCE`` seconds.
    """
    give_up = time.monotonic() + PATIENCE
    pause = 0.1
    while True:
        try:
            return client.create(task, key=key)
        except TesUnavailable as error:
            if time.monotonic() > give_up:
                raise
            say(f"Waiting for TES: {error}")
            time.sleep(pause)
            pause = min(5.0, pause * 2)


def failed_step(logs: Sequence[Any]) -> JsonObject:
    """Return the step of the last attempt (``tesTaskLog``) that ended with an exit code other than 0, else {}."""
    steps = (logs[-1].get("logs") or ()) if logs else ()
    return next((step for step in reversed(steps) if step.get("exit_code")), {})


def explain(head: str, logs: Sequence[Any]) -> str:
    """Put into words why a task failed, from the last entry of its ``logs`` (``tesTaskLog``)."""
    if not logs:
        return f"{head}."
    failed = failed_step(logs)
    lines = [f"{head}, exit code {failed['exit_code']}." if failed else f"{head}."]
    lines += [str(line) for line in logs[-1].get("system_logs") or ()]
    for name in ("stderr", "stdout"):
        text = str(failed.get(name) or "").rstrip()[-TAIL:]
        if text:
            lines.append(f"Its {name}:\n{text}")
            break
    return "\n".join(lines)


class Rehearsal:
    """A TES for priming: every task is complete as soon as it is created."""

    def __init__(self, create: Callable[[], None]) -> None:
        """Take what a task of this TES does."""
        self._create = create

    def create(self, task: Mapping[str, Any], *, key: str) -> str:
        """Do it."""
        self._create()
        return "rehearsal"

    def get(self, task_id: str, *, view: str = "FULL") -> JsonObject:
        """Say that it is complete."""
        return {"id": task_id, "state": "COMPLETE"}

    def list(self, **_query: Any) -> tuple[list[JsonObject], None]:
        """Say that it is complete."""
        return [self.get("rehearsal")], None

    def cancel(self, task_id: str) -> None:
        """Nothing runs."""
