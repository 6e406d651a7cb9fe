"""Assignments at a hub: which attempt was given to which node, how far it is known to have come, and what it said.

Operations for ``Store.read`` and ``Store.write``. An assignment goes ``offered`` (the node was never told) -> ``sent``
(the node may know) -> ``taken`` (the node said so) -> ``ended`` (its outcome is here). ``withdrawn`` is one that was
given up: it stays until the node has been told, and nothing that the node says of it counts any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    delete,
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)

from weft.model import JsonObject, Kind
from weft.store.batches import batches, in_batch
from weft.store.link import Link, Prepared, Values
from weft.store.rows import document_bytes, packed
from weft.store.schema import assignments, nodes

#: How long a node may take to answer what it was told before it is told again, in seconds.
TOLD_AGAIN = 15.0


class Stage(StrEnum):
    """How far an assignment is known to have come."""

    OFFERED = "offered"
    SENT = "sent"
    TAKEN = "taken"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt at one job, given to a node."""

    key: str
    node: str
    kind: Kind
    stage: Stage
    owner: str
    #: Why this node, or why it was withdrawn.
    reason: str | None
    created_at: float
    cancelled: bool
    #: The newest report; see ``weft.federation.reports``.
    report: JsonObject | None
    #: When the node was last heard; None when it is no node of this hub any more.
    heard_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a node has to be told now."""

    #: (key, kind, owner, document as JSON bytes) of what it shall take. One that is to be cancelled or dropped too may
    #: be here already, by a node that died before it said so; only by taking it again can that be found.
    offers: tuple[tuple[str, Kind, str, bytes], ...] = ()
    #: Keys of what it shall cancel, and report the end of.
    cancels: tuple[str, ...] = ()
    #: Keys of what it shall cancel, and be silent about.
    drops: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.offers or self.cancels or self.drops)


_FIELDS = ("key", "node", "kind", "stage", "owner", "reason", "created_at", "cancelled", "report")
_COLUMNS = [assignments.c[name] for name in _FIELDS]
_WITH_NODE = select(*_COLUMNS, nodes.c.heard_at).select_from(
    assignments.outerjoin(nodes, nodes.c.name == assignments.c.node)
)
_BY_KEY = Prepared(_WITH_NODE.where(assignments.c.key == bindparam("key")))
_ALL = Prepared(_WITH_NODE.order_by(assignments.c.key))
_PROGRESS = Prepared(select(assignments.c.key, assignments.c.stage, assignments.c.seq))
_ADD = Prepared(
    insert(assignments).values(
        {
            **{
                name: bindparam(name, type_=assignments.c[name].type)
                for name in ("key", "node", "kind", "stage", "owner", "reason", "created_at", "document")
            },
            "cancelled": bindparam("cancelled", type_=Boolean),
            "seq": bindparam("seq", type_=BigInteger),
        }
    )
)
_KEY = assignments.c.key == bindparam("of_key", type_=Text)


def _is(*stages: str) -> ColumnElement[bool]:
    return assignments.c.stage.in_([literal_column(f"'{stage}'", Text) for stage in stages])


_IS_OPEN = _is("offered", "sent", "taken")
_DOCUMENT = Prepared(
    select(assignments.c.document).where(_KEY, assignments.c.node == bindparam("of_node", type_=Text), _IS_OPEN)
)
_CANCEL = Prepared(
    update(assignments)
    .where(_KEY, _IS_OPEN, assignments.c.cancelled.is_(false()))
    .values(cancelled=true(), told_at=null())
)
_WITHDRAW = Prepared(
    update(assignments)
    .where(_KEY, _IS_OPEN)
    .values(stage="withdrawn", told_at=null(), reason=bindparam("why", type_=Text))
)
_REMOVE = Prepared(delete(assignments).where(_KEY))
_REPORT = Prepared(
    update(assignments)
    .where(
        _KEY,
        assignments.c.node == bindparam("of_node", type_=Text),
        _is("offered", "sent", "taken"),
        assignments.c.seq < bindparam("new_seq", type_=BigInteger),
    )
    .values(
        stage=bindparam("new_stage", type_=Text),
        seq=bindparam("new_seq", type_=BigInteger),
        report=bindparam("new_report", type_=LargeBinary),
    )
)
_STAGE = Prepared(
    select(assignments.c.stage, assignments.c.node).where(assignments.c.key == bindparam("key", type_=Text))
)
_SENT = Prepared(update(assignments).where(_KEY).values(stage="sent", told_at=bindparam("now", type_=Double)))
_TOLD = Prepared(update(assignments).where(_KEY).values(told_at=bindparam("now", type_=Double)))
_UNTOLD = or_(assignments.c.told_at.is_(None), assignments.c.told_at < bindparam("before", type_=Double))
_IS_DUE = or_(
    assignments.c.stage == "offered",
    and_(_is("sent", "withdrawn"), _UNTOLD),
    and_(assignments.c.stage == "taken", assignments.c.cancelled.is_(true()), _UNTOLD),
)
_DUE = Prepared(
    select(
        assignments.c.key,
        assignments.c.kind,
        assignments.c.owner,
        assignments.c.stage,
        assignments.c.cancelled,
        assignments.c.seq,
        assignments.c.document,
    )
    .where(assignments.c.node == bindparam("of_node", type_=Text), _IS_DUE)
    .order_by(assignments.c.key)
    .limit(bindparam("most", type_=Integer))
)
_NODES_DUE = Prepared(select(assignments.c.node).where(_IS_DUE).distinct())
_TAKEN = Prepared(
    select(assignments.c.key).where(
        assignments.c.node == bindparam("of_node", type_=Text), assignments.c.stage == "taken"
    )
)
_UNTELL = Prepared(
    update(assignments).where(assignments.c.node == bindparam("of_node", type_=Text)).values(told_at=null())
)
_OPEN_BY_NODE = Prepared(
    select(assignments.c.node, assignments.c.stage, func.count())
    .where(_IS_OPEN)
    .group_by(assignments.c.node, assignments.c.stage)
)


def offer(
    link: Link, key: str, *, node: str, kind: Kind, owner: str, document: JsonObject, reason: str, now: float
) -> None:
    """Give an attempt to a node; a key that is there already stays with the node that has it."""
    if find(link, key) is None:
        link.put(
            _ADD,
            key=key,
            node=node,
            kind=kind.value,
            stage=Stage.OFFERED.value,
            owner=owner,
            reason=reason,
            created_at=now,
            document=document_bytes(document),
            cancelled=False,
            seq=0,
        )


def find(link: Link, key: str) -> Assignment | None:
    """Return the assignment of an attempt."""
    row = link.one(_BY_KEY, key=key)
    return None if row is None else _assignment(row)


def document_of(link: Link, node: str, key: str) -> JsonObject | None:
    """Return the request of an assignment that a node has; None when it has none such (any more)."""
    row = link.one(_DOCUMENT, of_key=key, of_node=node)
    document: JsonObject | None = None if row is None else orjson.loads(row[0])
    return document


def every(link: Link) -> tuple[Assignment, ...]:
    """Return all assignments, oldest job first."""
    return tuple(_assignment(row) for row in link.all(_ALL))


def of_keys(link: Link, keys: Sequence[str]) -> Mapping[str, Assignment]:
    """Return those of these keys that there are."""
    rows = (row for length, params in batches(keys) for row in link.all(_by_keys(length), **params))
    return {row[0]: _assignment(row) for row in rows}


def progress(link: Link) -> Mapping[str, tuple[Stage, int]]:
    """Return how far each assignment is, and the number of its newest report: whoever remembers sees what is new."""
    return {key: (Stage(stage), int(seq)) for key, stage, seq in link.all(_PROGRESS)}


def open_by_node(link: Link) -> Mapping[str, Mapping[Stage, int]]:
    """Count what each node has, by stage."""
    found: dict[str, dict[Stage, int]] = {}
    for node, stage, number in link.all(_OPEN_BY_NODE):
        found.setdefault(node, {})[Stage(stage)] = int(number)
    return found


def cancel(link: Link, key: str) -> None:
    """Ask the node to stop it; one that it was never told of is withdrawn at once."""
    found = link.one(_STAGE, key=key)
    if found is None:
        return
    if found[0] == Stage.OFFERED.value:
        link.run(_REMOVE, of_key=key)
    else:
        link.run(_CANCEL, of_key=key)


def withdraw(link: Link, key: str, *, reason: str | None = None) -> bool:
    """Give an assignment up: what the node says of it counts no more. False when it has ended or is not there."""
    found = link.one(_STAGE, key=key)
    return found is not None and link.run(_WITHDRAW, of_key=key, why=reason) == 1


def forget(link: Link, key: str) -> None:
    """Remove what has ended or was never sent; of the rest the node has yet to be told that it is dropped."""
    found = link.one(_STAGE, key=key)
    if found is None:
        return
    if found[0] in (Stage.OFFERED.value, Stage.ENDED.value):
        link.run(_REMOVE, of_key=key)
    else:
        withdraw(link, key)


def drop_node(link: Link, node: str, *, reason: str) -> int:
    """Withdraw all that a node has which is leaving for good; returns how many."""
    dropped = 0
    for assignment in every(link):
        if assignment.node == node:
            dropped += withdraw(link, assignment.key, reason=reason)
    return dropped


def due(link: Link, node: str, most: int, *, now: float, suspended: bool = False) -> Due:
    """Return what a node has to be told now, and note that it was told.

    :param most: offers and orders in one answer.
    :param suspended: no new work, only what concerns the old.
    """
    offers, cancels, drops = [], [], []
    for key, kind, owner, stage, cancelled, seq, document in link.all(
        _DUE, of_node=node, before=now - TOLD_AGAIN, most=most
    ):
        if stage == Stage.OFFERED.value and suspended:
            continue
        if stage == Stage.WITHDRAWN.value:
            drops.append(key)
        elif cancelled:
            cancels.append(key)
        if not seq:  # the node never said that it has it, but may have made a job of it and died
            offers.append((key, Kind(kind), owner, bytes(document)))
        link.put(_SENT if stage == Stage.OFFERED.value else _TOLD, of_key=key, now=now)
    return Due(offers=tuple(offers), cancels=tuple(cancels), drops=tuple(drops))


def untell(link: Link, node: str) -> None:
    """Note that the last answer did not reach the node, so that it is told again at once."""
    link.run(_UNTELL, of_node=node)


def nodes_due(link: Link, *, now: float) -> frozenset[str]:
    """Return the nodes that have to be told something now."""
    return frozenset(node for (node,) in link.all(_NODES_DUE, before=now - TOLD_AGAIN))


def taken_by(link: Link, node: str) -> frozenset[str]:
    """Return the keys that a node has taken and not ended."""
    return frozenset(key for (key,) in link.all(_TAKEN, of_node=node))


def take_in(link: Link, node: str, key: str, seq: int, stage: Stage, report: JsonObject) -> bool:
    """Save what a node says of an assignment, unless it is older than what is known.

    False: it is not (or no longer) this node's, so the node must end what it has of it.
    """
    if link.run(_REPORT, of_key=key, of_node=node, new_seq=seq, new_stage=stage.value, new_report=packed(report)):
        return True
    found = link.one(_STAGE, key=key)
    return found is not None and found[1] == node and found[0] != Stage.WITHDRAWN.value


def dropped(link: Link, node: str, key: str) -> None:
    """Forget a withdrawn assignment: its node has been told."""
    found = link.one(_STAGE, key=key)
    if found is not None and (found[0], found[1]) == (Stage.WITHDRAWN.value, node):
        link.run(_REMOVE, of_key=key)


@cache
def _by_keys(length: int) -> Prepared:
    return Prepared(_WITH_NODE.where(in_batch(assignments.c.key, length)))


def _assignment(row: Values) -> Assignment:
    key, node, kind, stage, owner, reason, created_at, cancelled, report, heard_at = row
    return Assignment(
        key=key,
        node=node,
        kind=Kind(kind),
        stage=Stage(stage),
        owner=owner,
        reason=reason,
        created_at=created_at,
        cancelled=bool(cancelled),
        report=None if report is None else orjson.loads(report),
        heard_at=heard_at,
    )
