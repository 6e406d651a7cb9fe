"""The composition root: from Settings to store, stagers, executors, engines, worker and app.

The only file that picks concrete classes.
"""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tes_service.app
import weft.federation.app
import wes_service.app
from tes_service.api import TesApi
from weft.audit import place
from weft.auth.access import open_access
from weft.auth.policy.in_force import PolicyFile
from weft.authority import OPEN, Authority
from weft.backends import ENGINE, choose_executor, engines, executor_named
from weft.callbacks.sender import Sender
from weft.callbacks.signature import REMEDY, key_of
from weft.clock import new_id, system_clock
from weft.config import Settings
from weft.dispatch import Means
from weft.errors import InvalidRequest
from weft.feasibility import Anything, Feasibility
from weft.federation import site
from weft.federation.agent import Agent, Service
from weft.federation.desk import Desk
from weft.federation.feasibility import HubFeasibility
from weft.federation.hub import NodesApi
from weft.federation.ledger import Ledgers
from weft.federation.line import Line
from weft.federation.outbox import Outbox
from weft.federation.registry import RegistryApi
from weft.folders import Folders
from weft.http import audit
from weft.http.api import build_app
from weft.http.request import Request
from weft.limits import Admission, site_limits
from weft.model import JsonObject, Kind, Principal
from weft.ports import UsesStore
from weft.preparation import Preparation
from weft.prepare import HandedOver, RunPreparation, TaskPreparation
from weft.presence import Presence
from weft.retention import Retention
from weft.staging.ferry import Ferry
from weft.staging.guard import GuardedClient
from weft.staging.stagers import installed
from weft.staging.trs import Registries
from weft.store.store import Store
from weft.worker import Worker, thread_pool
from weft.workspace import Sources
from wes_service.api import WesApi
from wes_service.translate import TES, WES

__all__ = [
    "Authority",
    "Kind",
    "Store",
    "Worker",
    "make_app",
    "make_sender",
    "make_worker",
    "open_authority",
    "open_store",
    "refuse_open_door",
]

#: Longest time to connect to a receiver of callbacks, and its longest silence.
_CALLBACK_SECONDS = 10.0
#: The executor that makes a weft a hub.
HUB = "node"
#: Jobs of a hub that a site makes at once, so that they share a commit.
_DESK_THREADS = 8


def refuse_open_door(settings: Settings) -> None:
    """Refuse to listen beyond loopback without a login, unless told so.

    :raises InvalidRequest: says what to do.
    """
    if settings.auth.mode != "off" or settings.allow_unauthenticated or settings.on_loopback:
        return
    raise InvalidRequest(
        f"weft would listen on {settings.host} and let anybody run programs here, because no login is configured",
        field="host",
        remedy="listen on 127.0.0.1, or set auth.login (docs/security.md), or say allow_unauthenticated = true if "
        "only trusted people reach this port",
    )


def open_store(settings: Settings) -> Store:
    """Make the data folder, open the database and bring its schema up to date.

    :raises InvalidRequest: the folder cannot be made, or the database's address is none.
    :raises Unavailable: the database cannot be opened.
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            settings.data.chmod(0o711)
    except OSError as error:
        problem = f"the data folder {settings.data} cannot be made: {error.strerror}"
        raise InvalidRequest(problem, field="data", remedy="choose another folder with --data") from error
    try:
        store = Store(settings.database_url)
    except ValueError as error:
        raise InvalidRequest(f"database: {error}", field="database") from error
    store.tells_ends = site.read(settings.membership) is not None
    store.start()
    return store


def open_authority(settings: Settings, store: Store) -> Authority:
    """Read the policy and open the audit record, where there are any; ``close`` ends it.

    :raises InvalidRequest: the policy is not there, or what is wrong with it.
    :raises Unavailable: the record cannot be opened.
    """
    policy = None if settings.policy is None else PolicyFile(settings.policy, time.monotonic)
    journal = place.open_journal(settings, system_clock) if place.is_kept(settings) else None
    authority = Authority(clock=system_clock, job=store.get, policy=policy, journal=journal)
    if policy is not None:
        authority.note_policy(policy())
        policy.on_change(authority.note_policy)
    return authority


def make_app(settings: Settings, store: Store, authority: Authority = OPEN) -> Any:
    """Return the ASGI application of all services."""
    tes, wes = _apis(settings, store, authority)
    registry = RegistryApi(
        store=store,
        settings=settings,
        clock=system_clock,
        own=((TES, lambda _: tes.get_service_info()), (WES, wes.get_service_info)),
    )
    nodes = NodesApi(
        store=store, folders=Folders(settings.data), clock=system_clock, release_bytes=settings.hub.release_bytes
    )
    services = (
        tes_service.app.service(tes),
        *wes_service.app.services(wes),
        *weft.federation.app.services(nodes, registry),
        *([] if authority.journal is None else [audit.service(authority)]),
    )
    return build_app(
        services,
        settings=settings,
        access=open_access(settings.auth, settings.fetch, store, system_clock),
        ready=store.ready,
        authority=authority,
        limits_of=authority.limits(site_limits(settings)),
    )


def _apis(settings: Settings, store: Store, authority: Authority) -> tuple[TesApi, WesApi]:
    """Return what answers TES and WES, under one set of limits."""
    stagers = installed(settings)
    shared: dict[str, Any] = {
        "store": store,
        "settings": settings,
        "check_url": stagers.check_url,
        "schemes": lambda: stagers.schemes,
        "clock": system_clock,
        "new_id": new_id,
        "admission": Admission(authority.limits(site_limits(settings)), store, settings, time.monotonic),
        "authority": authority,
        "feasible": _feasible(settings, store),
    }
    return TesApi(**shared), WesApi(engines=engines(settings), **shared)


def _feasible(settings: Settings, store: Store) -> Feasibility:
    """Return who tells what could never run here."""
    if settings.executor != HUB:
        return Anything()
    return HubFeasibility(store=store, clock=system_clock, silent_seconds=settings.hub.silent_seconds)


def make_agent(settings: Settings, store: Store, authority: Authority = OPEN) -> Service | None:
    """Return the agent of a site that has joined a hub; None where it has not. Nothing is started."""
    membership = site.read(settings.membership)
    if membership is None:
        return None
    key = site.key_of(settings.membership)
    tes, wes = _apis(settings, store, authority)
    pool = ThreadPoolExecutor(_DESK_THREADS, thread_name_prefix="desk")

    def line() -> Line:
        return Line(membership.hub, membership.name, key, clock=system_clock, ca=membership.ca)

    outbox = Outbox(
        settings=settings.release,
        ledgers=Ledgers(settings.membership),
        folders=Folders(settings.data),
        clock=system_clock,
    )
    desk = Desk(
        membership.hub,
        create_task=tes.create_task,
        create_run=wes.run_workflow,
        fetch_run=lambda key: line().fetch("fetch", {"key": key}),
        feasible=outbox,
    )
    return Service(
        agent=Agent(store=store, desk=desk, clock=system_clock, pool=pool, outbox=outbox),
        store=store,
        line=line,
        declared=lambda: site.declared(membership, _declared(tes, wes)),
        turn=site.only_speaker(settings.membership),
    )


def declared_services(settings: Settings, store: Store) -> JsonObject:
    """Return what a site's services say of themselves, and its executor, as its workers announced it."""
    return _declared(*_apis(settings, store, OPEN))


