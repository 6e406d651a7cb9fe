"""``weft release``: review, at the site, what jobs of its hub made here, file by file, before it leaves."""

from __future__ import annotations

import getpass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from weft.clock import system_clock
from weft.commands.node import NodeGroup, with_data
from weft.config import load
from weft.errors import NotFound
from weft.federation.ledger import Item, Ledger, Ledgers
from weft.federation.release import Decision


@click.group(cls=NodeGroup)
def release() -> None:
    """Review what jobs of the hub made here. A file that nobody approves stays."""


@release.command("list")
@click.option("--all", "everything", is_flag=True, help="Show what was decided on, too.")
@with_data
def list_files(everything: bool, data: Path | None) -> None:
    """List the files that wait for a decision, with where to read them."""
    ledgers = _ledgers(data)
    rows = [
        _row(ledgers, ledger, index, item)
        for ledger in ledgers.every()
        for index, item in enumerate(ledger.items)
        if everything or item.decision is Decision.PENDING
    ]
    table = Table("job", "file", "bytes", "sha256", "asked by", "decision", "read it at", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 400)
    console.print(table if rows else "nothing waits for a decision")


@release.command()
@click.argument("job")
@click.argument("files", nargs=-1)
@click.option("--reviewer", help="Who decides; the account that runs the command when absent.")
@click.option("--reason", default="reviewed", show_default=True, help="Why, for the record.")
@with_data
def approve(job: str, files: tuple[str, ...], reviewer: str | None, reason: str, data: Path | None) -> None:
    """Let FILES of JOB leave, as they were listed; all that wait where none is named."""
    _decide(data, job, files, Decision.APPROVED, reason, reviewer)


@release.command()
@click.argument("job")
@click.argument("files", nargs=-1)
@click.option("--reviewer", help="Who decides; the account that runs the command when absent.")
@click.option("--reason", required=True, help="Why: who asked for the file gets to read this.")
@with_data
def reject(job: str, files: tuple[str, ...], reviewer: str | None, reason: str, data: Path | None) -> None:
    """Keep FILES of JOB here; all that wait where none is named."""
    _decide(data, job, files, Decision.WITHHELD, reason, reviewer)


def _decide(
    data: Path | None, job: str, files: tuple[str, ...], decision: Decision, reason: str, reviewer: str | None
) -> None:
    ledgers = _ledgers(data)
    ledger = _of_job(ledgers, job)
    now, who = system_clock(), reviewer or getpass.getuser()
    for path in files or [item.path for item in ledger.pending]:
        ledgers.decide(ledger.key, path, decision, reason, who, now=now)
        click.echo(f"{path}: {decision.value} by {who}")


def _of_job(ledgers: Ledgers, job: str) -> Ledger:
    for ledger in ledgers.every():
        if job in (ledger.key, ledger.job_id, ledger.key.rpartition("-")[0]):
            return ledger
    raise NotFound(f"no files of a job {job!r} are here", remedy="weft release list")


def _row(ledgers: Ledgers, ledger: Ledger, index: int, item: Item) -> tuple[str, ...]:
    place = str(ledgers.file(ledger.key, index)) if item.decision is Decision.PENDING else ""
    said = item.decision.value + (f" by {item.reviewer}" if item.reviewer else "")
    if item.decision is not Decision.PENDING:
        said += f": {item.reason}"
    return (ledger.key, item.path, str(item.size_bytes), item.sha256[:12], ledger.submitter, said, place)


def _ledgers(data: Path | None) -> Ledgers:
    return Ledgers(load(data=data).membership)
