"""Run one WDL document in the current folder and end: the program inside the engine's sandbox.

::

    python -m wes_service.engines.wdl_child --request REQUEST.json --outcome OUTCOME.json
        --tes unix:///path/of/socket --token-file FILE --run-id ID [--default-image I]

``REQUEST.json`` has ``workflow_url`` (a path below the current folder), ``workflow_params`` (the inputs, with or
without the workflow's name before theirs) and ``workflow_engine_parameters``. The log goes to stderr while it
happens. ``OUTCOME.json`` becomes WDL's output object; files in it are paths relative to the folder. Exit code 0 when
the workflow succeeded, 143 after SIGTERM, else 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import WDL
from WDL import Error, Value
from WDL.CLI import print_error, runner_exe, validate_input_path
from WDL.runtime import config as wdl_config

from wes_service.engines.fetch import fetch, is_remote
from wes_service.engines.imports import Imports
from wes_service.engines.launch import is_inside
from wes_service.engines.parameters import OUTPUT_URL
from wes_service.engines.program import (
    CANCELLED,
    Place,
    Rehearsal,
    Request,
    exit_code_of,
    find_workflow,
    fresh,
    interrupt,
    made,
    place_of,
    read_options,
    read_request,
    write_outcome,
)
from wes_service.engines.store import check_store, store
from wes_service.engines.tes_client import JsonObject
from wes_service.engines.wdl_cache import move_cache
from wes_service.engines.wdl_parameters import WITHOUT_EFFECT, read_parameters
from wes_service.engines.wdl_tes import BACKEND, Backend, use

#: Below the run's folder: where tasks run, and where the outputs come to lie. Hidden names are not listed by WES.
SCRATCH = ".wdl"
OUTPUTS = "results"
CACHE = f"{SCRATCH}/calls"
#: Tasks at once where a run sets no limit of its own: miniwdl keeps a waiting thread for each.
TASKS = 64
_DOCUMENT_ERRORS = (Error.SyntaxError, Error.ImportError, Error.ValidationError, Error.MultipleValidationErrors)


def main(argv: Sequence[str]) -> int:
    """Run a document as ``argv`` (without the program's name) says; return its exit code."""
    options = read_options("wdl_child", argv)
    signal.signal(signal.SIGTERM, interrupt)  # miniwdl, which ends at a timer's signal too, looks up often enough
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
        store(target, _files(outcome, place.work), place)
    return code


def run(request: Request, place: Place, outcome: JsonObject) -> int:
    """Run the workflow; put its output object into ``outcome``."""
    workflow = find_workflow(request.workflow_url, place.work)
    for name in sorted(WITHOUT_EFFECT & set(request.parameters)):
        print(f"engine parameter {name} has no effect: weft decides where files and tasks go", file=sys.stderr)
    scratch = made(place.work / SCRATCH)
    if "resume-from" in request.parameters:
        move_cache(
            place.work / CACHE, place.work.parent.parent / request.parameters["resume-from"] / "work", place.work
        )
    with _logging(logging.INFO if request.parameters.get("verbose") else logging.WARNING):
        try:
            executable = _load(workflow, request.parameters, Imports(place, scratch / "imports"))
            inputs = _inputs(executable, request.params, place, scratch)
        except _DOCUMENT_ERRORS as error:
            print_error(error)
            return 1
        except (Error.InputError, FileNotFoundError) as error:
            print(f"check the inputs (workflow_params): {error}", file=sys.stderr)
            return 1
        code = _run(executable, inputs, request.parameters, place, outcome)
    if code == 0:
        shutil.rmtree(scratch, ignore_errors=True)
    return code


@contextmanager
def _logging(level: int) -> Iterator[None]:
    """Send miniwdl's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _load(workflow: Path, parameters: Mapping[str, Any], imports: Imports) -> Any:
    async def read(name: str, path: list[str], importer: Any) -> Any:
        url = imports.address(name, None if importer is None else importer.pos.abspath)
        if url is None:
            return await WDL.read_source_default(name, path, importer)
        return WDL.ReadSourceResult(source_text=imports.text(url), abspath=url)

    document = WDL.load(str(workflow), check_quant=not parameters.get("no-quant-check", False), read_source=read)
    return runner_exe(document, parameters.get("task") or None)


def _inputs(executable: Any, given: JsonObject, place: Place, scratch: Path) -> Any:
    """Check the inputs, fetch those that are elsewhere, and find the others in the run's folder.

    :raises Error.InputError: an unknown or missing one, of another type, or a file that is not there.
    """
    read = WDL.values_from_json(given, executable.available_inputs, executable.required_inputs, executable.name)
    remote: dict[str, None] = {}

    def note(value: Any) -> str:
        if is_remote(value.value):
            remote[value.value] = None
        return str(value.value)

    Value.rewrite_env_paths(read, note)
    fetched = fetch(list(remote), place, scratch / "fetched")

    def here(value: Any) -> str:
        path = str(fetched.get(value.value, value.value)).removeprefix("file://")
        return str(validate_input_path(path, isinstance(value, Value.Directory), None, str(place.work)))

    return Value.rewrite_env_paths(read, here)


def _run(executable: Any, inputs: Any, parameters: Mapping[str, Any], place: Place, outcome: JsonObject) -> int:
    backend = Backend(place)
    use(backend)
    run_dir = place.work / SCRATCH / f"run-{place.run_id}"
    try:
        _, outputs = WDL.runtime.run(_config(parameters, place), executable, inputs, run_dir=f"{run_dir}/.")
        outcome.update(_kept(WDL.values_to_json(outputs, executable.name), run_dir / "out", place.work))
        return 0
    except Exception as error:
        if backend.terminated or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
            return CANCELLED
        print(_innermost(error), file=sys.stderr)
        return 1
    finally:
        backend.watch.stop()
        use(None)


def _config(parameters: Mapping[str, Any], place: Place) -> Any:
    return wdl_config.Loader(
        logging.getLogger("wdl"),
        filenames=[],
        overrides={
            "scheduler": {
                "container_backend": BACKEND,
                "task_concurrency": str(place.jobs or TASKS),
                "fail_fast": not parameters.get("continue-on-failure", False),
            },
            "file_io": {"root": str(place.work), "copy_input_files": True, "output_hardlinks": True, "chown": False},
            "task_runtime": {"cpu_max": "-1", "memory_max": "-1", "defaults": {}},
            "download_cache": {"get": False, "put": False},
            "call_cache": {"get": True, "put": True, "dir": str(place.work / CACHE)},
        },
    )


def _innermost(error: BaseException) -> str:
    """Say what failed first, and in which calls."""
    words = []
    while isinstance(error, WDL.runtime.RunFailed) and error.__cause__ is not None:
        words.append(str(error))
        error = error.__cause__
    return ": ".join([*words, str(error) or type(error).__name__])


def _kept(outputs: JsonObject, made_in: Path, work: Path) -> JsonObject:
    """Move the outputs to where they stay, and give their paths relative to the run's folder."""
    if made_in.is_dir():
        target = fresh(work / OUTPUTS)
        made_in.rename(target)
        found: JsonObject = _replaced(outputs, f"{made_in}/", f"{target.name}/")
        return found
    return outputs


def _files(value: Any, work: Path) -> list[str]:
    """Return the paths in an output object that something lies at."""
    if isinstance(value, dict):
        return [name for item in value.values() for name in _files(item, work)]
    if isinstance(value, list):
        return [name for item in value for name in _files(item, work)]
    return [value] if isinstance(value, str) and is_inside(value) and (work / value).exists() else []


def _replaced(value: Any, before: str, after: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, before, after) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, before, after) for item in value]
    return after + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value


