"""Run one Nextflow script in the current folder and end: the program inside the engine's sandbox.

::

    python -m wes_service.engines.nextflow_child --request REQUEST.json --outcome OUTCOME.json
        --tes unix:///path/of/socket --token-file FILE --run-id ID --program NEXTFLOW [--home NXF_HOME]

``REQUEST.json`` has ``workflow_url`` (a path below the current folder), ``workflow_params`` (the script's ``params``)
and ``workflow_engine_parameters``. Nextflow's own words go to stdout, and what weft has to say to stderr.
``OUTCOME.json`` becomes ``{"files": [relative path, …]}``: what the run left in its folder beside Nextflow's own
files. Exit code 0 when the workflow succeeded, 143 after SIGTERM, else Nextflow's own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wes_service.engines.nextflow_parameters import WITHOUT_EFFECT, read_parameters
from wes_service.engines.nextflow_queue import Commands, Queue
from wes_service.engines.nextflow_task import CONFIG
from wes_service.engines.parameters import OUTPUT_URL
from wes_service.engines.program import (
    Cancelled,
    Place,
    Request,
    exit_code_of,
    find_workflow,
    hear_the_end,
    made,
    options_parser,
    place_of,
    read_request,
    write_outcome,
)
from wes_service.engines.store import check_store, store

#: Below the run's folder: Nextflow's cache and log, and the folders of its tasks. Hidden names are not listed by WES.
SCRATCH = ".nextflow"
TASKS = ".nextflow-work"
#: Most tasks at once where a run sets no limit of its own.
MOST_TASKS = 1000
#: How many lines of Nextflow's are told again where it fails.
LAST_WORDS = 40
#: The Java machine reserves addresses by the size of the host; an engine has an address space of a few GB.
JAVA_OPTIONS = (
    "-Xms64m -Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
    "-XX:CompressedClassSpaceSize=256m -XX:ReservedCodeCacheSize=128m"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Which Nextflow runs, and where what it would otherwise download lies."""

    program: Path
    home: Path | None = None

    def environment(self, commands: Path, scratch: Path) -> dict[str, str]:
        """Give the variables of a run that may fetch nothing."""
        return {
            **os.environ,
            **self._places(),
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "NXF_HOME": str(made(scratch / "home")),
            "NXF_OFFLINE": "true",
            "NXF_DISABLE_CHECK_LATEST": "true",
            "NXF_ANSI_LOG": "false",
            "NXF_DEFAULT_DSL": "2",
            "NXF_OPTS": JAVA_OPTIONS,
            "MALLOC_ARENA_MAX": "2",
        }

    def _places(self) -> dict[str, str]:
        """Name the folders that are there; Nextflow would make one that is not."""
        if self.home is None:
            return {}
        places = {"NXF_DIST": self.home / "framework", "NXF_PLUGINS_DIR": self.home / "plugins"}
        return {name: str(path) for name, path in places.items() if path.is_dir()}


def main(argv: Sequence[str]) -> int:
    """Run a script as ``argv`` (without the program's name) says; return its exit code."""
    parser = options_parser("nextflow_child")
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args(argv)
    hear_the_end()
    work = Path.cwd()
    before = set(_files(work))

    def published() -> list[str]:
        found = sorted(set(_files(work)) - before)
        keep(work, found)
        return found

    try:
        return exit_code_of(partial(_run_and_store, options, published))
    finally:
        write_outcome(options.outcome, {"files": published()})


def _run_and_store(options: argparse.Namespace, published: Callable[[], list[str]]) -> int:
    request = read_request(options.request, read_parameters)
    place, target = place_of(options, request.parameters.get("jobs")), request.parameters.get(OUTPUT_URL)
    check_store(target, place)
    code = run(request, place, Installation(program=options.program, home=options.home))
    if code == 0:
        store(target, published(), place)
    return code


def run(request: Request, place: Place, installation: Installation) -> int:
    """Run the script to its end; a run that is cancelled leaves neither Nextflow nor a task behind."""
    script = find_workflow(request.workflow_url, place.work)
    for name in sorted(WITHOUT_EFFECT & set(request.parameters)):
        print(f"engine parameter {name} has no effect: weft decides where files and tasks go", file=sys.stderr)
    scratch = made(place.work / SCRATCH)
    (scratch / "weft.config").write_text(CONFIG % {"jobs": place.jobs or MOST_TASKS})
    (scratch / "params.json").write_text(json.dumps(request.params))
    queue = Queue(place, lambda text: print(text, file=sys.stderr))
    try:
        with Commands(queue) as commands:
            words = [str(installation.program), *arguments(script, scratch, place.work, request.parameters)]
            return _watched(words, installation.environment(commands, scratch))
    except Cancelled:
        queue.cancel_all()
        raise
    finally:
        queue.stop()


def arguments(script: Path, scratch: Path, work: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Give Nextflow's words (https://www.nextflow.io/docs/latest/reference/cli.html); weft's configuration wins."""
    configs = [work / name for name in parameters.get("config", ())]
    words = ["-log", str(scratch / "nextflow.log")]
    words += [word for path in (*configs, scratch / "weft.config") for word in ("-c", str(path))]
    words += ["run", str(script), "-work-dir", str(work / TASKS), "-params-file", str(scratch / "params.json")]
    words += ["-ansi-log", "false"]
    for name in ("profile", "entry"):
        if parameters.get(name):
            words += [f"-{name}", parameters[name]]
    return [*words, "-stub-run"] if parameters.get("stub-run") else words


def _watched(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run Nextflow; its words go to stdout, and where it fails the last of them to stderr, too."""
    last: deque[str] = deque(maxlen=LAST_WORDS)
    with subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                last.append(line)
            code = process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        print("".join(last), end="", file=sys.stderr)
    return code


def _files(work: Path) -> Iterator[str]:
    """Find the files of the run's folder, without hidden ones."""
    for folder, names, files in os.walk(work):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield str((Path(folder) / name).relative_to(work))


def keep(work: Path, published: Sequence[str]) -> None:
    """Put the file itself where Nextflow published a link to one of a task's folder."""
    for name in published:
        path = work / name
        if path.is_symlink() and path.resolve().is_file() and path.resolve().is_relative_to((work / TASKS).resolve()):
            temporary = path.with_name(f".{path.name}.weft")
            try:
                os.link(path.resolve(), temporary)
            except OSError:
                shutil.copy2(path.resolve(), temporary)
            temporary.replace(path)


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
