"""Which node gets a job. Pure: what the hub knows of its nodes goes in, a name and the reasons come out.

The caller's wish comes first, then where the data lie, what a node can run, whether it is there, and how much it has
to do. What can never be is told from what only has to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.errors import ExecutorRefused, InvalidRequest, Unavailable
from weft.federation import fanout, wishes
from weft.model import JsonObject, Kind

_DATASET = "dataset://"
_GB = 10**9
#: Member of tesResources -> capability of an executor, how much of it is one of the member, and the unit.
_RESOURCES = {
    "cpu_cores": ("cpu_cores", 1, ""),
    "ram_gb": ("ram_bytes", _GB, " GB"),
    "disk_gb": ("disk_bytes", _GB, " GB"),
}


class Impossible(ExecutorRefused, InvalidRequest):
    """No node can ever run this."""


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
        able = self.executor
        return int(able.get("slots") or able.get("cpu_cores") or 1)

    @property
    def executor(self) -> Mapping[str, Any]:
        """What its executor can do."""
        able: Mapping[str, Any] = self.declared.get("executor") or {}
        return able

    def dataset_of(self, url: str) -> str | None:
        """Return the id of its dataset that a URL leads into; None when there is none."""
        for dataset in self.declared.get("datasets", ()):
            prefixes = [f"{_DATASET}{dataset['id']}", *dataset.get("urls", ())]
            if any(_leads_into(url, prefix) for prefix in prefixes):
                return str(dataset["id"])
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What routing looks at of a job."""

    kind: Kind
    document: JsonObject

    @property
    def parameters(self) -> Mapping[str, str]:
        """The caller's wishes: backend parameters of a task, engine parameters of a run."""
        return wishes.of(self.kind, self.document)

    @property
    def urls(self) -> tuple[tuple[str, str], ...]:
        """Return (member of the request, URL) of all that is read."""
        if self.kind is Kind.RUN:
            return tuple(_texts("workflow_params", self.document.get("workflow_params") or {}))
        inputs = self.document.get("inputs") or ()
        return tuple((f"inputs[{index}].url", item["url"]) for index, item in enumerate(inputs) if item.get("url"))


@dataclass(frozen=True, slots=True)
class Choice:
    """A node, and for the job's system log why it is this one."""

    node: str
    reason: str


def choose_node(nodes: Sequence[Candidate], ask: Ask) -> Choice:
    """Choose among the nodes that could do it the one that is there and has the least work for its size.

    :raises Impossible: no node can ever take it; says what is missing.
    :raises Unavailable: none can now.
    """
    if not nodes:
        raise Unavailable("no node has joined this hub", remedy="weft node invite NAME")
    able, reasons = able_nodes(nodes, ask)
    ready = [node for node in able if not node.suspended and (node.healthy or len(able) == 1)]
    if not ready:
        raise Unavailable("no node is ready: " + ", ".join(f"node {node.name} {_why_not(node)}" for node in able))
    best = min(ready, key=lambda node: (node.open / node.slots, node.name))
    reasons = [*reasons, *(f"{node.name} {_why_not(node)}" for node in able if node not in ready)]
    if len(ready) > 1:
        load = ", ".join(f"{node.name} has {node.open} of {node.slots}" for node in ready)
        reasons.append(f"of its size it has the least to do ({load})")
    return Choice(best.name, f"node {best.name} was chosen: {'; '.join(reasons) or 'it is the only one'}")


def able_nodes(nodes: Sequence[Candidate], ask: Ask) -> tuple[list[Candidate], list[str]]:
    """Return the nodes that could do it if they were there and free, and why these.

    :raises Impossible: there is none.
    """
    able, reasons = _wished(nodes, ask)
    able, held = _holding(able, nodes, ask)
    fit, unfit = _fitting(able, ask)
    return fit, [*reasons, *held, *unfit]


def check(nodes: Sequence[Candidate], kind: Kind, document: JsonObject) -> None:
    """Refuse at its coming in what could never run; nodes that are silent or busy do not count against it.

    :raises InvalidRequest: names the member and what is missing.
    """
    wish = fanout.read(kind, document)
    if not nodes:
        return
    if wish is None:
        able_nodes(nodes, Ask(kind=kind, document=document))
        return
    for node in wish.nodes:
        able_nodes(nodes, Ask(kind=kind, document=fanout.child_document(kind, document, node)))


