"""``weft policy``: check a policy file, and ask it why."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from tes_service.rules import read_task
from tes_service.wire import parse as parse_task
from weft.auth.policy.decide import Decision, decide, findings
from weft.auth.policy.document import Role
from weft.auth.policy.finding import Finding
from weft.auth.policy.in_force import load
from weft.auth.policy.resource import Action, Resource, of_run, of_task
from weft.commands.db import DatabaseGroup
from weft.commands.options import read_document
from weft.config import load as load_settings
from weft.errors import InvalidRequest
from weft.model import JsonObject, Principal, Resources, Run, Visa
from wes_service.wire import parse as parse_run

_MOST_CONTENT = 1 << 30


@click.group(cls=DatabaseGroup)
def policy() -> None:
    r"""Check the site's policy, and ask it why.

    \b
    Exit codes:
      0  the file is good, or the request is allowed
      1  the request is refused
      2  the file or the request cannot be read
    """


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read a policy FILE and say what it is made of, or what is wrong and where."""
    found = load(file)
    click.echo(f"{file} is good: version {found.version}")
    for role, names in found.roles.items():
        click.echo(f"  role {role}: {len(names.names) + len(names.groups) + len(names.issuers)} names")
    for name in found.members:
        datasets = ", ".join(sorted(found.terms[name].datasets)) or "none"
        click.echo(f"  project {name}: datasets {datasets}")
    for dataset in found.datasets:
        asked = ", ".join(visa.type for visa in dataset.visas) or "no visa"
        click.echo(f"  dataset {dataset.name}: {len(dataset.approvals)} approvals, asks for {asked}")


@policy.command()
@click.argument("user")
@click.argument("request_file", metavar="REQUEST")
@click.option("--policy", "file", type=click.Path(path_type=Path), help="The policy; the one of weft.toml when absent.")
@click.option("--group", "groups", multiple=True, help="A group that USER's issuer names; may be repeated.")
@click.option("--role", "roles", multiple=True, type=click.Choice(list(Role)), help="A role in USER's token.")
@click.option("--visas", "visas_file", help="JSON object with the member visas: a list of visa claims, with issuer.")
@click.option("--start", is_flag=True, help="Ask as when the job starts, instead of when it is created.")
@click.option("--at", type=click.DateTime(), help="Ask as of this moment (UTC) instead of now.")
def explain(
    user: str,
    request_file: str,
    file: Path | None,
    groups: tuple[str, ...],
    roles: tuple[str, ...],
    visas_file: str | None,
    start: bool,
    at: Any,
) -> None:
    """Say whether USER (ISSUER|SUBJECT) may send REQUEST, a task or a run as JSON or YAML, rule by rule."""
    chosen = file or load_settings().policy
    if chosen is None:
        raise InvalidRequest("there is no policy", field="policy", remedy="name one with --policy")
    found = load(chosen)
    issuer, separator, subject = user.partition("|")
    if not separator or not subject:
        raise InvalidRequest(f"{user!r} is not ISSUER|SUBJECT", field="USER")
    visas = () if visas_file is None else _visas(read_document(visas_file), issuer, subject)
    who = Principal(issuer=issuer, subject=subject, groups=frozenset(groups), roles=frozenset(roles), visas=visas)
    now = time.time() if at is None else at.replace(tzinfo=UTC).timestamp()
    action = Action.START if start else Action.CREATE
    resource = _resource(read_document(request_file))
    click.echo(f"policy {chosen}, version {found.version}")
    for finding in findings(found, who, action, resource, now):
        click.echo(_line(finding))
    decision = decide(found, who, action, resource, now)
    click.echo(_verdict(decision))
    if not decision.allowed:
        click.get_current_context().exit(1)


def _verdict(decision: Decision) -> str:
    if decision.allowed:
        return f"allowed, project {decision.project}" if decision.project else "allowed"
    where = f"{decision.field}: " if decision.field else ""
    return f"refused by {decision.rule}: {where}{decision.reason}"


def _line(finding: Finding) -> str:
    remedy = f" ({finding.remedy})" if finding.remedy else ""
    return f"  [{'ok' if finding.allowed else 'no'}] {finding.rule:<20} {finding.reason}{remedy}"


def _resource(document: JsonObject) -> Resource:
    """Read a request as the services do, but for what this site's executors can give."""
    if "executors" not in document:
        form = parse_run(document)
        return of_run(
            Run(
                workflow_type=form.workflow_type,
                workflow_type_version=form.workflow_type_version,
                workflow_url=form.workflow_url,
                workflow_params=form.workflow_params,
                workflow_engine="",
                workflow_engine_version="",
                tags=form.tags,
            )
        )
    wire = parse_task(document)
    task, _ = read_task(wire, max_content=_MOST_CONTENT, check_url=lambda _url, _writing: None)
    given = wire.resources
    if given is None:
        return of_task(task)
    asked = Resources(
        cpu_cores=given.cpu_cores,
        ram_gb=given.ram_gb,
        disk_gb=given.disk_gb,
        backend_parameters={name.lower(): value for name, value in (given.backend_parameters or {}).items()},
    )
    return of_task(replace(task, resources=asked))


def _visas(document: JsonObject, issuer: str, subject: str) -> tuple[Visa, ...]:
    try:
        return tuple(
            Visa(
                issuer=claim.get("issuer", issuer),
                subject=subject,
                type=claim["type"],
                value=claim["value"],
                source=claim.get("source", ""),
                by=claim.get("by"),
                asserted=float(claim.get("asserted", 0)),
                expires_at=float(claim["exp"]),
                digest="",
            )
            for claim in document["visas"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"a visa is not whole: {error}", field="--visas") from error
