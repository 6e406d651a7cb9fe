"""``weft task``: submit, list, get, wait, logs, cancel on any TES server."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from weft.client.connection import JsonObject
from weft.client.errors import BadRequest
from weft.client.logs import TaskLog
from weft.client.tables import console, facts, state_text, tasks_table, took, when
from weft.client.watch import EXIT_CODES as STATE_CODES
from weft.client.watch import Watch
from weft.commands.following import follow_task, leave, show, wait_for
from weft.commands.options import (
    EXIT_CODES,
    ClientGroup,
    Server,
    print_json,
    read_document,
    read_pairs,
    with_server,
)
from weft.states import State

QUICK_FORM = """\b
The quick form:
  weft task submit --image alpine --follow -- echo hello

"""


@click.group(cls=ClientGroup, epilog=EXIT_CODES)
def task() -> None:
    """Run single tasks on any TES server."""


@task.command(epilog=QUICK_FORM + EXIT_CODES)
@click.argument("arguments", nargs=-1, metavar="FILE | -- COMMAND…")
@click.option("--image", help="Run COMMAND in this container image, instead of reading a task from FILE.")
@click.option("--name", help="Name of the task.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag of the task; may be repeated.")
@click.option("--env", multiple=True, metavar="KEY=VALUE", help="With --image: environment of the command.")
@click.option("--workdir", metavar="PATH", help="With --image: folder that the command starts in.")
@click.option("--input", "inputs", multiple=True, metavar="PATH=URL", help="With --image: file to bring in.")
@click.option("--output", "outputs", multiple=True, metavar="PATH=URL", help="With --image: file to bring out.")
@click.option("--cpu", type=int, help="CPU cores.")
@click.option("--ram-gb", type=float, help="Memory (10⁹ bytes).")
@click.option("--disk-gb", type=float, help="Disk (10⁹ bytes).")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; the exit code says how it went.")
@click.option("--follow", is_flag=True, help="Print the output while it runs, then as --wait.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this.")
@with_server
def submit(
    server: Server,
    arguments: tuple[str, ...],
    waits: bool,
    follow: bool,
    timeout: float | None,
    **parts: Any,
) -> None:
    """Submit a task and print its id.

    FILE is a TES task in JSON or YAML; "-" reads it from stdin. The quick form makes a task of its options.
    """
    client = server.tes()
    task_id = client.create(_document(arguments, **parts))
    if server.as_json:
        print_json({"id": task_id})
    else:
        click.echo(task_id, err=follow)
    if follow:
        leave(task_id, follow_task(client, task_id, Watch(timeout=timeout)))
    elif waits:
        leave(task_id, wait_for(task_id, lambda: client.get(task_id, "MINIMAL"), Watch(timeout=timeout)))


@task.command(name="list")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only tasks in this state.")
@click.option("--name-prefix", help="Only tasks whose name begins so.")
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only tasks with this tag; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most tasks to show.")
@click.option("--all", "everything", is_flag=True, help="Show all, however many.")
@click.option("--view", type=click.Choice(["MINIMAL", "BASIC", "FULL"]), default="BASIC", help="How much of each.")
@with_server
def list_(
    server: Server,
    state: str | None,
    name_prefix: str | None,
    tags: tuple[str, ...],
    limit: int,
    everything: bool,
    view: str,
) -> None:
    """List tasks, newest first on weft."""
    found = server.tes().list(
        limit=None if everything else limit,
        view=view,
        state=state,
        name_prefix=name_prefix,
        tags=[(tag.partition("=")[0], tag.partition("=")[2]) for tag in tags],
    )
    if server.as_json:
        print_json(list(found))
    else:
        console().print(tasks_table(found))


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--view", type=click.Choice(["MINIMAL", "BASIC", "FULL"]), default="FULL", show_default=True)
@with_server
def get(server: Server, task_id: str, view: str) -> None:
    """Show one task."""
    document = server.tes().get(task_id, view)
    if server.as_json:
        print_json(document)
    else:
        _show_task(document)


@task.command(epilog=EXIT_CODES)
@click.argument("task_ids", nargs=-1, required=True, metavar="ID…")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this for each.")
@with_server
def wait(server: Server, task_ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait for the end of tasks; the exit code is that of the first that did not complete."""
    client = server.tes()
    ended = []
    for task_id in task_ids:
        last = wait_for(task_id, lambda one=task_id: client.get(one, "MINIMAL"), Watch(timeout=timeout))  # type: ignore[misc]
        ended.append({"id": task_id, "state": last.get("state")})
        if not server.as_json:
            click.echo(f"{task_id}  {last.get('state')}")
    if server.as_json:
        print_json(ended if len(ended) > 1 else ended[0])
    failed = (one for one in ended if STATE_CODES.get(str(one["state"]), 3))
    leave("", next(failed, {"state": "COMPLETE"}), quiet=True)


