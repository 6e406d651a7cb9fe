"""``weft serve | api | work | check``: the server's own commands."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from weft import checkup, logs, serving, wiring
from weft.config import Settings, load, settings_file
from weft.errors import WeftError

Command = TypeVar("Command", bound=Callable[..., Any])

_SETTINGS = (
    click.option("--data", type=click.Path(path_type=Path), help="Folder for the database and the jobs' files."),
    click.option("--database", help="SQLAlchemy URL; SQLite in the data folder when absent."),
    click.option("--executor", help="auto, docker, process, … (default: auto)."),
    click.option("--file-root", "file_roots", multiple=True, type=click.Path(path_type=Path),
                 help="Folder that file:// URLs may name; may be repeated."),
    click.option("--policy", type=click.Path(path_type=Path), help="File that says who may do what."),
    click.option("--max-running", type=int, help="Tasks that run at once."),
    click.option("--log-level", help="DEBUG, INFO, WARNING or ERROR."),
)  # fmt: skip
_ADDRESS = (
    click.option("--host", help="Address to listen on (default: 127.0.0.1)."),
    click.option("--port", type=int, help="Port to listen on; 0 picks a free one (default: 8080)."),
    click.option("--base-url", help="The URL that clients see, behind a proxy."),
    click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM file of a certificate: speak https."),
    click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file of its key, where it is another one."),
    click.option(
        "--tls-client-ca",
        type=click.Path(path_type=Path),
        help="PEM file of authorities: clients must show a certificate of theirs.",
    ),
)


def _with(options: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _settings(flags: dict[str, Any]) -> Settings:
    flags = {name: (value or None) if isinstance(value, tuple) else value for name, value in flags.items()}
    try:
        settings = load(**flags)
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            click.echo(f"weft: setting {where}: {problem['msg']}", err=True)
        sys.exit(2)
    except tomllib.TOMLDecodeError as error:
        click.echo(f"weft: {settings_file()} is not TOML: {error}", err=True)
        sys.exit(2)
    logs.configure(settings.log_level, as_json=settings.log_json)
    return settings


@click.command()
@_with(_ADDRESS + _SETTINGS)
def serve(**flags: Any) -> None:
    """Serve the API and run jobs, in one process."""
    _run_server(_settings(flags), with_worker=True)


@click.command()
@_with(_ADDRESS + _SETTINGS)
def api(**flags: Any) -> None:
    """Serve the API alone; ``weft work`` runs the jobs."""
    _run_server(_settings(flags), with_worker=False)


@click.command()
@_with(_SETTINGS)
def work(**flags: Any) -> None:
    """Run jobs of the same database that ``weft api`` fills."""
    settings = _settings(flags)
    with _explained():
        serving.block_signals()
        with ExitStack() as cleanup:
            store = wiring.open_store(settings)
            cleanup.callback(store.stop)
            authority = wiring.open_authority(settings, store)
            cleanup.callback(authority.close)
            worker = _start_work(settings, store, authority, cleanup)
            _start_agent(settings, store, authority, cleanup)
            click.echo(f"weft works on {store.address} with executor {_executor_name(worker)}")
            serving.wait_for_signal()
            click.echo("weft stops: running jobs go on and are picked up at the next start")
    serving.leave()


@click.command()
@_with(_ADDRESS + _SETTINGS)
def check(**flags: Any) -> None:
    """Print the settings in force, what is reachable, and what to do about what is not."""
    settings = _settings(flags)
    for line in checkup.describe(settings):
        click.echo(line)


def _run_server(settings: Settings, *, with_worker: bool) -> None:
    with _explained(), ExitStack() as cleanup:
        wiring.refuse_open_door(settings)
        tls = serving.tls_context(settings)
        tcp = serving.listen(settings)
        cleanup.callback(tcp.close)
        store = wiring.open_store(settings)
        cleanup.callback(store.stop)
        authority = wiring.open_authority(settings, store)
        cleanup.callback(authority.close)
        executor = "of the workers"
        if with_worker:
            worker = _start_work(settings, store, authority, cleanup)
            executor = _executor_name(worker)
            _start_agent(settings, store, authority, cleanup)
        app = wiring.make_app(settings, store, authority)
        url = serving.url_of(tcp, secure=tls is not None)
        on_ready = partial(click.echo, _welcome(url, settings, executor))
        serving.serve(app, settings, tcp=tcp, tls=tls, on_ready=on_ready)
        click.echo("weft stops: running jobs go on and are picked up at the next start")
    serving.leave()


def _start_work(
    settings: Settings, store: wiring.Store, authority: wiring.Authority, cleanup: ExitStack
) -> wiring.Worker:
    """Start what runs jobs and what tells of them."""
    worker, sender = wiring.make_worker(settings, store, authority), wiring.make_sender(settings, store)
    for part in (worker, sender):
        part.start()
        cleanup.callback(part.stop)
    return worker


def _start_agent(settings: Settings, store: Any, authority: wiring.Authority, cleanup: ExitStack) -> None:
    """Where this site has joined a hub, begin to take work from it."""
    agent = wiring.make_agent(settings, store, authority)
    if agent is not None:
        agent.start()
        cleanup.callback(agent.stop)


def _welcome(url: str, settings: Settings, executor: str) -> str:
    return "\n".join(
        (
            f"weft listens on {url}",
            f"  TES       {url}/ga4gh/tes/v1",
            f"  WES       {url}/ga4gh/wes/v1",
            f"  login     {settings.auth.mode}",
            f"  executor  {executor}",
            f"  data      {settings.data}",
        )
    )


def _executor_name(worker: wiring.Worker) -> str:
    return worker.placement[wiring.Kind.TASK].capabilities.name


class _explained:
    """Turns a foreseen error into one readable line and exit code 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, WeftError):
            click.echo(f"weft: {error.message}" + (f"\n  {error.remedy}" if error.remedy else ""), err=True)
            sys.exit(1)
