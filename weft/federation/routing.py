"""Which node gets a job. Pure: what the hub knows of its nodes goes in, a name and the reasons come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.errors import ExecutorRefused, Unavailable
from weft.federation import wishes
from weft.model import JsonObject, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node as routing sees it."""

    name: str
    suspended: bool = False
    #: Heard of lately.
    healthy: bool = True
    #: Assignments that it has and that have not ended.
    open: int = 0
    declared: JsonObject = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """How many jobs it takes at once, as far as it said."""
        able: Mapping[str, Any] = self.declared.get("executor", {})
        return int(able.get("slots") or able.get("cpu_cores") or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What routing looks at of a job."""

    kind: Kind
    document: JsonObject

    @property
    def parameters(self) -> Mapping[str, str]:
        """The caller's wishes: backend parameters of a task, engine parameters of a run."""
        return wishes.of(self.kind, self.document)


@dataclass(frozen=True, slots=True)
class Choice:
    """A node, and for the job's system log why it is this one."""

    node: str
    reason: str


def choose_node(nodes: Sequence[Candidate], ask: Ask) -> Choice:
    """Choose: the one that the caller names, else the healthy one with the least work for its size.

    :raises ExecutorRefused: no node can ever take it.
    :raises Unavailable: none can now.
    """
    wish = ask.parameters.get(wishes.NODE)
    if wish is not None:
        return _wished(nodes, wish)
    if not nodes:
        raise Unavailable("no node has joined this hub", remedy="weft node invite NAME")
    ready = [node for node in nodes if node.healthy and not node.suspended]
    if not ready:
        raise Unavailable("no node is ready: " + ", ".join(f"{node.name} {_why_not(node)}" for node in nodes))
    best = min(ready, key=lambda node: (node.open / node.slots, node.name))
    others = ", ".join(f"{node.name} has {node.open} of {node.slots}" for node in ready if node is not best)
    reason = f"node {best.name} was chosen: it has {best.open} jobs of {best.slots} at once"
    return Choice(best.name, f"{reason}; {others}" if others else reason)


def _wished(nodes: Sequence[Candidate], wish: str) -> Choice:
    node = next((node for node in nodes if node.name == wish), None)
    if node is None:
        raise ExecutorRefused(
            f"there is no node {wish!r} at this hub", remedy=f"one of: {', '.join(item.name for item in nodes) or '-'}"
        )
    if node.suspended:
        raise Unavailable(f"node {wish} is suspended by the hub's operator")
    return Choice(wish, f"node {wish} was chosen: the request names it")


def _why_not(node: Candidate) -> str:
    return "is suspended" if node.suspended else "has not been heard from"
