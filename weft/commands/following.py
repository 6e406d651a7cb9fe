"""Wait for jobs in front of a person: a progress line on a terminal, live logs, the exit code at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import click
from rich.markup import escape
from rich.status import Status

from weft.client.connection import JsonObject
from weft.client.logs import Piece, RunLog, TaskLog
from weft.client.tables import console, duration
from weft.client.tes import TesClient
from weft.client.watch import EXIT_CODES, Watch
from weft.client.wes import WesClient


def wait_for(job_id: str, read: Callable[[], JsonObject], watch: Watch) -> JsonObject:
    """Ask until the job has ended and return its last document."""
    began = time.monotonic()
    document: JsonObject = {}
    with _progress(job_id) as status:
        for document in watch.until_ended(read):
            if status is not None:
                passed = duration(time.monotonic() - began)
                status.update(f"{escape(job_id)}  [bold]{escape(str(document.get('state')))}[/]  {passed}")
    return document


def follow_task(client: TesClient, task_id: str, watch: Watch) -> JsonObject:
    """Print a task's output while it grows, until the task has ended."""
    log, document = TaskLog(), {}
    for document in watch.until_ended(lambda: client.get(task_id, "FULL")):
        show(log.pieces(document))
    return document


def follow_run(client: WesClient, run_id: str, watch: Watch) -> JsonObject:
    """Print a run's output while it grows, until the run has ended."""
    log, document = RunLog(client), {}

    def read() -> JsonObject:
        run = client.get(run_id)
        show(log.pieces(run.get("run_log") or {}))
        return run

    for document in watch.until_ended(read):  # noqa: B007
        pass
    return document


def show(pieces: Iterator[Piece]) -> None:
    """Print stdout to stdout and stderr to stderr; what the system says goes to stderr, marked."""
    for piece in pieces:
        if piece.stream == "system":
            for line in piece.text.splitlines():
                click.echo(f"weft: {line}", err=True)
        else:
            click.echo(piece.text, nl=False, err=piece.stream == "stderr")


def leave(job_id: str, document: JsonObject, *, quiet: bool = False) -> None:
    """Say how the job ended and leave with its exit code."""
    state = str(document.get("state"))
    if not quiet:
        click.echo(f"{job_id}  {state}", err=True)
    code = EXIT_CODES.get(state, 3)
    if code:
        click.get_current_context().exit(code)


def _progress(job_id: str) -> AbstractContextManager[Status | None]:
    if not sys.stderr.isatty():
        return nullcontext(None)
    return Status(escape(job_id), console=console(sys.stderr))
