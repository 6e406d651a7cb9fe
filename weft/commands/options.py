"""What all client commands share: which server, which token, JSON or tables, errors and exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from weft.client.connection import Connection, JsonObject
from weft.client.errors import BadRequest, ClientError
from weft.client.tes import TesClient
from weft.client.wes import WesClient

DEFAULT_SERVER = "http://127.0.0.1:8080"
INTERRUPTED = 130

EXIT_CODES = """\b
Exit codes:
  0  done; the job is COMPLETE
  1  the job failed (EXECUTOR_ERROR)
  2  wrong usage, or the server refused the request (4xx)
  3  the job failed for another reason (SYSTEM_ERROR)
  4  the job was canceled
  5  the server is unreachable, failed, or refused the token
  6  --timeout is over; the job goes on
"""

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which server a command speaks to, and how it answers its user."""

    url: str
    token: str | None
    as_json: bool

    def tes(self) -> TesClient:
        """Return a client of the server's TES."""
        return TesClient(Connection(self.url, "tes", token=self.token))

    def wes(self) -> WesClient:
        """Return a client of the server's WES."""
        return WesClient(Connection(self.url, "wes", token=self.token))


class ClientGroup(click.Group):
    """A group whose commands may raise ``ClientError``: its words go to stderr, its code to the shell."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except ClientError as error:
            click.echo(f"{click.style('error:', fg='red', bold=True)} {error.describe()}", err=True)
            context.exit(error.exit_code)
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)


def with_server(command: Command) -> Command:
    """Give ``command`` the options that choose a server, as one argument ``server``."""

    def collect(context: click.Context, parameter: click.Parameter, value: str) -> Server:
        token_file: Path | None = context.params.pop("token_file", None)
        token = token_file.read_text(encoding="utf-8").strip() if token_file else _token_of_environment()
        return Server(url=value, token=token, as_json=context.params.pop("as_json", False))

    command = click.option(
        "--server",
        envvar="WEFT_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        callback=collect,
        help="Address of any TES or WES server, with or without /ga4gh/…",
    )(command)
    command = click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, allow_dash=False, path_type=Path),
        is_eager=True,
        help="Read the bearer token from this file instead of WEFT_TOKEN. (There is no option that takes the token "
        "itself: other users of a machine can read a program's arguments.)",
    )(command)
    return click.option("--json", "as_json", is_flag=True, is_eager=True, help="Print the server's JSON.")(command)


def print_json(document: Any) -> None:
    """Print ``document`` for a script: indented JSON, as it came."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def note(message: str) -> None:
    """Say something to the person, beside the output proper."""
    click.echo(message, err=True)


def read_document(name: str) -> JsonObject:
    """Read a JSON or YAML object from a file, or from stdin for ``-``.

    :raises BadRequest: no such file, or no object in it; says where it breaks.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} is not text in UTF-8") from error
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_PlainLoader)  # noqa: S506
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise BadRequest(f"{name} is neither JSON nor YAML: {error}") from error
    if not isinstance(document, dict):
        raise BadRequest(f"{name} holds no object", remedy='begin it with "{", or with "key: value" in YAML')
    return document


def read_pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` pairs; a later one wins.

    :raises BadRequest: no ``=`` in one of them.
    """
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise BadRequest(f"{pair!r} is not KEY=VALUE", field=option)
        found[key] = value
    return found


def read_value(text: str) -> Any:
    """Read one value as YAML does: ``3`` is a number, ``true`` a boolean, ``[a, b]`` a list, other words are words."""
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506
    except yaml.YAMLError:
        return text


class _PlainLoader(yaml.SafeLoader):
    """YAML's safe loader, with dates left as text: JSON has no dates."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _token_of_environment() -> str | None:
    return os.environ.get("WEFT_TOKEN") or None