def _declared(tes: TesApi, wes: WesApi) -> JsonObject:
    executors = tes.fleet.now().executors
    nobody = Request(principal=Principal(issuer="", subject=""))
    return {
        "tes": tes.get_service_info(),
        "wes": {name: value for name, value in wes.get_service_info(nobody).items() if name != "system_state_counts"},
        "executor": dict(executors[0]) if executors else {},
    }


def make_worker(settings: Settings, store: Store, authority: Authority = OPEN) -> Worker:
    """Return a worker with its executors; nothing is started."""
    tasks = choose_executor(settings)
    if isinstance(tasks, UsesStore):
        tasks.attach(store)
    runs = tasks if tasks.capabilities.runs else executor_named(ENGINE, settings)
    folders = Folders(settings.data)
    stagers = installed(settings)
    preparations: dict[Kind, Preparation] = {
        Kind.TASK: HandedOver(
            ferry=Ferry(folders=folders, stagers=stagers, storage=settings.engine.storage),
            binary_gigabytes=settings.binary_gigabytes,
        )
        if tasks.capabilities.stages
        else TaskPreparation(
            stagers=stagers,
            folders=folders,
            writable_inputs=settings.writable_inputs,
            binary_gigabytes=settings.binary_gigabytes,
            run_as=tasks.capabilities.run_as,
            users=tasks.capabilities.users,
        ),
        Kind.RUN: HandedOver()
        if runs.capabilities.stages
        else RunPreparation(
            store=store,
            folders=folders,
            engines=engines(settings, tasks.capabilities),
            sources=_sources(settings),
            stagers=stagers,
            tes_url=f"unix://{settings.engine_socket}",
            clock=system_clock,
            run_as=tasks.capabilities.run_as,
        ),
    }
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id(system_clock())[-6:]}"
    means = Means(
        store=store,
        folders=folders,
        clock=system_clock,
        worker=name,
        preparations=preparations,
        time_limits={Kind.TASK: settings.time_limit_seconds, Kind.RUN: settings.engine.time_limit_seconds},
        log_tail_bytes=settings.log_tail_bytes,
        authority=authority,
        output_patience=settings.output_patience_seconds,
    )
    return Worker(
        means=means,
        placement={Kind.TASK: tasks, Kind.RUN: runs},
        executors={executor.capabilities.name: executor for executor in (tasks, runs)},
        slots={
            Kind.TASK: settings.max_running or tasks.capabilities.slots or 10_000,
            Kind.RUN: (runs.capabilities.slots or 10_000) if runs is tasks else settings.engine.max_running,
        },
        pool=thread_pool(settings.staging_threads),
        most_each=settings.limits.running,
        presence=Presence(settings.data / "workers", name),
        lease_seconds=settings.lease_seconds,
        beat_seconds=settings.beat_seconds,
        retention=None
        if settings.keep_days is None
        else Retention(store=store, folders=folders, clock=system_clock, seconds=settings.keep_days * 86_400),
    )


def _sources(settings: Settings) -> Sources:
    client = GuardedClient(settings.fetch)
    return Sources(fetch=client, registries=Registries(settings.trs, client))


def make_sender(settings: Settings, store: Store) -> Sender:
    """Return who sends callbacks; nothing is started.

    :raises InvalidRequest: the site's own callback cannot work.
    """
    asked = settings.callbacks
    quick = {"connect_seconds": _CALLBACK_SECONDS, "read_seconds": _CALLBACK_SECONDS}
    client = GuardedClient(settings.fetch.model_copy(update=quick))
    secret = None if asked.secret is None else asked.secret.get_secret_value()
    if asked.url is not None:
        client.check(asked.url)
        if secret is None:
            raise InvalidRequest(
                "callbacks.url is set without callbacks.secret", field="callbacks.secret", remedy=REMEDY
            )
        key_of(secret)
    return Sender(outbox=store, client=client, clock=system_clock, site_secret=secret)
