"""A hub and a site in one thread, whose parts can die at any call, and a wire that can be cut at any exchange.

The hub's worker, the site's agent and the site's worker are three processes of the story, each mortal by itself
(``tests.crash.world``). The wire signs and checks as the real one does, and calls the hub's handlers directly.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from executors.node import NodeExecutor
from tes_service.api import TesApi
from tests.builders import NOW, a_new_job, a_step, a_task
from tests.crash.promise import ends_of
from tests.crash.world import LEASE_SECONDS, Inline, Life, Mortal, World
from weft.clock import new_id
from weft.config import Settings
from weft.dispatch import Means
from weft.errors import Unavailable, WeftError
from weft.federation.agent import Agent
from weft.federation.desk import Desk
from weft.federation.hub import NodesApi
from weft.federation.proofs import NodeKey, thumbprint
from weft.folders import Folders
from weft.http.request import Request
from weft.limits import Admission, site_limits
from weft.model import JsonObject, Kind, Principal
from weft.ports import Capabilities
from weft.prepare import HandedOver
from weft.rescue import Sweeper
from weft.sections.service import HubSettings
from weft.states import State
from weft.store import assignments, claims, nodes
from weft.store.nodes import Node, Standing
from weft.store.store import Filters, Store
from weft.worker import Worker

_CANCEL = {State.CANCELING}


class Cut(Unavailable):
    """The connection broke."""


@dataclass
class Wire:
    """The way from a site to its hub."""

    api: NodesApi
    name: str
    key: NodeKey
    clock: Callable[[], float]
    life: Life = field(default_factory=Life)
    offset: float = 0.0
    #: What the wire does to a request: nothing, or cut it before or after the hub, or send it twice.
    fault: str | None = None

    def ask(self, action: str, body: JsonObject, *, wait: float = 0.0) -> JsonObject:
        del wait
        self.life.moment(f"before {action}")
        fault, self.fault = self.fault, None
        if fault == "cut before":
            raise Cut("cut before the hub")
        raw = orjson.dumps(body)
        signed = self.key.sign(self.name, "POST", f"/nodes/{self.name}/{action}", raw, now=self.clock() + self.offset)
        answer = self.send(action, raw, signed)
        if fault == "twice":
            try:
                self.send(action, raw, signed)
            except WeftError:
                pass
            else:
                raise AssertionError("the same request counted twice")
        if fault == "cut after":
            raise Cut("cut after the hub")
        self.life.moment(f"after {action}")
        return answer

    def send(self, action: str, raw: bytes, signed: str) -> JsonObject:
        handler = {"claim": self.api.claim_jobs, "report": self.api.report_jobs, "leave": self.api.leave_hub}[action]
        request = Request(principal=Principal(issuer="", subject=""), headers={"authorization": signed})
        answer = handler(request=request, body=orjson.loads(raw), stream=BytesIO(raw), name=self.name)
        found: JsonObject = orjson.loads(answer) if isinstance(answer, bytes) else answer
        return found


class Polled(NodeExecutor):
    """Looked at in each turn instead of waking a thread, so that a story is the same each time."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, wakes=False)


class HubWorld:
    """The hub: a store, the handlers, and workers that come and go."""

    def __init__(self, data: Path, store: Store, clock: Callable[[], float]) -> None:
        self.data, self.store, self.clock = data, store, clock
        self.settings = Settings(data=data, hub=HubSettings(silent_seconds=90))
        self.api = NodesApi(store=store, folders=Folders(data), clock=clock)
        self.workers = 0

    def new_worker(self, life: Life) -> Worker:
        self.workers += 1
        real = Polled(self.settings, clock=self.clock, cancel_seconds=0)
        real.attach(self.store)
        executor = Mortal(real, life, free=frozenset({"start", "stop"}))
        means = Means(
            store=Mortal(self.store, life, free=frozenset({"on_change"})),  # type: ignore[arg-type]
            folders=Folders(self.data),
            clock=self.clock,
            worker=f"hub-{self.workers}",
            preparations={Kind.TASK: Mortal(HandedOver(), life)},  # type: ignore[dict-item]
            time_limits={Kind.TASK: None},
            log_tail_bytes=1000,
        )
        return Worker(
            means=means,
            placement={Kind.TASK: executor},  # type: ignore[dict-item]
            executors={"node": executor},  # type: ignore[dict-item]
            slots={Kind.TASK: 100},
            pool=Inline(),
            lease_seconds=LEASE_SECONDS,
        )

    def backup(self, folder: Path) -> Path:
        """Copy the database as it is now, beside a new data folder."""
        return backup_of(self.store, folder)

    def join(self, name: str, key: NodeKey) -> None:
        self.store.write(partial(nodes.invite, token=name, name=name, now=self.clock(), expires_at=self.clock() + 60))
        now = self.clock()
        node = Node(name=name, public_key=key.public, standing=Standing.ACTIVE, joined_at=now, heard_at=now)
        self.store.write(partial(nodes.join, token=name, thumbprint=thumbprint(key.public), node=node))

    def create(self, *command: str, **parameters: str) -> str:
        task = a_task(steps=(a_step(command=command),))
        new = a_new_job(task=task)
        if parameters:
            new.document["resources"] = {"backend_parameters": parameters}
        return self.store.create(new).id

    def said(self, job_id: str) -> list[str]:
        return [event.message for event in self.store.events(job_id) if event.message]


