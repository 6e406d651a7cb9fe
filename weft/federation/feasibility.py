"""What a hub checks when a request comes in: that one of its nodes, or each of those that are named, could run it."""

from __future__ import annotations

from dataclasses import dataclass

from weft.clock import Clock
from weft.federation import routing
from weft.federation.routing import Candidate
from weft.model import JsonObject, Kind
from weft.store import assignments, nodes
from weft.store.nodes import Standing
from weft.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFeasibility:
    """Asks routing before a request is stored."""

    store: Store
    clock: Clock
    silent_seconds: float

    def check(self, kind: Kind, document: JsonObject) -> None:
        """Refuse what could never run.

        :raises InvalidRequest: names the member and what is missing.
        """
        routing.check(candidates(self.store, now=self.clock(), silent_seconds=self.silent_seconds), kind, document)


def candidates(store: Store, *, now: float, silent_seconds: float) -> list[Candidate]:
    """Return the nodes of a hub as routing sees them."""
    counts = store.read(assignments.open_by_node)
    return [
        Candidate(
            name=node.name,
            suspended=node.standing is Standing.SUSPENDED,
            healthy=now - node.heard_at <= silent_seconds,
            open=sum(counts.get(node.name, {}).values()),
            declared=node.declared,
        )
        for node in store.read(nodes.every)
    ]
