"""``weft run``: submit, list, get, wait, logs, tasks, outputs, cancel on any WES server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from weft.client import attach, workflow
from weft.client.connection import JsonObject
from weft.client.errors import BadRequest, ClientError
from weft.client.logs import RunLog
from weft.client.outputs import OutputFile, files_of, inside
from weft.client.tables import (
    console,
    facts,
    runs_table,
    state_text,
    table,
    task_logs_table,
    took,
    when,
)
from weft.client.watch import EXIT_CODES as STATE_CODES
from weft.client.watch import Watch
from weft.client.wes import RunRequest, WesClient
from weft.commands.following import follow_run, leave, show, wait_for
from weft.commands.options import (
    EXIT_CODES,
    ClientGroup,
    Server,
    note,
    print_json,
    read_document,
    read_pairs,
    read_value,
    with_server,
)


@click.group(cls=ClientGroup, epilog=EXIT_CODES)
def run() -> None:
    """Run workflows on any WES server."""


@run.command(epilog=EXIT_CODES)
@click.argument("path", metavar="PATH|URL")
@click.option("--params", metavar="FILE", help="Workflow parameters: JSON or YAML; - is stdin.")
@click.option("--param", "pairs", multiple=True, metavar="KEY=VALUE", help="One parameter (YAML); wins over --params.")
@click.option("--type", "language", metavar="TYPE", help="SMK, CWL, WDL or NFL; told by the file's name if not given.")
@click.option("--type-version", metavar="VERSION", help="The server's newest if not given.")
@click.option("--attach", "attached", multiple=True, metavar="[NAME=]FILE", help="Send this file along as NAME.")
@click.option("--no-auto-attach", is_flag=True, help="Send the workflow file and what --attach names; no more.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Do not send what matches; also: .weftignore.")
@click.option("--max-attach-mb", type=float, default=100, show_default=True, help="Refuse to send more than this.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag of the run; may be repeated.")
@click.option("--engine-param", "engine_pairs", multiple=True, metavar="KEY=VALUE", help="Parameter of the engine.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; the exit code says how it went.")
@click.option("--follow", is_flag=True, help="Print the engine's output while it runs, then as --wait.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this.")
@with_server
def submit(
    server: Server, path: str, waits: bool, follow: bool, timeout: float | None, params: str | None, **parts: Any
) -> None:
    """Submit a workflow and print the run's id.

    PATH is a workflow file, or a folder with a Snakefile (or main.nf, main.cwl, main.wdl) in it. Everything in that
    folder travels with it, except hidden files, what .weftignore lists, and links that lead out of it.
    """
    client = server.wes()
    request = _request(client, path, params=read_document(params) if params else {}, **parts)
    if request.attachments:
        total = sum(item.size for item in request.attachments) / 1e6
        note(f"sending {len(request.attachments)} files, {total:.1f} MB, with {request.workflow_url}")
    run_id = client.submit(request)
    if server.as_json:
        print_json({"run_id": run_id})
    else:
        click.echo(run_id, err=follow)
    if follow:
        leave(run_id, follow_run(client, run_id, Watch(timeout=timeout)))
    elif waits:
        leave(run_id, wait_for(run_id, lambda: client.status(run_id), Watch(timeout=timeout)))


@run.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most runs to show.")
@click.option("--all", "everything", is_flag=True, help="Show all, however many.")
@with_server
def list_(server: Server, limit: int, everything: bool) -> None:
    """List runs, newest first on weft."""
    found = server.wes().list(limit=None if everything else limit)
    if server.as_json:
        print_json(list(found))
    else:
        console().print(runs_table(found))


@run.command()
@click.argument("run_id", metavar="ID")
@with_server
def get(server: Server, run_id: str) -> None:
    """Show one run."""
    document = server.wes().get(run_id)
    if server.as_json:
        print_json(document)
    else:
        _show_run(document)


@run.command(epilog=EXIT_CODES)
@click.argument("run_ids", nargs=-1, required=True, metavar="ID…")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this for each.")
@with_server
def wait(server: Server, run_ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait for the end of runs; the exit code is that of the first that did not complete."""
    client = server.wes()
    ended = []
    for run_id in run_ids:
        last = wait_for(run_id, lambda one=run_id: client.status(one), Watch(timeout=timeout))  # type: ignore[misc]
        ended.append({"run_id": run_id, "state": last.get("state")})
        if not server.as_json:
            click.echo(f"{run_id}  {last.get('state')}")
    if server.as_json:
        print_json(ended if len(ended) > 1 else ended[0])
    failed = (one for one in ended if STATE_CODES.get(str(one["state"]), 3))
    leave("", next(failed, {"state": "COMPLETE"}), quiet=True)