def _wished(nodes: Sequence[Candidate], ask: Ask) -> tuple[list[Candidate], list[str]]:
    wish = ask.parameters.get(wishes.NODE)
    if wish is None:
        return list(nodes), []
    found = [node for node in nodes if node.name == wish]
    if not found:
        known = ", ".join(sorted(node.name for node in nodes)) or "none"
        raise Impossible(
            f"there is no node {wish!r} at this hub", field=_field(ask, wishes.NODE), remedy=f"one of: {known}"
        )
    return found, ["the request names it"]


def _holding(able: list[Candidate], every: Sequence[Candidate], ask: Ask) -> tuple[list[Candidate], list[str]]:
    """Keep the nodes that hold everything that is read and lies at nodes."""
    reasons: list[str] = []
    holders: dict[str, list[str]] = {}
    for member, url in ask.urls:
        held_by = [node.name for node in every if node.dataset_of(url) is not None]
        if not held_by and url.startswith(_DATASET):
            raise Impossible(f"{member}: no node of this hub holds {url}", field=member, remedy="see weft node list")
        if not held_by:
            continue
        holders[f"{member} ({url})"] = held_by
        left = [node for node in able if node.name in held_by]
        if not left:
            raise _apart(member, holders, able)
        able = left
        ids = sorted({node.dataset_of(url) or "" for node in able})
        reasons.append(f"it holds {', '.join(ids)}")
    return able, list(dict.fromkeys(reasons))


def _apart(member: str, holders: Mapping[str, Sequence[str]], able: Sequence[Candidate]) -> Impossible:
    where = "; ".join(f"{what} is held by {', '.join(names)}" for what, names in holders.items())
    if len(holders) == 1:
        names = ", ".join(node.name for node in able)
        return Impossible(
            f"{where}, and not by {names}; data do not move", field=member, remedy="ask a node that holds it"
        )
    return Impossible(
        f"no node holds all inputs: {where}; data do not move",
        field=member,
        remedy="send one request to each node, or one to several (nodes = …) that names what each of them has",
    )


def _fitting(able: Sequence[Candidate], ask: Ask) -> tuple[list[Candidate], list[str]]:
    """Keep the nodes that can run it at all."""
    lacking = {node.name: _lacks(node, ask) for node in able}
    fit = [node for node in able if lacking[node.name] is None]
    said = [f"{name} {lack[1]}" for name, lack in lacking.items() if lack is not None]
    if not fit:
        members = [lack[0] for lack in lacking.values() if lack is not None]
        raise Impossible(
            f"no node can run it: {'; '.join(said)}",
            field=members[0] if members else None,
            remedy="ask for less, or another node",
        )
    return fit, said


def _lacks(node: Candidate, ask: Ask) -> tuple[str, str] | None:
    """Return the member that a node cannot serve, and why; None when it can serve all."""
    if ask.kind is Kind.RUN:
        return _lacks_engine(node, str(ask.document.get("workflow_type")))
    resources = ask.document.get("resources") or {}
    for member, (capability, scale, unit) in _RESOURCES.items():
        asked, most = resources.get(member), node.executor.get(capability)
        if asked is not None and most is not None and asked * scale > most:
            return f"resources.{member}", f"has {most / scale:g}{unit} and not {asked:g}{unit} ({member})"
    return None


def _lacks_engine(node: Candidate, wanted: str) -> tuple[str, str] | None:
    types = (node.declared.get("wes") or {}).get("workflow_type_versions")
    if not types or wanted in types:
        return None
    return "workflow_type", f"runs {', '.join(sorted(types))} and not {wanted}"


def _field(ask: Ask, name: str) -> str:
    return f"workflow_engine_parameters.{name}" if ask.kind is Kind.RUN else f"resources.backend_parameters.{name}"


def _texts(member: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(member, value)]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _texts(f"{member}.{key}", item)]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _texts(f"{member}[{index}]", item)]
    return []


def _leads_into(url: str, prefix: str) -> bool:
    """Tell whether ``url`` is at or below ``prefix``; one that ends with ``/`` or ``:`` says where names begin."""
    return url == prefix or url.startswith(prefix if prefix.endswith(("/", ":")) else f"{prefix}/")


def _why_not(node: Candidate) -> str:
    return "is suspended by the hub's operator" if node.suspended else "has not been heard from"
