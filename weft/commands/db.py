"""``weft db``: look after the database of an installation, on the machine that it is on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from weft.config import load
from weft.errors import Conflict, InvalidRequest, WeftError
from weft.store import backup as backups
from weft.store import dialect
from weft.store.inspection import inspect
from weft.store.upgrade import migrate as bring_up

Command = TypeVar("Command", bound=Callable[..., Any])

_DATA = "weft.commands.db.data"

_BY_PG_DUMP = """\
The database is PostgreSQL, whose own program makes consistent backups while weft runs:
  pg_dump --format=custom --file={file} {address}"""
_BY_PG_RESTORE = """\
The database is PostgreSQL, whose own program restores what pg_dump wrote; stop weft first:
  pg_restore --clean --if-exists --single-transaction --dbname={address} {file}"""


class DatabaseGroup(click.Group):
    """A group whose commands may raise ``WeftError``: its words go to stderr, 1 or 2 to the shell."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except WeftError as error:
            _refuse(error.message, error.remedy, code=2 if isinstance(error, InvalidRequest | Conflict) else 1)
        except ValueError as error:  # a setting, or an address, that cannot be read
            _refuse(str(error), None, code=2)


def with_address(command: Command) -> Command:
    """Give ``command`` the options that choose a database, as one argument ``address``."""

    def chosen(context: click.Context, _option: click.Parameter, value: str | None) -> str:
        return load(data=context.meta.get(_DATA), database=value).database_url

    where = click.option("--database", "address", callback=chosen, help="SQLAlchemy URL; SQLite in --data when absent.")
    data = click.option(
        "--data", type=click.Path(path_type=Path), is_eager=True, expose_value=False, callback=_remember,
        help="Folder of the installation.",
    )  # fmt: skip
    return data(where(command))


def _remember(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    context.meta[_DATA] = value


@click.group(cls=DatabaseGroup)
def db() -> None:
    r"""Back up, restore, check and migrate the database.

    \b
    Exit codes:
      0  done, or all is sound
      1  something is not sound, or cannot be read or written
      2  refused, or wrong usage
    """


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@with_address
def backup(file: Path, force: bool, address: str) -> None:
    """Write the database to FILE; weft may be running."""
    database = _file_of(address, _BY_PG_DUMP, file)
    backups.back_up(database, file, replace=force)
    click.echo(f"backed up {database} to {file} ({file.stat().st_size} bytes)")


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the database if there is one; it is kept beside the new one.")
@with_address
def restore(file: Path, force: bool, address: str) -> None:
    """Put the backup FILE in the place of the database; weft must not be running."""
    database = _file_of(address, _BY_PG_RESTORE, file)
    aside = backups.restore(database, file, replace=force)
    click.echo(f"restored {database} from {file}" + (f"; what was there is {aside}" if aside else ""))


@db.command()
@with_address
def check(address: str) -> None:
    """Say whether the database is sound and every job's history legal; weft may be running."""
    sound = True
    for finding in inspect(address):
        sound = sound and finding.sound
        click.echo(f"{'[ok]' if finding.sound else '[no]':6} {finding.text}")
        if finding.remedy:
            click.echo(f"       {finding.remedy}")
    sys.exit(0 if sound else 1)


@db.command()
@with_address
def migrate(address: str) -> None:
    """Bring the database to the schema of this weft. A server does the same when it starts."""
    before, now = bring_up(address)
    match before:
        case None:
            click.echo(f"made the schema, revision {now}")
        case same if same == now:
            click.echo(f"the schema is revision {now} already")
        case _:
            click.echo(f"the schema was revision {before} and is revision {now} now")


def _file_of(address: str, otherwise: str, file: Path) -> Path:
    database = dialect.database_file(dialect.parsed(address))
    if database is None:
        # Not SQLAlchemy's form, and without the password: a person will copy this line.
        shown = dialect.masked(address).replace("postgresql+psycopg", "postgresql")
        _refuse(otherwise.format(file=file, address=shown), None, code=2)
    return database


def _refuse(message: str, remedy: str | None, *, code: int) -> NoReturn:
    click.echo(f"weft: {message}" + (f"\n  {remedy}" if remedy else ""), err=True)
    sys.exit(code)