@run.command(epilog=EXIT_CODES)
@click.argument("run_id", metavar="ID")
@click.option("--task", "task_id", metavar="TASK", help="The output of one of its tasks instead of the engine's.")
@click.option("--follow", is_flag=True, help="Go on until the run has ended; then the exit code says how.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --follow: no longer than this.")
@with_server
def logs(server: Server, run_id: str, task_id: str | None, follow: bool, timeout: float | None) -> None:
    """Print what a run's engine wrote: its stdout to stdout, its stderr to stderr."""
    client = server.wes()
    if follow:
        if task_id:
            raise BadRequest("--follow follows the run, not one task", remedy="weft task logs --follow TASK")
        leave(run_id, follow_run(client, run_id, Watch(timeout=timeout)))
        return
    log = client.task(run_id, task_id) if task_id else client.get(run_id).get("run_log") or {}
    if server.as_json:
        print_json(log)
    else:
        show(RunLog(client).pieces(log))


@run.command()
@click.argument("run_id", metavar="ID")
@with_server
def tasks(server: Server, run_id: str) -> None:
    """List the tasks that a run was made of, in the order of their start."""
    found = server.wes().tasks(run_id)
    if server.as_json:
        print_json(list(found))
    else:
        console().print(task_logs_table(sorted(found, key=lambda log: str(log.get("start_time") or "~"))))


@run.command()
@click.argument("run_id", metavar="ID")
@click.option("--download", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Fetch them to DIR.")
@with_server
def outputs(server: Server, run_id: str, download: Path | None) -> None:
    """Show what a run made, or fetch it."""
    client = server.wes()
    document = client.get(run_id).get("outputs") or {}
    if server.as_json:
        print_json(document)
    files = files_of(document, f"{client.connection.base}/runs/{run_id}")
    if download is not None:
        for file in files:
            _fetch(client, file, download)
    elif not server.as_json:
        console().print(table(("OUTPUT", "URL"), [(str(file.path), file.url) for file in files]))


@run.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="ID…")
@with_server
def cancel(server: Server, run_ids: tuple[str, ...]) -> None:
    """Cancel runs and all their tasks. To cancel a run that has ended changes nothing."""
    client = server.wes()
    for run_id in run_ids:
        client.cancel(run_id)
    if server.as_json:
        print_json([{"run_id": run_id} for run_id in run_ids])


def _request(
    client: WesClient,
    path: str,
    *,
    params: JsonObject,
    pairs: tuple[str, ...],
    language: str | None,
    type_version: str | None,
    attached: tuple[str, ...],
    no_auto_attach: bool,
    exclude: tuple[str, ...],
    max_attach_mb: float,
    tags: tuple[str, ...],
    engine_pairs: tuple[str, ...],
) -> RunRequest:
    extra = [attach.named(spec) for spec in attached]
    if "://" in path:
        url, found = path, extra
    else:
        file = workflow.main_file(Path(path))
        folder = workflow.folder_of(file)
        url = file.absolute().relative_to(folder).as_posix()
        alone = attach.Attachment(name=url, source=file)
        travelling = [alone] if no_auto_attach else [alone, *attach.below(folder, exclude)]
        found = list({item.name: item for item in (*travelling, *extra)}.values())
    attach.guard(found, max_attach_mb)
    kind, version = workflow.type_and_version(language or workflow.language_of(url), type_version, _info(client))
    named = {key: read_value(value) for key, value in read_pairs(pairs, "--param").items()}
    return RunRequest(
        workflow_url=url,
        workflow_type=kind,
        workflow_type_version=version,
        workflow_params={**params, **named},
        engine_parameters=read_pairs(engine_pairs, "--engine-param"),
        tags=read_pairs(tags, "--tag"),
        attachments=found,
    )


def _info(client: WesClient) -> JsonObject:
    """Ask what the server can run; a server that will not tell is asked for the usual."""
    try:
        return client.service_info()
    except ClientError as error:
        if error.exit_code != BadRequest.exit_code:
            raise
        return {}


def _fetch(client: WesClient, file: OutputFile, folder: Path) -> None:
    target = inside(folder, file.path)
    size = client.download(file.url, target)
    note(f"{target}  {size} bytes")


def _show_run(document: JsonObject) -> None:
    out = console()
    request, log = document.get("request") or {}, document.get("run_log") or {}
    code = log.get("exit_code")
    out.print(
        facts(
            [
                ("id", str(document.get("run_id", ""))),
                ("state", state_text(document.get("state"))),
                ("workflow", str(request.get("workflow_url") or "")),
                ("type", f"{request.get('workflow_type') or ''} {request.get('workflow_type_version') or ''}".strip()),
                ("tags", ", ".join(f"{key}={value}" for key, value in (request.get("tags") or {}).items())),
                ("started", when(log.get("start_time"))),
                ("took", took(log.get("start_time"), log.get("end_time"))),
                ("exit code", "" if code is None else str(code)),
                ("stdout", str(log.get("stdout") or "")),
                ("stderr", str(log.get("stderr") or "")),
            ]
        )
    )
    for line in log.get("system_logs") or []:
        out.print(f"  system  {line}", markup=False)
