"""``weft audit``: verify, read and export the audit record, on the machine that it is on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from weft.audit import checkpoints, export, place
from weft.audit.verify import verify as look_through
from weft.commands.db import DatabaseGroup
from weft.config import Settings, load
from weft.errors import InvalidRequest
from weft.store.audit_table import AuditRow, AuditTable

Command = TypeVar("Command", bound=Callable[..., Any])

_PAGE = 1000
_COLUMNS = ("time", "decision", "action", "actor", "job", "object", "project", "reason")


def _with_record(command: Command) -> Command:
    """Give ``command`` the option that chooses an installation, as one argument ``settings``."""
    return click.option(
        "--data", "settings", type=click.Path(path_type=Path), callback=lambda _c, _o, value: load(data=value),
        help="Folder of the installation.",
    )(command)  # fmt: skip


@click.group(cls=DatabaseGroup)
def audit() -> None:
    r"""Verify, read and export the audit record.

    \b
    Exit codes:
      0  done, or the record is whole
      1  something was edited, is missing, or does not belong to the record
      2  refused, or wrong usage
    """


@audit.command()
@_with_record
@click.option("--export", "exported", type=click.File("rb"), help="Verify what `weft audit export` wrote instead.")
@click.option("--checkpoints", "file", type=click.Path(path_type=Path), help="Checkpoints that were kept elsewhere.")
@click.option("--public-key", type=click.Path(path_type=Path), help="The key that was kept elsewhere.")
def verify(settings: Settings, exported: Any, file: Path | None, public_key: Path | None) -> None:
    """Walk along the chain and compare it with every signed checkpoint."""
    folder = place.folder(settings)
    key = checkpoints.read_public_key(public_key or folder / "public.pem")
    if exported is None:
        table = _opened(settings)
        rows = _all(table)
    else:
        rows = export.rows(exported)
    report = look_through(rows, checkpoints.read(file or folder / "checkpoints.jsonl"), key)
    for problem in report.problems:
        click.echo(f"[no]   {problem}")
    open_end = report.entries - report.sealed
    click.echo(
        f"{report.entries} entries, {report.checkpoints} checkpoints by key {checkpoints.key_id(key)}; sealed up to "
        f"{report.sealed}" + (f", and {open_end} after it" if open_end > 0 else "")
    )
    if report.problems:
        click.get_current_context().exit(1)
    click.echo("the record is whole")


@audit.command("export")
@_with_record
@click.option("--after", type=int, default=0, help="Begin after this number.")
def export_(settings: Settings, after: int) -> None:
    """Write the entries as lines of JSON, with their hashes; pseudonyms stay pseudonyms."""
    for row in _all(_opened(settings), after):
        sys.stdout.buffer.write(orjson.dumps(export.document(row)) + b"\n")


@audit.command("list")
@_with_record
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many entries.")
@click.option("--action", help="Only this action, such as task.create.")
@click.option("--decision", type=click.Choice(["allow", "deny"]), help="Only what was allowed, or refused.")
@click.option("--job", help="Only what concerns this task or run.")
@click.option("--names", is_flag=True, help="Show who stands behind the pseudonyms.")
def list_(
    settings: Settings, last: int, action: str | None, decision: str | None, job: str | None, names: bool
) -> None:
    """Show the newest entries, oldest first."""
    table = _opened(settings)
    wanted = {key: value for key, value in (("action", action), ("decision", decision), ("job", job)) if value}
    tail = table.tail()
    first = 0 if tail is None or wanted else max(0, tail.seq - last)
    known = table.names() if names else {}
    found = []
    for row in _all(table, first):
        entry = orjson.loads(row.body)
        if all(entry.get(key) == value for key, value in wanted.items()):
            found.append(f"{row.seq:>6}  {'  '.join(_words(entry, known))}")
    for line in found[-last:]:
        click.echo(line)


@audit.command()
@_with_record
@click.argument("person")
def forget(settings: Settings, person: str) -> None:
    """Erase which pseudonym stands for PERSON (ISSUER|SUBJECT). The entries stay; nobody can say whose they are."""
    if not _opened(settings).forget(person):
        raise InvalidRequest(f"the record knows nobody called {person!r}", remedy="see weft audit list --names")
    click.echo("forgotten")


def _opened(settings: Settings) -> AuditTable:
    """Open the record; it must be there.

    :raises InvalidRequest: it is not.
    """
    address = place.database(settings)
    if address.startswith("sqlite") and not Path(address.removeprefix("sqlite:///")).is_file():
        raise InvalidRequest(f"there is no audit record at {address}", field="--data", remedy="name the data folder")
    table = AuditTable(address)
    table.start()
    click.get_current_context().call_on_close(table.stop)
    return table


def _all(table: AuditTable, after: int = 0) -> Iterator[AuditRow]:
    while rows := table.after(after, _PAGE):
        yield from rows
        after = rows[-1].seq


def _words(entry: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    for column in _COLUMNS:
        if column in entry:
            value = str(entry[column])
            yield names.get(value, value) if column == "actor" else value
