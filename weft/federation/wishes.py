"""What a request says to the hub itself: ``backend_parameters`` of a task, engine parameters of a run. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from weft.model import JsonObject, Kind
from weft.parameters import MAX_RETRIES

#: The node that the caller names.
NODE = "node"
#: Seconds of a node's silence after which the attempt is given up.
GIVE_UP_AFTER = "give_up_after"
#: Several nodes, each of which shall do it; and how many of them must (``weft.federation.fanout``).
NODES = "nodes"
REQUIRE = "require"
#: What a hub understands; the rest is for the node.
OWN_PARAMETERS = frozenset({NODE, NODES, REQUIRE, GIVE_UP_AFTER})


def of(kind: Kind, document: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the parameters of a stored request, for hub and node."""
    if kind is Kind.RUN:
        return dict(document.get("workflow_engine_parameters", {}))
    return dict(document.get("resources", {}).get("backend_parameters", {}))


def give_up_after(kind: Kind, document: Mapping[str, Any]) -> float | None:
    """Return how long its node may be silent, in seconds; None for as long as it takes."""
    try:
        seconds = float(of(kind, document).get(GIVE_UP_AFTER, ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def without_wishes(kind: Kind, document: JsonObject) -> JsonObject:
    """Copy a request for the node, without what was for the hub alone; the hub also counts the retries."""
    rest = {name: value for name, value in of(kind, document).items() if name not in OWN_PARAMETERS | {MAX_RETRIES}}
    if kind is Kind.RUN:
        return {**document, "workflow_engine_parameters": rest}
    if "resources" not in document:
        return dict(document)
    resources = {name: value for name, value in document["resources"].items() if name != "backend_parameters"}
    return {**document, "resources": {**resources, "backend_parameters": rest} if rest else resources}
