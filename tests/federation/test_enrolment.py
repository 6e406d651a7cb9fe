"""Enrolment and signed requests at the hub's handlers: what is let in, and in which words the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes import Clock
from weft.errors import Conflict, Forbidden, InvalidRequest, Unauthenticated
from weft.federation import hub as hubs
from weft.federation.hub import NodesApi
from weft.federation.proofs import SKEW, NodeKey
from weft.folders import Folders
from weft.http.doors import Doors
from weft.http.request import Request
from weft.model import JsonObject, Principal
from weft.store import nodes
from weft.store.store import Store

NOBODY = Principal(issuer="", subject="")


class Hub:
    """A hub's handlers over a store of their own."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store, self.clock = store, Clock()
        self.api = NodesApi(store=store, folders=Folders(data), clock=self.clock)

    def invite(self, name: str, token: str = "secret") -> None:
        now = self.clock()
        self.store.write(partial(nodes.invite, token=token, name=name, now=now, expires_at=now + 3600))

    def join(self, key: NodeKey, name: str = "cz", token: str = "secret", **changes: Any) -> JsonObject:
        body = {"token": token, "name": name, "public_key": key.public, "declared": {}} | changes
        return self.send("join_node", key, name, body, path="/nodes")

    def send(self, method: str, key: NodeKey, name: str, body: JsonObject, *, path: str, **changes: Any) -> JsonObject:
        raw = orjson.dumps(body)
        signed = key.sign(name, "POST", changes.get("signed_path", path), changes.get("signed", raw), now=self.clock())
        return self.pass_on(method, changes.get("header", signed), body, raw, path)

    def pass_on(self, method: str, header: str, body: JsonObject, raw: bytes, path: str) -> JsonObject:
        request = Request(principal=NOBODY, headers={"authorization": header})
        arguments = {} if path == "/nodes" else {"name": path.split("/")[2]}
        answer = getattr(self.api, method)(request=request, body=body, stream=BytesIO(raw), **arguments)
        return answer if isinstance(answer, dict) else orjson.loads(answer)  # type: ignore[no-any-return]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    store = Store(f"sqlite:///{tmp_path / 'weft.db'}")
    store.start()
    yield Hub(store, tmp_path)
    store.stop()


def test_a_token_counts_once_but_its_use_may_be_repeated(hub: Hub) -> None:
    key = NodeKey.generate()
    hub.invite("cz")
    first = hub.join(key)
    assert hub.join(key) == first | {"now": hub.clock()}
    with pytest.raises(Forbidden, match="was used already"):
        hub.join(NodeKey.generate())
    hub.invite("cz", "another")
    with pytest.raises(Conflict, match="a node 'cz' is here already"):
        hub.join(NodeKey.generate(), token="another")


