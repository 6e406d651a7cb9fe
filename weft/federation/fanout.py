"""One request to several nodes: what it asks for, the request of each node, and what the answers come to. Pure.

A task says so in ``backend_parameters``, a run in its engine parameters: ``nodes`` is ``cz,ee,pt`` and ``require`` is
``all`` (which is also meant where it says nothing) or ``quorum:2``. The tags ``Project`` and ``tres`` (``cz|ee``)
mean the same as ``nodes``, as clients of 5S-TES write it. ``{node}`` in the URL of an output is the node's name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weft.errors import InvalidRequest
from weft.federation import wishes
from weft.model import Attempt, Job, JsonObject, Kind, StepResult
from weft.ports import Failure, Observation, Phase
from weft.states import State

NODES = wishes.NODES
REQUIRE = wishes.REQUIRE
PLACE = "{node}"
_PROJECT = "Project"
_TRES = "tres"
_QUORUM = re.compile(r"quorum:([0-9]{1,4})")
_MOST_NODES = 1000
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BEGUN = frozenset({State.RUNNING, State.CANCELING})


@dataclass(frozen=True, slots=True)
class FanOut:
    """Which nodes are asked, and how many of them must do it."""

    nodes: tuple[str, ...]
    quorum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What became of one node's part; ``job`` is None where it is gone."""

    node: str
    job: Job | None
    attempt: Attempt | None = None
    #: Why it ended, in the words of its system log.
    reason: str | None = None
    #: Its outputs, with paths below the parent's folder.
    outputs: JsonObject | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.job is None or self.job.state.terminal

    @property
    def done(self) -> bool:
        """Whether it did what was asked."""
        return self.job is not None and self.job.state is State.COMPLETE


def read(kind: Kind, document: Mapping[str, Any]) -> FanOut | None:
    """Return the fan-out that a request asks for; None where it asks for none.

    :raises InvalidRequest: no node, one twice, a quorum that cannot be, outputs in one place, or a node besides.
    """
    given, tags = wishes.of(kind, document), document.get("tags") or {}
    by_tags = _TRES in tags and _PROJECT in tags
    if NODES not in given and not by_tags:
        if REQUIRE in given:
            raise _wrong(kind, REQUIRE, "means nothing without nodes", "name the nodes, such as nodes = cz,ee")
        return None
    field = NODES if NODES in given else f"tags.{_TRES}"
    named = given[NODES].split(",") if NODES in given else str(tags[_TRES]).split("|")
    nodes = tuple(name.strip() for name in named)
    if not all(nodes) or len(set(nodes)) != len(nodes) or len(nodes) > _MOST_NODES:
        raise _wrong(kind, field, "is no list of different nodes", "such as cz,ee,pt")
    if wishes.NODE in given:
        raise _wrong(kind, wishes.NODE, "names one node and nodes several", "send one of the two")
    if kind is Kind.TASK:
        _check_outputs(document, nodes)
    return FanOut(nodes, _quorum(kind, given.get(REQUIRE, "all"), len(nodes)))


def child_id(parent: str, attempt: int, node: str) -> str:
    """Return the id of a node's part: always the same one, made at the parent's time."""
    digest = int.from_bytes(hashlib.sha256(f"{parent} {attempt} {node}".encode()).digest()[:10], "big")
    rest = "".join(_ALPHABET[(digest >> shift) & 31] for shift in range(75, -1, -5))
    return parent[:10] + rest


def child_document(kind: Kind, document: JsonObject, node: str) -> JsonObject:
    """Return the request for one node."""
    own = {name: value for name, value in wishes.of(kind, document).items() if name not in (NODES, REQUIRE)}
    own[wishes.NODE] = node
    tags = {name: value for name, value in (document.get("tags") or {}).items() if name != _TRES}
    rest = {**document, **({"tags": tags} if "tags" in document else {})}
    if kind is Kind.RUN:
        return {**rest, "workflow_engine_parameters": own}
    resources = {**document.get("resources", {}), "backend_parameters": own}
    outputs = [{**item, "url": item["url"].replace(PLACE, node)} for item in document.get("outputs", ())]
    return {**rest, "resources": resources, **({"outputs": outputs} if outputs else {})}


