"""Run one CWL document in the current folder and end: the program inside the engine's sandbox.

::

    python -m wes_service.engines.cwl_child --request REQUEST.json --outcome OUTCOME.json
        --tes unix:///path/of/socket --token-file FILE --run-id ID [--default-image I]

``REQUEST.json`` has ``workflow_url`` (a path below the current folder, with a fragment for a process in a packed
document), ``workflow_params`` (the job object) and ``workflow_engine_parameters``. The log goes to stderr while it
happens. ``OUTCOME.json`` becomes the CWL output object; the location of a file in it is relative to the folder.
Exit code 0 when the process succeeded, 143 after SIGTERM, else another one.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cwltool.context import LoadingContext
from cwltool.loghandler import _logger, defaultStreamHandler
from cwltool.main import main as cwltool
from cwltool.resolver import resolve_local
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import DefaultFetcher

from wes_service.engines.cwl_parameters import WITHOUT_EFFECT, command_line, read_parameters
from wes_service.engines.cwl_reuse import Finished
from wes_service.engines.cwl_task import locations, remote_locations, with_fetched, with_relative_paths
from wes_service.engines.cwl_tes import TaskExecutor, Tasks, Tools
from wes_service.engines.fetch import fetch, is_remote
from wes_service.engines.imports import Imports
from wes_service.engines.parameters import OUTPUT_URL
from wes_service.engines.program import (
    BadRequest,
    Place,
    Rehearsal,
    Request,
    exit_code_of,
    find_workflow,
    fresh,
    hear_the_end,
    made,
    place_of,
    read_options,
    read_request,
    write_outcome,
)
from wes_service.engines.store import check_store, store
from wes_service.engines.tes_client import JsonObject

#: Below the run's folder: where jobs run, and where the outputs come to lie. Hidden names are not listed by WES.
SCRATCH = ".cwl"
JOBS = "jobs"
OUTPUTS = "results"


def main(argv: Sequence[str]) -> int:
    """Run a document as ``argv`` (without the program's name) says; return its exit code."""
    options = read_options("cwl_child", argv)
    hear_the_end()
    sys.argv = ["cwltool"]
    outcome: JsonObject = {}
    try:
        return exit_code_of(partial(_run_and_store, options, outcome))
    finally:
        write_outcome(options.outcome, outcome)


def _run_and_store(options: argparse.Namespace, outcome: JsonObject) -> int:
    request = read_request(options.request, read_parameters)
    place, target = place_of(options, request.parameters.get("jobs")), request.parameters.get(OUTPUT_URL)
    check_store(target, place)
    code = run(request, place, outcome)
    if code == 0:
        store(target, locations(outcome), place)
    return code


def run(request: Request, place: Place, outcome: JsonObject) -> int:
    """Run the process; put its output object into ``outcome``, also when it fails half way."""
    workflow = find_workflow(request.workflow_url, place.work)
    fragment = request.workflow_url.partition("#")[2]
    for name in sorted(WITHOUT_EFFECT & set(request.parameters)):
        print(f"engine parameter {name} has no effect: weft decides where files and tasks go", file=sys.stderr)
    scratch = made(place.work / SCRATCH)
    fetched = fetch(remote_locations(request.params), place, scratch / "fetched")
    job = with_fetched(request.params, {url: path.as_uri() for url, path in fetched.items()})
    printed = io.StringIO()
    code = _cwltool(f"{workflow}#{fragment}" if fragment else str(workflow), job, request.parameters, place, printed)
    if printed.getvalue().strip():
        outcome.update(with_relative_paths(json.loads(printed.getvalue()), str(place.work)))
    shutil.rmtree(scratch if code == 0 else scratch / "tmp", ignore_errors=True)
    return code


def _cwltool(url: str, job: JsonObject, parameters: Mapping[str, Any], place: Place, printed: io.StringIO) -> int:
    """Call cwltool's own command line, with tools and an executor of our own."""
    scratch = place.work / SCRATCH
    tasks = Tasks(place, Finished(place.work, scratch / "finished"))
    loading = LoadingContext(
        {
            "construct_tool_object": Tools(tasks).make,
            "resolver": resolve_local,
            "fetcher_constructor": partial(Documents, Imports(place, scratch / "imports")),
            "skip_schemas": True,
            "strict": not parameters.get("non-strict", False),
            "relax_path_checks": parameters.get("relax-path-checks", False),
            "debug": parameters.get("debug", False),
        }
    )
    said = _Said(sys.stderr)
    arguments = [
        *("--no-container", "--disable-color", "--skip-schemas"),
        "--leave-tmpdir",
        *("--outdir", str(fresh(place.work / OUTPUTS))),
        *("--tmpdir-prefix", str(scratch / "tmp" / "t")),
        *("--tmp-outdir-prefix", str(scratch / JOBS / "j")),
        *command_line(parameters),
        *(url, "-"),
    ]
    code = int(
        cwltool(
            arguments,
            stdin=io.StringIO(json.dumps(job)),
            stdout=printed,
            stderr=sys.stderr,
            logger_handler=said,
            executor=TaskExecutor(tasks),
            loadingContext=loading,
        )
    )
    if said.node_is_missing:
        print("the workflow has JavaScript expressions, and node is not installed here", file=sys.stderr)
    return code


class Documents(DefaultFetcher):  # type: ignore[misc]
    """Reads the documents of a workflow; those of other places are fetched by weft."""

    def __init__(self, imports: Imports, cache: Any, session: object) -> None:
        """Take no session: nothing is fetched here."""
        super().__init__(cache, None)
        self._imports = imports

    def fetch_text(self, url: str, content_types: list[str] | None = None) -> str:
        """Return a document.

        :raises ValidationException: it cannot be had.
        """
        if not is_remote(url):
            return str(super().fetch_text(url, content_types))
        try:
            return self._imports.text(url)
        except (BadRequest, UnicodeDecodeError) as error:
            raise ValidationException(f"Error fetching {url}: {error}") from error

    def check_exists(self, url: str) -> bool:
        """Tell whether there is such a document; one of another place is believed until it is needed."""
        return is_remote(url) or bool(super().check_exists(url))


class _Said(logging.StreamHandler[Any]):
    """Writes cwltool's log, and notices what needs a plainer word."""

    node_is_missing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the engine for JavaScript offers a container, which weft's sandbox has not."""
        self.node_is_missing |= "docker run node" in record.getMessage()
        super().emit(record)


# -- the primed parent -----------------------------------------------------------------------------------------------

_PRIMER = """\
cwlVersion: {version}
class: CommandLineTool
baseCommand: ["true"]
inputs: {{file: {{type: File, inputBinding: {{}}}}}}
stdout: out
outputs: {{out: stdout}}
"""


def prime() -> None:
    """Run a tool of each version of the language, so that a fork of this process need not import or build anything.

    :raises RuntimeError: a thread is left, so that a fork would not be safe.
    """
    before = Path.cwd()
    sink = sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with Path(os.devnull).open("w") as sys.stderr:
                codes = [_rehearse(Path(folder), version) for version in ("v1.0", "v1.1", "v1.2")]
        finally:
            sys.stderr = sink
            os.chdir(before)
    _logger.removeHandler(defaultStreamHandler)
    if any(codes) or threading.active_count() != 1:
        raise RuntimeError(f"priming failed: exit codes {codes}, threads {threading.enumerate()}")


def _rehearse(work: Path, version: str) -> int:
    (work / f"{version}.cwl").write_text(_PRIMER.format(version=version))
    (work / "file").touch()

    def act() -> None:
        for folder in (work / SCRATCH / JOBS).iterdir():
            (folder / "out").touch()

    place = Place(client=Rehearsal(act), run_id="prime", work=work, default_image="none")
    job = {"file": {"class": "File", "path": "file"}}
    return run(Request(workflow_url=f"{version}.cwl", params=job), place, {})


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
