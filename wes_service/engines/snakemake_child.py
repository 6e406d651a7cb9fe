"""Run one Snakemake workflow in the current folder and end: the program inside the engine's sandbox.

::

    python -m wes_service.engines.snakemake_child --request REQUEST.json --outcome OUTCOME.json
        --tes unix:///path/of/socket --token-file FILE --run-id ID [--default-image I] [--weft-image I]

``REQUEST.json`` has ``workflow_url`` (a path below the current folder), ``workflow_params`` and
``workflow_engine_parameters``. The log goes to stderr while it happens. ``OUTCOME.json`` becomes
``{"files": [PATH, …]}``: the files of the requested targets that exist at the end, relative to the folder, sorted;
a rule without output stands for its input, a directory for the files below it. Exit code 0 when all jobs succeeded,
1 when not, 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi, WorkflowApi
from snakemake.logging import logger
from snakemake.resources import Resources
from snakemake.scheduling.greedy import SchedulerSettings as GreedySchedulerSettings
from snakemake.settings.enums import RerunTrigger
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    ResourceSettings,
    SchedulingSettings,
    StorageSettings,
    WorkflowSettings,
)
from snakemake.workflow import Workflow

from wes_service.engines import snakemake_tes
from wes_service.engines.parameters import OUTPUT_URL
from wes_service.engines.program import (
    CANCELLED,
    Cancelled,
    Rehearsal,
    Request,
    Tes,
    exit_code_of,
    find_workflow,
    hear_the_end,
    made,
    read_options,
    read_request,
    tes_client,
    write_outcome,
)
from wes_service.engines.snakemake_parameters import WITHOUT_EFFECT, read_parameters
from wes_service.engines.snakemake_tes import ExecutorSettings, SnakemakePlace
from wes_service.engines.store import check_store, store
from wes_service.engines.tes_client import JsonObject


def main(argv: Sequence[str]) -> int:
    """Run a workflow as ``argv`` (without the program's name) says; return its exit code."""
    options = read_options("snakemake_child", argv)
    hear_the_end()
    sys.argv = ["snakemake", "--snakefile", "…", "--executor", "weft"]
    files: list[str] = []
    try:
        return exit_code_of(partial(_run_and_store, options, files))
    finally:
        write_outcome(options.outcome, {"files": sorted(files)})


def _run_and_store(options: argparse.Namespace, files: list[str]) -> int:
    request = read_request(options.request, read_parameters)
    place, target = _place(options, request), request.parameters.get(OUTPUT_URL)
    check_store(target, place)
    code = run(request, place, files)
    if code == 0:
        store(target, files, place)
    return code


def _place(options: argparse.Namespace, request: Request) -> SnakemakePlace:
    return SnakemakePlace(
        client=tes_client(options),
        run_id=options.run_id,
        work=Path.cwd(),
        default_image=options.default_image,
        weft_image=options.weft_image,
        python=options.python,
        jobs=request.parameters.get("jobs"),
        time_limit_parameter=options.time_limit_parameter,
        apart=options.apart,
    )


# -- one workflow ----------------------------------------------------------------------------------------------------


def run(request: Request, place: SnakemakePlace, files: list[str]) -> int:
    """Run the workflow; add the files of its targets to ``files``, also when it fails half way."""
    snakefile = find_workflow(request.workflow_url, place.work)
    parameters = request.parameters
    for name in sorted(WITHOUT_EFFECT & {name for name, value in parameters.items() if value}):
        print(f"engine parameter {name} has no effect: each job runs in a container of its own", file=sys.stderr)
    snakemake_tes.register()
    Workflow._rundir = str(place.work)  # else it is the folder where Snakemake was imported
    output = OutputSettings(
        nocolor=True,
        dryrun=parameters.get("dry-run", False),
        printshellcmds=parameters.get("printshellcmds", False),
        verbose=parameters.get("verbose", False),
    )
    with SnakemakeApi(output) as api:
        try:
            workflow = _open(api, snakefile, request, place)
            try:
                _execute(workflow, parameters, place)
            finally:
                files.extend(target_files(workflow, place.work))
        except Cancelled:
            return CANCELLED
        except Exception as error:
            _print_problem(api, error)
            return CANCELLED if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else 1
    return 0


def _print_problem(api: Any, error: Exception) -> None:
    """Let Snakemake explain; its line map has a hole for errors of its own parser (9.27: KeyError)."""
    try:
        api.print_exception(error)
    except Exception:
        place = f' in file "{error.filename}", line {error.lineno}' if isinstance(error, SyntaxError) else ""
        words = error.msg if isinstance(error, SyntaxError) else error
        print(f"{type(error).__name__}{place}:\n{words}", file=sys.stderr)


def _open(api: Any, snakefile: Path, request: Request, place: SnakemakePlace) -> Any:
    parameters = request.parameters
    configfiles = [*map(Path, parameters.get("configfiles", ())), *_params_file(request.params, place.work)]
    return api.workflow(
        snakefile=snakefile,
        resource_settings=resource_settings(parameters),
        config_settings=ConfigSettings(config=parameters.get("config", {}), configfiles=configfiles),
        storage_settings=StorageSettings(notemp=parameters.get("notemp", False)),
        workflow_settings=WorkflowSettings(runtime_source_cache_path=made(place.work / ".snakemake" / "sources")),
    )


def _params_file(config: JsonObject, work: Path) -> list[Path]:
    """Write ``workflow_params`` where the Snakemake inside a task finds them too; an argument list may be too short."""
    if not config:
        return []
    path = made(work / ".snakemake" / "weft") / "params.json"
    path.write_text(json.dumps(config))
    return [path]


def resource_settings(parameters: Mapping[str, Any]) -> Any:
    """Translate the parameters about cores and resources."""
    default = parameters.get("default-resources")
    return ResourceSettings(
        cores=parameters.get("cores") or max(os.cpu_count() or 1, parameters.get("jobs") or 1),
        max_threads=parameters.get("max-threads"),
        resources=parameters.get("resources", {}),
        overwrite_threads=parameters.get("set-threads", {}),
        overwrite_resources=parameters.get("set-resources", {}),
        default_resources=None if default is None else Resources.parse(_expressions(default), defaults="bare"),
    )


def _expressions(pairs: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in pairs.items()]


def dag_settings(parameters: Mapping[str, Any]) -> Any:
    """Translate the parameters about targets."""
    triggers = parameters.get("rerun-triggers")
    return DAGSettings(
        targets=frozenset(parameters.get("targets", ())),
        forcetargets=parameters.get("force", False),
        forceall=parameters.get("forceall", False),
        forcerun=frozenset(parameters.get("forcerun", ())),
        until=frozenset(parameters.get("until", ())),
        omit_from=frozenset(parameters.get("omit-from", ())),
        force_incomplete=parameters.get("rerun-incomplete", True),
        rerun_triggers=RerunTrigger.all() if triggers is None else frozenset(map(RerunTrigger.parse_choice, triggers)),
    )


def _execute(workflow: Any, parameters: Mapping[str, Any], place: SnakemakePlace) -> None:
    greedy = GreedySchedulerSettings()
    workflow.dag(dag_settings=dag_settings(parameters)).execute_workflow(
        executor="weft",
        pseudo_executor="dryrun" if parameters.get("dry-run") else None,
        executor_settings=ExecutorSettings(place=place),
        execution_settings=ExecutionSettings(
            keep_going=parameters.get("keep-going", False),
            retries=parameters.get("retries", 0),
            latency_wait=parameters.get("latency-wait", 1),
            lock=False,  # one engine a folder, and one that was killed leaves its lock behind
        ),
        scheduling_settings=SchedulingSettings(scheduler="greedy"),
        scheduler_settings=greedy,
        greedy_scheduler_settings=greedy,
    )


def target_files(workflow: WorkflowApi, work: Path) -> Iterator[str]:
    """Yield the requested targets' files that exist, relative to ``work``; nothing outside of it, no links out."""
    dag = getattr(workflow._workflow_store, "dag", None)
    if dag is None:
        return
    targets = {str(path) for path in dag.targetfiles or ()}
    for job in dag.jobs:
        if job.rule in (dag.targetrules or ()):
            targets.update(map(str, job.output or job.input))
    seen = set()
    for target in targets:
        path = Path.cwd() / target  # which the directive "workdir" may have changed
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and file.resolve().is_relative_to(work.resolve()) and file.is_relative_to(work):
                seen.add(str(file.relative_to(work)))
    yield from (name for name in seen if not name.endswith(".snakemake_timestamp"))


# -- the primed parent -----------------------------------------------------------------------------------------------


def prime() -> None:
    """Run a workflow of one job that does nothing, so that a fork of this process need not import or build anything.

    :raises RuntimeError: a thread is left, so that a fork would not be safe.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "Snakefile").write_text("rule prime:\n    output: 'primed'\n    threads: 1\n    shell: 'true'\n")
        client: Tes = Rehearsal((work / "primed").touch)
        os.chdir(work)
        sink = sys.stderr
        try:
            with Path(os.devnull).open("w") as sys.stderr:
                place = SnakemakePlace(client=client, run_id="prime", work=work, default_image="none")
                code = run(Request(workflow_url="Snakefile"), place, [])
        finally:
            sys.stderr = sink
            os.chdir(before)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    if code != 0 or threading.active_count() != 1:
        raise RuntimeError(f"priming failed: exit code {code}, threads {threading.enumerate()}")


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # Snakemake leaves a timer behind that would be waited for