@task.command(epilog=EXIT_CODES)
@click.argument("task_id", metavar="ID")
@click.option("--follow", is_flag=True, help="Go on until the task has ended; then the exit code says how.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --follow: no longer than this.")
@with_server
def logs(server: Server, task_id: str, follow: bool, timeout: float | None) -> None:
    """Print what a task wrote: its stdout to stdout, its stderr to stderr.

    A server keeps the end of a long output only; live, everything it shows in time is printed.
    """
    client = server.tes()
    if follow:
        leave(task_id, follow_task(client, task_id, Watch(timeout=timeout)))
        return
    document = client.get(task_id, "FULL")
    if server.as_json:
        print_json(document.get("logs") or [])
    else:
        show(TaskLog().pieces(document))


@task.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="ID…")
@with_server
def cancel(server: Server, task_ids: tuple[str, ...]) -> None:
    """Cancel tasks. To cancel a task that has ended changes nothing."""
    client = server.tes()
    for task_id in task_ids:
        client.cancel(task_id)
    if server.as_json:
        print_json([{"id": task_id} for task_id in task_ids])


def _document(
    arguments: tuple[str, ...],
    *,
    image: str | None,
    name: str | None,
    tags: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    cpu: int | None,
    ram_gb: float | None,
    disk_gb: float | None,
) -> JsonObject:
    """Make the task: of a file, or of the command line alone; then lay what both forms share over it."""
    if image is not None:
        document = _quick(image, arguments, env, workdir, inputs, outputs)
    elif env or workdir or inputs or outputs:
        raise BadRequest("--env, --workdir, --input and --output belong to the quick form", remedy="give --image")
    elif len(arguments) != 1:
        raise BadRequest("give one FILE (- is stdin), or --image IMAGE -- COMMAND")
    else:
        document = read_document(arguments[0])
    if name:
        document["name"] = name
    if tags:
        document["tags"] = {**(document.get("tags") or {}), **read_pairs(tags, "--tag")}
    asked = {"cpu_cores": cpu, "ram_gb": ram_gb, "disk_gb": disk_gb}
    resources = {**(document.get("resources") or {}), **{key: value for key, value in asked.items() if value}}
    return {**document, "resources": resources} if resources else document


def _quick(
    image: str,
    command: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> JsonObject:
    if not command:
        raise BadRequest("there is no command to run", remedy="put it after --")
    step: JsonObject = {"image": image, "command": list(command)}
    if env:
        step["env"] = read_pairs(env, "--env")
    if workdir:
        step["workdir"] = workdir
    document: JsonObject = {"name": command[0], "executors": [step]}
    for key, pairs in (("inputs", inputs), ("outputs", outputs)):
        if pairs:
            document[key] = [{"path": path, "url": url} for path, url in read_pairs(pairs, f"--{key[:-1]}").items()]
    return document


def _show_task(document: JsonObject) -> None:
    out = console()
    attempts = document.get("logs") or []
    pairs: list[tuple[str, str | Text]] = [
        ("id", str(document.get("id", ""))),
        ("state", state_text(document.get("state"))),
        ("name", str(document.get("name") or "")),
        ("created", when(document.get("creation_time"))),
        ("tags", ", ".join(f"{key}={value}" for key, value in (document.get("tags") or {}).items())),
        ("resources", ", ".join(f"{key}={value}" for key, value in (document.get("resources") or {}).items())),
    ]
    out.print(facts(pairs))
    steps = document.get("executors") or []
    for number, attempt in enumerate(attempts, start=1):
        out.print(f"\n[bold]attempt {number}[/]  {took(attempt.get('start_time'), attempt.get('end_time'))}")
        for index, step in enumerate(attempt.get("logs") or []):
            command = " ".join(steps[index].get("command", [])) if index < len(steps) else ""
            code = step.get("exit_code")
            out.print(
                f"  step {index}  exit {'-' if code is None else code}  "
                f"{took(step.get('start_time'), step.get('end_time'))}  {command}",
                markup=False,
            )
        for item in attempt.get("outputs") or []:
            out.print(
                f"  output  {item.get('path')} -> {item.get('url')} ({item.get('size_bytes')} bytes)", markup=False
            )
        for line in attempt.get("system_logs") or []:
            out.print(f"  system  {line}", markup=False)
