"""``weft node``: join a hub as a site, or look after the nodes of this hub; each on the machine that it is on."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from weft import logs, serving, wiring
from weft.clock import system_clock
from weft.config import Settings, load
from weft.errors import InvalidRequest, NotFound, WeftError
from weft.federation import hub as hubs
from weft.federation import site
from weft.federation.line import Line
from weft.store import assignments, claims, nodes
from weft.store.assignments import Stage
from weft.store.nodes import Node, Standing
from weft.store.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])

_GONE = "node {} was removed from the hub by its operator"


class NodeGroup(click.Group):
    """A group whose commands may raise ``WeftError``: its words go to stderr, 1 or 2 to the shell."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except WeftError as error:
            click.echo(f"weft: {error.message}" + (f"\n  {error.remedy}" if error.remedy else ""), err=True)
            sys.exit(2 if isinstance(error, InvalidRequest) else 1)
        except ValueError as error:  # a setting that cannot be read
            click.echo(f"weft: {error}", err=True)
            sys.exit(2)


def with_data(command: Command) -> Command:
    """Give ``command`` the option that chooses the installation."""
    option = click.option("--data", type=click.Path(path_type=Path), help="Folder of the installation.")
    return option(command)


@click.group(cls=NodeGroup)
def node() -> None:
    r"""Join a hub, or look after the nodes of this one.

    \b
    At the site:  join  status  leave  run
    At the hub:   invite  list  show  suspend  resume  remove  give-up
    """


# -- at the hub ----------------------------------------------------------------------------------------------------


@node.command()
@click.argument("name")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="How long the token may be used.")
@with_data
def invite(name: str, hours: float | None, data: Path | None) -> None:
    """Print a token with which a site may join once as NAME."""
    settings = load(data=data)
    token = f"weft_join_{secrets.token_urlsafe(24)}"
    now = system_clock()
    until = now + 3600 * (hours or settings.hub.invite_hours)
    with _opened(settings) as store:
        store.write(partial(nodes.invite, token=token, name=hubs.checked_name(name), now=now, expires_at=until))
    click.echo(token)
    click.echo(f"one use, until {_time(until)}. At the site: weft node join URL --name {name} --token TOKEN", err=True)


@node.command("list")
@with_data
def list_(data: Path | None) -> None:
    """List the nodes: whether they were heard lately, and what they have to do."""
    settings = load(data=data)
    with _opened(settings) as store:
        found, counts = store.read(nodes.every), store.read(assignments.open_by_node)
    table = Table("name", "state", "heard", "jobs", "executor", "data sets", box=None, pad_edge=False)
    for item in found:
        jobs = counts.get(item.name, {})
        executor = item.declared.get("executor", {}).get("executor", "-")
        sets = len(item.declared.get("datasets", ()))
        heard = f"{max(0, system_clock() - item.heard_at):.0f} s ago"
        table.add_row(item.name, _state(item, settings), heard, str(sum(jobs.values())), executor, str(sets))
    Console().print(table if found else "no node has joined; weft node invite NAME makes a token for one")


@node.command()
@click.argument("name")
@with_data
def show(name: str, data: Path | None) -> None:
    """Show all that is known of a node, and its jobs."""
    settings = load(data=data)
    with _opened(settings) as store:
        found = _known(store, name)
        jobs = [item for item in store.read(assignments.every) if item.node == name]
    click.echo(f"name       {found.name}")
    click.echo(f"state      {_state(found, settings)}")
    click.echo(f"joined     {_time(found.joined_at)}")
    click.echo(f"heard      {_time(found.heard_at)}")
    click.echo(f"load       {found.load.get('running', 0)} running, {found.load.get('queued', 0)} waiting")
    for key, value in sorted(found.declared.items()):
        if key != "datasets":
            click.echo(f"{key:10} {value}")
    for dataset in found.declared.get("datasets", ()):
        click.echo(f"data set   {dataset['id']}")
    for job in jobs:
        click.echo(f"job        {job.key} {job.stage.value}{' (cancel asked)' if job.cancelled else ''}")


@node.command()
@click.argument("name")
@with_data
def suspend(name: str, data: Path | None) -> None:
    """Give a node no new work; what it has goes on."""
    _stand(load(data=data), name, Standing.SUSPENDED)


@node.command()
@click.argument("name")
@with_data
def resume(name: str, data: Path | None) -> None:
    """Give a node work again."""
    _stand(load(data=data), name, Standing.ACTIVE)


@node.command()
@click.argument("name")
@with_data
def remove(name: str, data: Path | None) -> None:
    """Forget a node and its key, and give up what it has not ended."""
    with _opened(load(data=data)) as store:
        _known(store, name)
        given_up = store.write(partial(hubs.remove, name=name, reason=_GONE), rings=True)
    click.echo(f"node {name} is removed; {given_up} of its jobs were given up")


@node.command("give-up")
@click.argument("job")
@with_data
def give_up(job: str, data: Path | None) -> None:
    """Give up waiting for the node that has JOB; where it has an attempt left, another node may begin it anew.

    The node that had it is told to stop it when it comes back, and can say nothing of it any more.
    """
    with _opened(load(data=data)) as store:
        key = _open_key(store, job)
        store.write(partial(assignments.withdraw, key=key, reason="given up by the hub's operator"), rings=True)
    click.echo(f"{key} is given up")