# -- the primed parent -----------------------------------------------------------------------------------------------

_PRIMER = """\
version {version}
workflow w {{
  input {{ File file }}
  call t {{ input: file = file }}
  output {{ File out = t.out }}
}}
task t {{
  input {{ File file }}
  command <<< cat ~{{file}} >>>
  output {{ File out = stdout() }}
}}
"""


def prime() -> None:
    """Run a workflow of each version of the language, so that a fork of this process need not build a parser.

    :raises RuntimeError: a thread is left, so that a fork would not be safe.
    """
    before = Path.cwd()
    sink = sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with Path(os.devnull).open("w") as sys.stderr:
                codes = [_rehearse(Path(folder), version) for version in ("1.0", "1.1")]
        finally:
            sys.stderr = sink
            os.chdir(before)
    if any(codes) or threading.active_count() != 1:
        raise RuntimeError(f"priming failed: exit codes {codes}, threads {threading.enumerate()}")


def _rehearse(work: Path, version: str) -> int:
    (work / f"{version}.wdl").write_text(_PRIMER.format(version=version))
    (work / "file").touch()

    def act() -> None:
        for name in ("stdout.txt", "stderr.txt"):
            for folder in (work / SCRATCH).glob("run-*/call-*"):
                (folder / name).touch()

    place = Place(client=Rehearsal(act), run_id="prime", work=work, default_image="none")
    return run(Request(workflow_url=f"{version}.wdl", params={"file": "file"}), place, {})


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