def merged(wish: FanOut, children: Sequence[Child]) -> Observation:
    """Say what the parts come to: one observation of the whole."""
    messages = tuple(_said(child) for child in children if child.over)
    metadata = {f"node.{child.node}": "GONE" if child.job is None else child.job.state.value for child in children}
    if not all(child.over for child in children):
        begun = any(child.over or (child.job is not None and child.job.state in _BEGUN) for child in children)
        return Observation(phase=Phase.RUNNING if begun else Phase.WAITING, messages=messages, metadata=metadata)
    done = [child for child in children if child.done]
    enough, partial = len(done) >= wish.quorum, len(done) < len(children)
    summary = _summary(wish, children)
    return Observation(
        phase=Phase.ENDED,
        steps=_steps(done if enough else [child for child in children if not child.done]),
        failure=None if enough or _only_steps_failed(children) else Failure(reason=summary),
        metadata=metadata | {"nodes": f"{len(done)} of {len(children)}", "partial": str(partial).lower()},
        messages=(*messages, summary) if partial else messages,
        outputs=tuple(output for child in children if child.attempt is not None for output in child.attempt.outputs),
        run_outputs=_run_outputs(children, partial=partial),
    )


def with_paths(outputs: Any, moved: Callable[[str], str | None]) -> Any:
    """Copy an output object with each string replaced for which ``moved`` gives another."""
    if isinstance(outputs, dict):
        return {key: with_paths(value, moved) for key, value in outputs.items()}
    if isinstance(outputs, list):
        return [with_paths(value, moved) for value in outputs]
    if isinstance(outputs, str):
        return moved(outputs) or outputs
    return outputs


def _check_outputs(document: Mapping[str, Any], nodes: Sequence[str]) -> None:
    for index, item in enumerate(document.get("outputs") or ()):
        if PLACE not in str(item.get("url")) and len(nodes) > 1:
            field = f"outputs[{index}].url"
            raise InvalidRequest(
                f"{field}: all nodes would store it in one place", field=field, remedy=f"put {PLACE} into the URL"
            )


def _quorum(kind: Kind, text: str, nodes: int) -> int:
    if text == "all":
        return nodes
    match = _QUORUM.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= nodes:
        raise _wrong(kind, REQUIRE, f"is {text[:100]!r}", f"all, or quorum:N with N from 1 to {nodes}")
    return int(match[1])


def _wrong(kind: Kind, name: str, what: str, remedy: str) -> InvalidRequest:
    prefix = "workflow_engine_parameters" if kind is Kind.RUN else "resources.backend_parameters"
    field = name if name.startswith("tags.") else f"{prefix}.{name}"
    return InvalidRequest(f"{field} {what}", field=field, remedy=remedy)


def _said(child: Child) -> str:
    state = "gone" if child.job is None else child.job.state.value
    reason = "" if child.done or not child.reason else f": {child.reason}"
    return f"node {child.node}: {state}{reason}"


def _summary(wish: FanOut, children: Sequence[Child]) -> str:
    done = sum(1 for child in children if child.done)
    wanted = "all are required" if wish.quorum == len(children) else f"{wish.quorum} are required"
    missing = "; ".join(_said(child) for child in children if not child.done)
    return f"partial result: {done} of {len(children)} nodes did it ({wanted}); {missing}"


def _only_steps_failed(children: Sequence[Child]) -> bool:
    """Tell whether the programs alone are at fault, and their exit codes say it."""
    failed = [child for child in children if not child.done]
    return all(
        child.job is not None
        and child.job.state is State.EXECUTOR_ERROR
        and child.attempt is not None
        and any(step.exit_code for step in child.attempt.steps)
        for child in failed
    )


def _steps(children: Sequence[Child]) -> tuple[StepResult, ...]:
    """Stand for all by the first, from the first start to the last end."""
    every = [child.attempt.steps for child in children if child.attempt is not None]
    if not every:
        return ()
    steps = []
    for index, step in enumerate(every[0]):
        same = [other[index] for other in every if index < len(other)]
        starts = [one.started_at for one in same if one.started_at is not None]
        ends = [one.ended_at for one in same if one.ended_at is not None]
        steps.append(
            StepResult(
                started_at=min(starts, default=None),
                ended_at=max(ends, default=None),
                exit_code=step.exit_code,
                reason=step.reason,
            )
        )
    return tuple(steps)


def _run_outputs(children: Sequence[Child], *, partial: bool) -> JsonObject | None:
    if not any(child.job is not None and child.job.kind is Kind.RUN for child in children):
        return None
    parts = {
        child.node: {
            "state": "GONE" if child.job is None else child.job.state.value,
            **({"run_id": child.job.id} if child.job is not None else {}),
            **({"reason": child.reason} if child.reason and not child.done else {}),
            "outputs": child.outputs or {},
        }
        for child in children
    }
    return {"partial": partial, "nodes": parts}