# -- at the site ---------------------------------------------------------------------------------------------------


@node.command()
@click.argument("hub")
@click.option("--token", required=True, help="What `weft node invite` printed at the hub; `-` reads it from stdin.")
@click.option("--name", required=True, help="The name that the token is for.")
@click.option("--datasets", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="datasets.toml")
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="Certificates to check the hub's with.")
@click.option("--allow-http", is_flag=True, help="Speak plain http to a hub that is not on this machine.")
@with_data
def join(
    hub: str, token: str, name: str, datasets: Path | None, ca: Path | None, allow_http: bool, data: Path | None
) -> None:
    """Join the hub at URL HUB: make a key here, and enrol its public half."""
    settings = load(data=data)
    site.refuse_second(settings.membership)
    membership = site.Membership(
        hub=site.hub_url(hub, allow_http=allow_http),
        name=hubs.checked_name(name),
        joined_at=system_clock(),
        datasets=None if datasets is None else str(datasets.absolute()),
        ca=None if ca is None else str(ca.absolute()),
    )
    with _opened(settings) as store:
        declared = site.declared(membership, wiring.declared_services(settings, store))
    secret = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105
    _line(settings, membership).join(secret, declared)
    site.save(settings.membership, membership)
    click.echo(f"this site is node {name} of {membership.hub}")
    click.echo("start weft serve (or weft work) here, or start it again: it takes the hub's work from then on")


@node.command()
@with_data
def status(data: Path | None) -> None:
    """Say which hub this site has joined, whether it answers, and what is under way."""
    settings = load(data=data)
    membership = _membership(settings)
    with _opened(settings) as store:
        under_way = store.read(claims.still_open)
    click.echo(f"node {membership.name} of {membership.hub}, since {_time(membership.joined_at)}")
    click.echo(f"{len(under_way)} of the hub's jobs are under way here")
    line = _line(settings, membership)
    answer = line.ask("report", {"reports": []})
    click.echo(f"the hub answers; this node is {answer['standing']}")
    if line.offset:
        click.echo(f"this site's clock is {-line.offset:+.0f} s from the hub's")


@node.command()
@click.option("--force", is_flag=True, help="Forget the hub here although it does not answer.")
@with_data
def leave(force: bool, data: Path | None) -> None:
    """Leave the hub; it gives up what has not ended, and this site cancels it."""
    settings = load(data=data)
    membership = _membership(settings)
    try:
        _line(settings, membership).ask("leave", {})
    except WeftError:
        if not force:
            raise
    with _opened(settings) as store:
        for claim in store.read(claims.still_open):
            if claim.job_id is not None:
                store.request_cancel(claim.job_id, now=system_clock(), message="cancelled: this site has left its hub")
            store.write(partial(claims.close, key=claim.key, now=system_clock()))
    site.remove(settings.membership)
    click.echo(f"this site is no node of {membership.hub} any more; start weft here again")


@node.command("run")
@with_data
def run_(data: Path | None) -> None:
    """Take the hub's work for workers that run elsewhere on the same database."""
    settings = load(data=data)
    logs.configure(settings.log_level, as_json=settings.log_json)
    membership = _membership(settings)
    serving.block_signals()
    with _opened(settings) as store:
        authority = wiring.open_authority(settings, store)
        agent = wiring.make_agent(settings, store, authority)
        assert agent is not None
        agent.start()
        click.echo(f"weft works as node {membership.name} of {membership.hub}")
        serving.wait_for_signal()
        agent.stop()
        authority.close()
    serving.leave()


# -- shared --------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    store = wiring.open_store(settings)
    try:
        yield store
    finally:
        store.stop()


def _known(store: Store, name: str) -> Node:
    found = store.read(partial(nodes.get, name=name))
    if found is None:
        raise NotFound(f"there is no node {name!r} here", remedy="weft node list")
    return found


def _stand(settings: Settings, name: str, standing: Standing) -> None:
    with _opened(settings) as store:
        _known(store, name)
        store.write(partial(nodes.stand, name=name, standing=standing), rings=True)
    click.echo(f"node {name} is {standing.value}")


def _open_key(store: Store, job: str) -> str:
    """Return the key of a job's assignment that has not ended; ``job`` may be the key itself."""
    for item in store.read(assignments.every):
        if job in (item.key, item.key.rpartition("-")[0]) and item.stage not in (Stage.ENDED, Stage.WITHDRAWN):
            return item.key
    raise NotFound(f"no node has a job {job!r} that has not ended", remedy="weft node show NAME lists them")


def _membership(settings: Settings) -> site.Membership:
    membership = site.read(settings.membership)
    if membership is None:
        raise NotFound("this site has joined no hub", remedy="weft node join URL --name NAME --token TOKEN")
    return membership


def _line(settings: Settings, membership: site.Membership) -> Line:
    key = site.key_of(settings.membership)
    return Line(membership.hub, membership.name, key, clock=system_clock, ca=membership.ca)


def _state(item: Node, settings: Settings) -> str:
    if item.standing is Standing.SUSPENDED:
        return "suspended"
    return "silent" if system_clock() - item.heard_at > settings.hub.silent_seconds else "active"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
