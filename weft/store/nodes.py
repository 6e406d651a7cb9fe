"""Nodes at a hub: who was invited, who joined, when each was heard, and which signed requests came already.

Operations for ``Store.read`` and ``Store.write``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

import orjson
from sqlalchemy import Double, LargeBinary, Text, bindparam, delete, insert, select, update

from weft.errors import Conflict, Forbidden, Unauthenticated
from weft.model import JsonObject
from weft.store.link import Link, Prepared, Values
from weft.store.rows import packed
from weft.store.schema import invites, nodes, nonces

_ADD_INVITE = Prepared(insert(invites))
_FORGET_INVITES = Prepared(delete(invites).where(invites.c.expires_at <= bindparam("now", type_=Double)))
_INVITE = Prepared(
    select(invites.c.name, invites.c.expires_at, invites.c.used_by).where(invites.c.hash == bindparam("hash"))
)
_USE_INVITE = Prepared(
    update(invites).where(invites.c.hash == bindparam("of_hash")).values(used_by=bindparam("user", type_=Text))
)
_ALL = Prepared(select(nodes).order_by(nodes.c.name))
_ONE = Prepared(select(nodes).where(nodes.c.name == bindparam("name")))
_ADD = Prepared(insert(nodes))
_REMOVE = Prepared(delete(nodes).where(nodes.c.name == bindparam("name")))
_HEARD = Prepared(
    update(nodes)
    .where(nodes.c.name == bindparam("of_node"))
    .values(heard_at=bindparam("now", type_=Double), load=bindparam("new_load", type_=LargeBinary))
)
_DECLARE = Prepared(
    update(nodes)
    .where(nodes.c.name == bindparam("of_node"))
    .values(declared=bindparam("new_declared", type_=LargeBinary))
)
_STAND = Prepared(
    update(nodes).where(nodes.c.name == bindparam("of_node")).values(standing=bindparam("new_standing", type_=Text))
)
_SEEN = Prepared(select(nonces.c.nonce).where(nonces.c.node == bindparam("node"), nonces.c.nonce == bindparam("nonce")))
_ADD_NONCE = Prepared(insert(nonces))
_FORGET_NONCES = Prepared(delete(nonces).where(nonces.c.expires_at <= bindparam("now", type_=Double)))


class Standing(StrEnum):
    """Whether a node gets new work."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A site that joined, as the hub knows it."""

    name: str
    #: JWK of the public half.
    public_key: JsonObject
    standing: Standing
    joined_at: float
    heard_at: float
    #: What the site says of itself; see ``weft.federation.declaration``.
    declared: JsonObject = field(default_factory=dict)
    #: ``queued`` and ``running`` jobs of the site at its last heartbeat.
    load: JsonObject = field(default_factory=dict)


def invite(link: Link, token: str, name: str, *, now: float, expires_at: float) -> None:
    """Let whoever shows ``token`` join once as ``name``."""
    link.run(_FORGET_INVITES, now=now)
    link.put(_ADD_INVITE, hash=_hash(token), name=name, created_at=now, expires_at=expires_at, used_by=None)


def join(link: Link, token: str, thumbprint: str, node: Node) -> Node:
    """Use an invitation up and add the node; the same key may say it again, because its answer can get lost.

    :raises Unauthenticated: there is no such invitation, or its time is over.
    :raises Forbidden: it is for another name, or somebody else has used it.
    :raises Conflict: a node of this name is here with another key.
    """
    found = link.one(_INVITE, hash=_hash(token))
    if found is None or float(found[1]) <= node.joined_at:
        raise Unauthenticated(
            "the enrolment token is unknown or has expired", field="token", remedy="ask the hub for a new one"
        )
    name, _, used_by = found
    if name != node.name:
        raise Forbidden(f"the enrolment token is for the name {name!r}", field="name", remedy=f"join as {name}")
    if used_by not in (None, thumbprint):
        raise Forbidden("the enrolment token was used already", field="token", remedy="ask the hub for a new one")
    known = get(link, node.name)
    if known is not None:
        if known.public_key != node.public_key:
            raise Conflict(
                f"a node {node.name!r} is here already",
                field="name",
                remedy=f"let the hub's operator say: weft node remove {node.name}",
            )
        return known
    link.run(_USE_INVITE, of_hash=_hash(token), user=thumbprint)
    link.put(
        _ADD,
        name=node.name,
        public_key=packed(node.public_key),
        standing=node.standing.value,
        joined_at=node.joined_at,
        heard_at=node.heard_at,
        declared=packed(node.declared),
        load=None,
    )
    return node


def get(link: Link, name: str) -> Node | None:
    """Return a node; None when there is none of this name."""
    row = link.one(_ONE, name=name)
    return None if row is None else _node(row)


def every(link: Link) -> tuple[Node, ...]:
    """Return all nodes by name."""
    return tuple(_node(row) for row in link.all(_ALL))


def stand(link: Link, name: str, standing: Standing) -> bool:
    """Give a node new work, or none; False when there is none of this name."""
    return link.run(_STAND, of_node=name, new_standing=standing.value) == 1


def remove(link: Link, name: str) -> bool:
    """Forget a node and its key; False when there was none."""
    return link.run(_REMOVE, name=name) == 1


def declare(link: Link, name: str, declared: JsonObject) -> None:
    """Save what a node says of itself."""
    link.run(_DECLARE, of_node=name, new_declared=packed(declared))


def heard(link: Link, name: str, load: JsonObject, *, now: float) -> None:
    """Save a heartbeat."""
    link.run(_HEARD, of_node=name, now=now, new_load=packed(load))


def spend(link: Link, name: str, nonce: str, *, now: float, expires_at: float) -> None:
    """Let a signed request in once.

    :raises Unauthenticated: it came already.
    """
    if link.one(_SEEN, node=name, nonce=nonce) is not None:
        raise Unauthenticated("this signed request came already", remedy="sign each request anew")
    link.run(_FORGET_NONCES, now=now)
    link.put(_ADD_NONCE, node=name, nonce=nonce, expires_at=expires_at)


def _node(row: Values) -> Node:
    name, public_key, standing, joined_at, heard_at, declared, load = row
    return Node(
        name=name,
        public_key=orjson.loads(public_key),
        standing=Standing(standing),
        joined_at=joined_at,
        heard_at=heard_at,
        declared=orjson.loads(declared),
        load={} if load is None else orjson.loads(load),
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
