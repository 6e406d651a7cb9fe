"""``weft token``: tokens of people, for sites without an OpenID provider, on the machine that the database is on."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from weft.audit import place
from weft.audit.entry import Entry
from weft.clock import system_clock
from weft.commands.db import DatabaseGroup
from weft.config import load
from weft.errors import InvalidRequest
from weft.model import Principal
from weft.store.store import IssuedToken, Store

Command = TypeVar("Command", bound=Callable[..., Any])

#: The issuer of the people who have such tokens.
ISSUER = "local"
ROLES = ("submitter", "operator", "auditor", "reviewer")
SCOPES = ("tes:read", "tes:write", "wes:read", "wes:write")

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,6})([mhdw])")
_LONGEST_NAME = 255


def _with_store(command: Command) -> Command:
    data = click.option("--data", type=click.Path(path_type=Path), help="Folder of the installation.")
    database = click.option("--database", help="SQLAlchemy URL; SQLite in --data when absent.")
    return data(database(command))


@contextmanager
def _store(data: Path | None, database: str | None, record: Entry | None = None) -> Iterator[Store]:
    """Open the store, after what is to be done with it stands in the audit record."""
    settings = load(data=data, database=database)
    if record is not None:
        place.record_once(settings, record)
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.database_url)
    store.start()
    try:
        yield store
    finally:
        store.stop()


@click.group(cls=DatabaseGroup)
def token() -> None:
    r"""Give out, list and revoke tokens of people.

    \b
    Exit codes:
      0  done
      1  the database cannot be read or written
      2  refused, or wrong usage
    """


@token.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="Role of NAME; may be repeated.")
@click.option("--group", "groups", multiple=True, help="Group of NAME, as the site's policy has it; may be repeated.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES),
              help="Limit the token to this; may be repeated. Without it, it may do all that NAME may.")  # fmt: skip
@click.option("--expires", default="90d", show_default=True, help="Life of the token: 30m, 12h, 90d, 8w, or never.")
@_with_store
def create(
    name: str,
    roles: tuple[str, ...],
    groups: tuple[str, ...],
    scopes: tuple[str, ...],
    expires: str,
    data: Path | None,
    database: str | None,
) -> None:
    """Print a new token of NAME, this once; only its hash is kept."""
    now = system_clock()
    ends = _end(expires, now)
    principal = Principal(
        issuer=ISSUER,
        subject=_checked(name),
        roles=frozenset(roles),
        groups=frozenset(groups),
        scopes=frozenset(scopes) or None,
        expires_at=ends,
    )
    token_id = secrets.token_hex(4)
    entry = Entry(at=now, action="token.create", object=token_id, actor=principal.name)
    with _store(data, database, entry) as store:
        made = store.create_token(principal, now=now, expires_at=ends, token_id=token_id)
    click.echo(f"token {token_id} of {name}, {_until(ends)}; it is not shown again:", err=True)
    click.echo(made)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_with_store
def list_(as_json: bool, data: Path | None, database: str | None) -> None:
    """List the tokens that were given out, without the tokens themselves."""
    with _store(data, database) as store:
        known = store.list_tokens()
    if as_json:
        click.echo(json.dumps([_document(item) for item in known], indent=2))
        return
    for item in known:
        click.echo(f"{item.id}  {item.principal.subject}  {_until(item.principal.expires_at)}{_details(item)}")


@token.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@_with_store
def revoke(ids: tuple[str, ...], data: Path | None, database: str | None) -> None:
    """Revoke tokens by their ids; a server refuses them within two seconds."""
    entry = Entry(at=system_clock(), action="token.revoke", object=" ".join(ids)[:200])
    with _store(data, database, entry) as store:
        unknown = [token_id for token_id in ids if not store.revoke_token(token_id)]
    if unknown:
        raise InvalidRequest(f"there is no token {', '.join(unknown)}", remedy="weft token list shows the ids")


def _checked(name: str) -> str:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or ":" in name or name != name.strip():
        raise InvalidRequest(
            f"{name!r} cannot be the name of a person",
            field="NAME",
            remedy=f"choose 1 to {_LONGEST_NAME} printable characters without a colon",
        )
    return name


def _end(expires: str, now: float) -> float | None:
    if expires == "never":
        return None
    match = _DURATION.fullmatch(expires)
    if match is None or not int(match[1]):
        raise InvalidRequest(f"--expires {expires!r} is no time", remedy="write 30m, 12h, 90d, 8w, or never")
    return now + int(match[1]) * _SECONDS[match[2]]


def _until(ends: float | None) -> str:
    return "without an end" if ends is None else f"until {_time(ends)}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _details(item: IssuedToken) -> str:
    who = item.principal
    parts = {"roles": who.roles, "groups": who.groups, "scopes": who.scopes or ()}
    return "".join(f"  {name}: {', '.join(sorted(values))}" for name, values in parts.items() if values)


def _document(item: IssuedToken) -> dict[str, Any]:
    who = item.principal
    return {
        "id": item.id,
        "name": who.subject,
        "roles": sorted(who.roles),
        "groups": sorted(who.groups),
        "scopes": None if who.scopes is None else sorted(who.scopes),
        "created": _time(item.created_at),
        "expires": None if who.expires_at is None else _time(who.expires_at),
    }
