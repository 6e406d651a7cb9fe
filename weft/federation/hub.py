"""The hub's side of the nodes' protocol: enrolment, claims, reports. Knows no web framework.

Each operation after the enrolment is signed (``weft.federation.proofs``); its nonce, the heartbeat and what it does
are one transaction, so a request that came twice changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import orjson

from weft.clock import Clock
from weft.errors import InvalidRequest, NotFound, Unauthenticated
from weft.federation import declaration, inbox, proofs, reports
from weft.federation.switchboard import Switchboard
from weft.folders import Folders
from weft.http.forms import send_form
from weft.http.request import Request
from weft.model import JsonObject
from weft.store import assignments, nodes
from weft.store.assignments import Due, Stage
from weft.store.link import Link
from weft.store.nodes import Node, Standing
from weft.store.store import Store

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
#: Longest wait of a claim, in seconds: below the idle limit of common proxies.
LONGEST_WAIT = 30.0
#: Offers and orders in one answer.
_MOST = 256
_MOST_REPORTS = 1000
_LONGEST_TOKEN = 256


class NodesApi:
    """What nodes ask of their hub."""

    def __init__(self, *, store: Store, folders: Folders, clock: Clock, release_bytes: int = 1 << 30) -> None:
        """Keep the collaborators; rings of the store wake nodes that wait.

        :param release_bytes: the largest file that a node may release to this hub.
        """
        self.release_bytes = release_bytes
        self.store = store
        self.folders = folders
        self.clock = clock
        self.switchboard = Switchboard(lambda: store.read(partial(assignments.nodes_due, now=clock())))
        store.on_change(self.switchboard.ring)

    # -- enrolment ---------------------------------------------------------------------------------------------

    def join_node(self, request: Request, body: Any, stream: IO[bytes]) -> JsonObject:
        """Let a site in that has an enrolment token, and keep its public key.

        :raises Unauthenticated, Forbidden, Conflict: see ``nodes.join``.
        :raises InvalidRequest: names the member that is wrong.
        """
        name, token = checked_name(_member(body, "name", str)), _member(body, "token", str)
        key = proofs.public_key(body.get("public_key"))
        declared = declaration.checked(_member(body, "declared", dict))
        now = self.clock()
        proof = proofs.check(_authorization(request), key, "POST", "/nodes", stream.read(), now=now)
        node = Node(name=name, public_key=key, standing=Standing.ACTIVE, joined_at=now, heard_at=now, declared=declared)

        def join(link: Link) -> Node:
            _spend(link, proof, now)
            return nodes.join(link, token[:_LONGEST_TOKEN], proofs.thumbprint(key), node)

        joined = self.store.write(join)
        return {"name": joined.name, "joined_at": joined.joined_at, "now": now}

    def declare_node(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject:
        """Take in what a node says of itself now."""
        node, proof, now = self._admitted(request, stream, name, "declare")
        declared = declaration.checked(_member(body, "declared", dict))

        def declare(link: Link) -> None:
            _spend(link, proof, now)
            nodes.declare(link, node.name, declared)

        self.store.write(declare)
        return {"now": now, "standing": node.standing.value}

    def leave_hub(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject:
        """Forget a node that leaves; what it has not ended is given up."""
        node, proof, now = self._admitted(request, stream, name, "leave")
        del body

        def leave(link: Link) -> int:
            _spend(link, proof, now)
            return remove(link, node.name, "node {} has left the hub")

        return {"now": now, "given_up": self.store.write(leave, rings=True)}

    # -- work --------------------------------------------------------------------------------------------------

    def claim_jobs(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject | bytes:
        """Tell a node what it has to do, without waiting."""
        node, proof, now = self._admitted(request, stream, name, "claim")
        due, missing = self.store.write(partial(_claim, node=node, proof=proof, body=_claimed(body), now=now))
        return _answer(due, missing, node, now)

    async def claim_jobs_soon(self, request: Request, body: Any, stream: IO[bytes], name: str) -> bytes:
        """``claim_jobs`` for the event loop: with nothing to do, wait until there is, for at most ``wait`` seconds."""
        node, proof, now = self._admitted(request, stream, name, "claim")
        claimed = _claimed(body)
        with self.switchboard.line(node.name) as event:
            due, missing = await self._soon(partial(_claim, node=node, proof=proof, body=claimed, now=now))
            if not due and not missing and await _waited(event, claimed["wait"]):
                now = self.clock()
                if self.switchboard.is_last(node.name, event):
                    due = await self._soon(partial(_due, node=node, now=now))
        return _answer(due, missing, node, now)

    def report_jobs(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject:
        """Take in how a node's jobs stand."""
        node, proof, now = self._admitted(request, stream, name, "report")
        kept = self.store.write(partial(_report, node=node, proof=proof, body=body, now=now), rings=True)
        return _kept(kept, node, now)

    async def report_jobs_soon(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject:
        """``report_jobs`` for the event loop."""
        node, proof, now = self._admitted(request, stream, name, "report")
        operation = partial(_report, node=node, proof=proof, body=body, now=now)
        return _kept(await asyncio.wrap_future(self.store.write_soon(operation, rings=True)), node, now)

    def fetch_run(self, request: Request, body: Any, stream: IO[bytes], name: str) -> Any:
        """Send the form of a run that was given to the node, with its attachments.

        :raises NotFound: it was not, or is no longer.
        """
        node, proof, now = self._admitted(request, stream, name, "fetch")
        key = _member(body, "key", str)

        def document(link: Link) -> JsonObject | None:
            _spend(link, proof, now)
            return assignments.document_of(link, node.name, key)

        run = self.store.write(document)
        if run is None:
            raise NotFound(f"there is no run {key[:100]!r} for this node", field="key")
        fields = {
            member: value if isinstance(value, str) else orjson.dumps(value).decode() for member, value in run.items()
        }
        folder = self.folders.work(key.rpartition("-")[0])
        return send_form(fields, folder, list(_files(folder)), name="workflow_attachment")

    def release_file(self, request: Request, body: Any, stream: IO[bytes], name: str) -> JsonObject:
        """Take in a part of a file that a node has released.

        :raises NotFound: the job is not, or no longer, the node's.
        :raises InvalidRequest, TooLarge: see ``inbox.receive``.
        """
        node, proof, now = self._admitted(request, stream, name, "release")
        key = _member(body, "key", str)

        def whose(link: Link) -> assignments.Assignment | None:
            _spend(link, proof, now)
            return assignments.find(link, key)

        found = self.store.write(whose)
        if found is None or found.node != node.name or found.stage in (Stage.ENDED, Stage.WITHDRAWN):
            raise NotFound(f"there is no job {key[:100]!r} of this node that runs", field="key")
        whole = inbox.receive(self.folders, key.rpartition("-")[0], body, most=self.release_bytes)
        return {"now": now, "standing": node.standing.value, "whole": whole}

    # -- shared ------------------------------------------------------------------------------------------------

    def _admitted(
        self, request: Request, stream: IO[bytes], name: str, action: str
    ) -> tuple[Node, proofs.Proof, float]:
        node, now = self.store.read(partial(nodes.get, name=name)), self.clock()
        if node is None:
            raise Unauthenticated(f"there is no node {name[:40]!r} at this hub", remedy="weft node join")
        path, body = f"/nodes/{name}/{action}", stream.read()
        proof = proofs.check(_authorization(request), node.public_key, "POST", path, body, now=now)
        return node, proof, now

    async def _soon(self, operation: Any) -> Any:
        return await asyncio.wrap_future(self.store.write_soon(operation))


def checked_name(name: str) -> str:
    """Return the name of a node if it is one.

    :raises InvalidRequest: says what a name looks like.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:40]!r} is not a name for a node",
            field="name",
            remedy="1 to 40 of a-z, 0-9 and -, such as cz or uni-tartu",
        )
    return name


def remove(link: Link, name: str, reason: str) -> int:
    """Forget a node and give up what it has; returns how many jobs that were."""
    given_up = assignments.drop_node(link, name, reason=reason.format(name))
    nodes.remove(link, name)
    return given_up


def _claim(link: Link, *, node: Node, proof: proofs.Proof, body: JsonObject, now: float) -> tuple[Due, list[str]]:
    _spend(link, proof, now)
    nodes.heard(link, node.name, body["load"], now=now)
    if body["again"]:
        assignments.untell(link, node.name)
    missing = [] if body["holding"] is None else sorted(assignments.taken_by(link, node.name) - body["holding"])
    return _due(link, node=node, now=now), missing


def _due(link: Link, *, node: Node, now: float) -> Due:
    current = nodes.get(link, node.name)
    if current is None:
        return Due()
    return assignments.due(link, node.name, _MOST, now=now, suspended=current.standing is Standing.SUSPENDED)


def _report(link: Link, *, node: Node, proof: proofs.Proof, body: Any, now: float) -> tuple[list[str], list[str]]:
    items = _member(body, "reports", list)
    dropped = [str(key) for key in body.get("dropped", ())]
    if len(items) > _MOST_REPORTS:
        raise InvalidRequest(f"at most {_MOST_REPORTS} reports at once", field="reports")
    _spend(link, proof, now)
    for key in dropped:
        assignments.dropped(link, node.name, key)
    known: list[str] = []
    unknown: list[str] = []
    for key, seq, stage, report in map(reports.checked, items):
        (known if assignments.take_in(link, node.name, key, seq, stage, report) else unknown).append(key)
    return known, unknown


def _spend(link: Link, proof: proofs.Proof, now: float) -> None:
    nodes.spend(link, proof.node, proof.nonce, now=now, expires_at=now + 2 * proofs.SKEW)


def _claimed(body: Any) -> JsonObject:
    """Read the body of a claim."""
    document = body if isinstance(body, Mapping) else {}
    load, holding, wait = document.get("load", {}), document.get("holding"), document.get("wait", 0)
    if not isinstance(load, dict) or not isinstance(wait, int | float) or not isinstance(holding, list | None):
        raise InvalidRequest("the claim cannot be read", remedy="see openapi/nodes.yaml")
    return {
        "load": {name: int(load.get(name, 0)) for name in ("queued", "running")},
        "holding": None if holding is None else frozenset(map(str, holding)),
        "wait": min(max(float(wait), 0.0), LONGEST_WAIT),
        "again": document.get("again") is True,
    }


async def _waited(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event; False when it did not come."""
    if seconds <= 0:
        return False
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _answer(due: Due, missing: list[str], node: Node, now: float) -> bytes:
    offers = [
        {"key": key, "kind": kind.value, "owner": owner, "document": orjson.Fragment(document)}
        for key, kind, owner, document in due.offers
    ]
    answer = {"now": now, "standing": node.standing.value, "offers": offers}
    return orjson.dumps(answer | {"cancels": due.cancels, "drops": due.drops, "missing": missing})


def _kept(answer: tuple[list[str], list[str]], node: Node, now: float) -> JsonObject:
    return {"now": now, "standing": node.standing.value, "known": answer[0], "unknown": answer[1]}


def _files(folder: Path) -> Iterator[str]:
    """Give the regular files below a run's folder by their paths in it; links are none."""
    for here, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(here, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _authorization(request: Request) -> str | None:
    return request.headers.get("authorization")


def _member(body: Any, name: str, kind: type) -> Any:
    value = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(value, kind):
        raise InvalidRequest(
            f"{name} is missing or is not what it should be", field=name, remedy="see openapi/nodes.yaml"
        )
    return value
