"""Workers say what they can do, so that the API knows what can run; a silent one is forgotten after a day."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from sqlalchemy import Double, LargeBinary, bindparam, delete, insert, select, update

from weft.model import JsonObject
from weft.store.link import Link, Prepared
from weft.store.rows import packed
from weft.store.schema import workers

_FORGOTTEN_SECONDS = 86_400.0

_UPDATE = Prepared(
    update(workers)
    .where(workers.c.id == bindparam("of_worker"))
    .values(
        heartbeat_at=bindparam("new_heartbeat_at", type_=Double),
        capabilities=bindparam("new_capabilities", type_=LargeBinary),
    )
)
_ADD = Prepared(insert(workers))
_FORGET = Prepared(delete(workers).where(workers.c.heartbeat_at < bindparam("before")))
_SINCE = Prepared(select(workers).where(workers.c.heartbeat_at >= bindparam("since")).order_by(workers.c.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker says of itself, so that the API knows what can run."""

    id: str
    heartbeat_at: float
    capabilities: JsonObject


def announce(link: Link, info: WorkerInfo) -> None:
    """Write a heartbeat."""
    capabilities = packed(info.capabilities)
    changed = link.run(_UPDATE, of_worker=info.id, new_heartbeat_at=info.heartbeat_at, new_capabilities=capabilities)
    if not changed:
        link.run(_FORGET, before=info.heartbeat_at - _FORGOTTEN_SECONDS)
        link.run(_ADD, id=info.id, heartbeat_at=info.heartbeat_at, capabilities=capabilities)


def heard_since(link: Link, since: float) -> tuple[WorkerInfo, ...]:
    """Return the workers whose last heartbeat is not older than ``since``."""
    return tuple(
        WorkerInfo(id=worker, heartbeat_at=heartbeat_at, capabilities=orjson.loads(capabilities))
        for worker, heartbeat_at, capabilities in link.all(_SINCE, since=since)
    )