class SiteWorld:
    """A site: the world of its backend and workers, and the agents that come and go."""

    def __init__(self, world: World, hub: HubWorld, name: str = "cz", ahead: float = 0.0) -> None:
        self.world, self.hub, self.name = world, hub, name
        self.key = NodeKey.generate()
        self.wire = Wire(hub.api, name, self.key, lambda: world.clock() + ahead)
        hub.join(name, self.key)

    def new_agent(self, life: Life) -> Agent:
        settings = self.world.settings()
        tes = TesApi(
            store=self.world.store,
            settings=settings,
            check_url=lambda url, *, writing, roots=(): None,
            schemes=lambda: (),
            clock=self.world.clock,
            new_id=new_id,
            admission=Admission(site_limits(settings), self.world.store, settings, self.world.clock),
        )
        desk = Desk("https://hub", create_task=tes.create_task, create_run=_no_runs, fetch_run=_no_runs)
        self.wire.life = life
        return Agent(
            store=Mortal(self.world.store, life, free=frozenset({"on_change"})),  # type: ignore[arg-type]
            desk=Mortal(desk, life),  # type: ignore[arg-type]
            clock=self.world.clock,
        )

    def jobs(self) -> list[str]:
        """Return the ids of the site's own jobs."""
        return [job.id for job in self.world.store.page(Kind.TASK, Filters(), 1000, None).jobs]


@dataclass
class Federation:
    """One hub and one site on one clock, and the loop in which everybody does once what is due."""

    hub: HubWorld
    site: SiteWorld
    lives: dict[str, Life]
    hub_worker: Worker | None = None
    agent: Agent | None = None
    site_worker: Worker | None = None

    def turn(self, times: int = 1) -> None:
        """Let everybody do once what is due; who died is replaced when its leases have run out."""
        for _ in range(times):
            self.hub_worker = self.hub_worker or self.hub.new_worker(self._life("hub"))
            self.site_worker = self.site_worker or self.site.world.new_worker(self._life("site"))
            self.agent = self.agent or self.site.new_agent(self._life("agent"))
            self.hub_worker.turn()
            self.exchange(self.agent.claim, wait=0)
            self.site_worker.turn()
            self.exchange(self.agent.report, thoroughly=True)
            self.site.world.now += 1.0

    def exchange(self, action: Callable[..., None], **options: Any) -> None:
        """Let the agent act; a hub that cannot be reached is tried again at the next turn."""
        try:
            action(self.site.wire, **options)
        except Unavailable:
            return

    def restore_hub(self, backup: Path) -> None:
        """Let the hub start again on an older database; its job folders are as they are."""
        store = _restored(self.hub.store, backup)
        self.hub = HubWorld(self.hub.data, store, self.hub.clock)
        self.site.hub, self.site.wire.api = self.hub, self.hub.api
        self.hub_worker = None

    def restore_site(self, backup: Path) -> None:
        """Let the site start again on an older database."""
        self.site.world.store = _restored(self.site.world.store, backup)
        self.site_worker = self.agent = None

    def _life(self, role: str) -> Life:
        return self.lives.pop(role, None) or Life()

    def after_a_death(self) -> None:
        """Let new processes take over, after the leases of the dead ones ran out."""
        self.hub_worker = self.agent = self.site_worker = None
        self.site.world.now += LEASE_SECONDS + 1

    def settle(self) -> None:
        """Go on until all has ended and everybody knows it."""
        for _ in range(80):
            self.turn()
            if self.is_over():
                break
        for world, worker in ((self.hub, self.hub_worker), (self.site.world, self.site_worker)):
            assert worker is not None
            Sweeper(store=world.store, executors=worker.executors, folders=Folders(world.data)).sweep()

    def is_over(self) -> bool:
        pages = (
            self.hub.store.page(Kind.TASK, Filters(), 1000, None),
            self.site.world.store.page(Kind.TASK, Filters(), 1000, None),
        )
        return all(job.state.terminal for page in pages for job in page.jobs) and not self.left()

    def left(self) -> list[object]:
        """Return the assignments and claims that somebody still waits for."""
        return [*self.hub.store.read(assignments.every), *self.site.world.store.read(claims.still_open)]

    def assert_the_promise(self, job_ids: list[str]) -> dict[str, State]:
        """Check the promise on both sides; and that no job of the hub became two at the site."""
        ended = ends_of(self.hub.store, job_ids)
        self.site.world.assert_the_promise(self.site.jobs())
        assert len(self.site.jobs()) <= len(job_ids), "a job of the hub became two at the site"
        assert self.left() == []
        return ended


def backup_of(store: Store, folder: Path) -> Path:
    """Copy a database while it is in use."""
    folder.mkdir()
    address = store.address.removeprefix("sqlite:///")
    with closing(sqlite3.connect(address)) as source, closing(sqlite3.connect(folder / "weft.db")) as target:
        source.backup(target)
    return folder / "weft.db"


def _restored(store: Store, backup: Path) -> Store:
    """Put a backup in the place of a database, and open it there: whoever stops the first one stops this one too."""
    store.stop()
    file = Path(store.address.removeprefix("sqlite:///"))
    for path in file.parent.glob("weft.db*"):
        path.unlink()
    shutil.copyfile(backup, file)
    store.__init__(f"sqlite:///{file}")  # type: ignore[misc]
    store.start()
    return store


def _no_runs(*_: object, **__: object) -> Any:
    raise AssertionError("this world has tasks alone")


__all__ = ["NOW", "Federation", "HubWorld", "SiteWorld", "Wire"]
