"""What ``weft check`` says: what is in force, what is reachable, and what to do about what is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weft.audit import place
from weft.auth.access import reach_issuers
from weft.auth.policy.in_force import load
from weft.backends import ENGINE, choose_executor, executor_named, look_for_engines, task_executors
from weft.clock import system_clock
from weft.config import Settings, settings_file
from weft.errors import WeftError
from weft.plugins import Broken
from weft.ports import Health
from weft.staging.stagers import installed
from weft.store.dialect import masked


def describe(settings: Settings) -> Iterator[str]:
    """Say what is in force, what is reachable, and what to do about what is not, a line at a time."""
    yield f"settings file: {settings_file() or 'none'}"
    database = settings.database and masked(settings.database)
    yield from _settings_lines("", settings.model_dump() | {"database": database})
    yield ""
    for name in task_executors():
        yield _health_line(f"executor {name}", _executor_health(name, settings))
    yield f"  tasks go to: {_chosen(settings)}"
    yield _health_line("sandbox of workflow engines", _executor_health(ENGINE, settings))
    found, missing = look_for_engines(settings, None)
    for broken in missing:
        yield _health_line(f"engine {broken.name}", _broken_health(broken))
    for engine in found:
        types = ", ".join(f"{name} {'/'.join(versions)}" for name, versions in engine.info.workflow_types.items())
        yield f"[ok]   engine {engine.info.name} {engine.info.version}: {types}"
    yield from login_lines(settings)
    yield _policy_line(settings)
    yield _audit_line(settings)
    yield f"[ok]   URLs: {', '.join(installed(settings).schemes)}"
    if not settings.file_roots:
        yield "[note] file:// URLs: none is allowed; name folders with --file-root"


def login_lines(settings: Settings) -> Iterator[str]:
    """Say who must log in and how, and whether the issuers can be reached."""
    if settings.auth.mode == "off":
        yield "[note] login: off, whoever reaches the port is the same person"
        return
    yield f"[ok]   login: {settings.auth.mode}"
    for issuer, problem in reach_issuers(settings.auth, settings.fetch, system_clock):
        yield f"[no]   issuer {issuer}: {problem}" if problem else f"[ok]   issuer {issuer}: its keys are there"
    secure = settings.tls_cert is not None or (settings.base_url or "").startswith("https://")
    if not (secure or settings.on_loopback):
        yield "[note] tokens travel unencrypted: use --tls-cert, or a proxy with TLS and --base-url https://…"


def _policy_line(settings: Settings) -> str:
    if settings.policy is None:
        return "[note] policy: none, every job is its owner's alone"
    try:
        policy = load(settings.policy)
    except WeftError as error:
        return f"[no]   policy: {error.field}: {error.message}"
    counted = f"{len(policy.members)} projects, {len(policy.datasets)} datasets"
    return f"[ok]   policy: {settings.policy}, version {policy.version}, {counted}"


def _audit_line(settings: Settings) -> str:
    if not place.is_kept(settings):
        return "[note] audit record: off"
    return f"[ok]   audit record: {masked(place.database(settings))}, checkpoints in {place.folder(settings)}"


def _settings_lines(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _settings_lines(f"{prefix}{name}.", value)
        else:
            yield f"  {prefix}{name} = {'not set' if value is None else value}"


def _executor_health(name: str, settings: Settings) -> Health:
    try:
        return executor_named(name, settings).check()
    except WeftError as error:
        return Health(usable=False, detail=error.message, remedy=error.remedy)


def _broken_health(broken: Broken) -> Health:
    return Health(usable=False, detail=str(broken.error), remedy=f"install the extra weft[{broken.name}]")


def _health_line(what: str, health: Health) -> str:
    detail = " ".join(health.detail.split())
    if health.usable:
        return f"[ok]   {what}: {detail}"
    return f"[no]   {what}: {detail}" + (f"\n         {health.remedy}" if health.remedy else "")


def _chosen(settings: Settings) -> str:
    try:
        return choose_executor(settings).capabilities.name
    except WeftError as error:
        return f"none ({error.message})"