def test_a_token_is_for_its_name_and_ends(hub: Hub) -> None:
    hub.invite("cz")
    with pytest.raises(Forbidden, match="for the name 'cz'"):
        hub.join(NodeKey.generate(), "ee")
    with pytest.raises(Unauthenticated, match="unknown or has expired"):
        hub.join(NodeKey.generate(), token="guessed")
    hub.clock.pass_(3601)
    with pytest.raises(Unauthenticated, match="unknown or has expired"):
        hub.join(NodeKey.generate())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "CZ!"}, "name"),
        ({"token": 5}, "token"),
        ({"public_key": {"kty": "RSA"}}, "public_key"),
        ({"public_key": {"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}}, "public_key"),
        ({"declared": []}, "declared"),
        ({"declared": {"datasets": [{"name": "no id"}]}}, "datasets.id"),
        ({"declared": {"datasets": [{"id": "a"}, {"id": "a"}]}}, "datasets"),
        ({"declared": {"datasets": [{"id": "a", "colour": "red"}]}}, "datasets"),
    ],
)
def test_a_malformed_enrolment_names_the_member(hub: Hub, changes: JsonObject, field: str) -> None:
    hub.invite("cz")
    with pytest.raises(InvalidRequest) as refused:
        hub.join(NodeKey.generate(), **changes)
    assert refused.value.field == field


def test_a_request_counts_once_and_for_what_was_signed(hub: Hub) -> None:
    key = NodeKey.generate()
    hub.invite("cz")
    hub.join(key)
    path, body, raw = "/nodes/cz/claim", {"wait": 0}, b'{"wait":0}'
    signed = key.sign("cz", "POST", path, raw, now=hub.clock())
    assert hub.pass_on("claim_jobs", signed, body, raw, path)["standing"] == "active"
    with pytest.raises(Unauthenticated, match="came already"):
        hub.pass_on("claim_jobs", signed, body, raw, path)
    for fault in ({"signed": b"{}"}, {"signed_path": "/nodes/cz/report"}):
        with pytest.raises(Unauthenticated, match="signed for another request"):
            hub.send("claim_jobs", key, "cz", body, path=path, **fault)
    with pytest.raises(Unauthenticated, match="not that of the node's key"):
        hub.send("claim_jobs", NodeKey.generate(), "cz", body, path=path)
    for header in ("", "Bearer x", "Weft-Node x", "Weft-Node a.b.c", "Weft-Node " + "a" * 5000):
        with pytest.raises(Unauthenticated):
            hub.send("claim_jobs", key, "cz", body, path=path, header=header)
    early = key.sign("cz", "POST", path, raw, now=hub.clock() - SKEW - 1)
    with pytest.raises(Unauthenticated, match="s from the hub's time"):
        hub.pass_on("claim_jobs", early, body, raw, path)
    with pytest.raises(Unauthenticated, match="no node 'ee' at this hub"):
        hub.send("claim_jobs", key, "ee", body, path="/nodes/ee/claim")


def test_a_nonce_is_remembered_as_long_as_its_time_is_good(hub: Hub) -> None:
    key = NodeKey.generate()
    hub.invite("cz")
    hub.join(key)
    path, raw = "/nodes/cz/claim", b"{}"
    signed = key.sign("cz", "POST", path, raw, now=hub.clock() + SKEW - 1)
    hub.pass_on("claim_jobs", signed, {}, raw, path)
    for _ in range(3):
        hub.clock.pass_(SKEW / 1.6)
        hub.send("claim_jobs", key, "cz", {}, path=path)
        with pytest.raises(Unauthenticated):
            hub.pass_on("claim_jobs", signed, {}, raw, path)


def test_a_node_that_was_removed_or_left_is_no_node(hub: Hub) -> None:
    for how in ("remove", "leave"):
        key = NodeKey.generate()
        hub.invite("cz", how)
        hub.join(key, token=how)
        if how == "leave":
            assert hub.send("leave_hub", key, "cz", {}, path="/nodes/cz/leave")["given_up"] == 0
        else:
            hub.store.write(partial(hubs.remove, name="cz", reason="{} is gone"))
        with pytest.raises(Unauthenticated, match="no node 'cz'"):
            hub.send("claim_jobs", key, "cz", {}, path="/nodes/cz/claim")


def test_the_key_lies_where_nobody_else_may_read_it(tmp_path: Path) -> None:
    key = NodeKey.generate()
    key.save(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert NodeKey.load(tmp_path / "key.pem").public == key.public
    assert "d" not in key.public
    with pytest.raises(FileExistsError):
        NodeKey.generate().save(tmp_path / "key.pem")


def test_only_what_a_node_posts_passes_the_gate_without_a_login() -> None:
    doors = Doors({"/weft/v1": ""}, [], ["/weft/v1/nodes"])
    assert doors.has_own_login("POST", "/weft/v1/nodes")
    assert doors.has_own_login("POST", "/weft/v1/nodes/cz/claim")
    assert not doors.has_own_login("GET", "/weft/v1/nodes")
    assert not doors.has_own_login("GET", "/weft/v1/nodes/cz")
    assert not doors.has_own_login("POST", "/weft/v1/nodesomething")
