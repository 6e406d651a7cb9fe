"""Nodes, assignments and claims in the store: what each operation changes, on every database."""

from __future__ import annotations

from functools import partial

import pytest

from tests.builders import NOW, a_new_job
from weft.errors import Unauthenticated
from weft.model import Kind
from weft.states import State
from weft.store import assignments, claims, nodes
from weft.store.assignments import TOLD_AGAIN, Due, Stage
from weft.store.nodes import Node, Standing
from weft.store.store import Store

CZ = Node(name="cz", public_key={"x": "key"}, standing=Standing.ACTIVE, joined_at=NOW, heard_at=NOW)


@pytest.fixture
def hub(store: Store) -> Store:
    """A hub that node cz has joined, with one assignment for it."""
    store.write(partial(nodes.invite, token="secret", name="cz", now=NOW, expires_at=NOW + 60))
    store.write(partial(nodes.join, token="secret", thumbprint="t", node=CZ))
    offer(store, "j-1")
    return store


def offer(store: Store, key: str) -> None:
    about = {"node": "cz", "kind": Kind.TASK, "owner": "me", "document": {"name": key}, "reason": "why", "now": NOW}
    store.write(partial(assignments.offer, key=key, **about))


def due(store: Store, now: float = NOW) -> Due:
    return store.write(partial(assignments.due, node="cz", most=10, now=now))


def report(store: Store, seq: int, stage: Stage = Stage.TAKEN, node: str = "cz") -> bool:
    said = {"phase": "RUNNING", "seq": seq}
    return store.write(partial(assignments.take_in, node=node, key="j-1", seq=seq, stage=stage, report=said))


def stage(store: Store) -> Stage | None:
    found = store.read(partial(assignments.find, key="j-1"))
    return None if found is None else found.stage


def test_an_offer_is_repeated_until_the_node_says_that_it_has_it(hub: Store) -> None:
    offered = Due(offers=(("j-1", Kind.TASK, "me", b'{"name":"j-1"}'),))
    assert hub.read(partial(assignments.nodes_due, now=NOW)) == {"cz"}
    assert (due(hub), due(hub), due(hub, NOW + TOLD_AGAIN + 1)) == (offered, Due(), offered)
    hub.write(partial(assignments.untell, node="cz"))
    assert due(hub) == offered
    assert report(hub, 5)
    assert due(hub, NOW + 1000) == Due()
    assert hub.read(partial(assignments.taken_by, node="cz")) == {"j-1"}
    assert hub.read(assignments.open_by_node) == {"cz": {Stage.TAKEN: 1}}


def test_an_older_report_and_another_nodes_report_change_nothing(hub: Store) -> None:
    due(hub)
    assert report(hub, 5, Stage.ENDED)
    assert report(hub, 4)
    assert not report(hub, 9, node="ee")
    assert hub.read(assignments.progress) == {"j-1": (Stage.ENDED, 5)}
    assert hub.read(partial(assignments.of_keys, keys=["j-1", "j-2"])).keys() == {"j-1"}


def test_a_cancel_of_what_was_never_sent_needs_nobody(hub: Store) -> None:
    hub.write(partial(assignments.cancel, key="j-1"))
    assert stage(hub) is None


def test_a_cancel_is_told_with_the_offer_that_may_be_half_taken(hub: Store) -> None:
    due(hub)
    hub.write(partial(assignments.cancel, key="j-1"))
    told = due(hub)
    assert ([key for key, *_ in told.offers], told.cancels) == (["j-1"], ("j-1",))
    report(hub, 5)
    assert due(hub, NOW + 100) == Due(cancels=("j-1",))


def test_what_is_withdrawn_stays_until_the_node_was_told(hub: Store) -> None:
    due(hub)
    report(hub, 5)
    assert hub.write(partial(assignments.withdraw, key="j-1", reason="given up"))
    assert not report(hub, 6, Stage.ENDED)
    hub.write(partial(assignments.forget, key="j-1"))
    assert stage(hub) is Stage.WITHDRAWN
    assert due(hub) == Due(drops=("j-1",))
    hub.write(partial(assignments.dropped, node="cz", key="j-1"))
    assert hub.read(assignments.every) == ()


def test_a_node_that_goes_leaves_nothing_open(hub: Store) -> None:
    assert hub.write(partial(assignments.drop_node, node="cz", reason="gone")) == 1
    assert hub.write(partial(nodes.remove, name="cz"))
    assert hub.read(nodes.every) == ()
    found = hub.read(partial(assignments.find, key="j-1"))
    assert found is not None
    assert (found.stage, found.reason, found.heard_at) == (Stage.WITHDRAWN, "gone", None)


def test_a_node_is_heard_stands_and_spends_its_nonces(hub: Store) -> None:
    hub.write(partial(nodes.heard, name="cz", load={"queued": 3}, now=NOW + 5))
    hub.write(partial(nodes.stand, name="cz", standing=Standing.SUSPENDED))
    hub.write(partial(nodes.declare, name="cz", declared={"jurisdiction": "CZ"}))
    (node,) = hub.read(nodes.every)
    assert (node.heard_at, node.load, node.standing) == (NOW + 5, {"queued": 3}, Standing.SUSPENDED)
    assert node.declared == {"jurisdiction": "CZ"}
    offer(hub, "j-2")
    assert hub.write(partial(assignments.due, node="cz", most=10, now=NOW, suspended=True)) == Due()
    spend = partial(nodes.spend, name="cz", expires_at=NOW + 10)
    hub.write(partial(spend, nonce="n", now=NOW))
    with pytest.raises(Unauthenticated):
        hub.write(partial(spend, nonce="n", now=NOW))
    hub.write(partial(spend, nonce="another", now=NOW + 11))
    hub.write(partial(spend, nonce="n", now=NOW + 11))


def test_a_claim_knows_its_job_and_what_was_said_of_it(store: Store) -> None:
    job = store.create(a_new_job())
    store.write(partial(claims.add, key="j-1", job_id=job.id))
    store.write(partial(claims.add, key="j-2", refusal="no"))
    assert [(claim.key, claim.state) for claim in store.read(claims.still_open)] == [
        ("j-1", State.QUEUED),
        ("j-2", None),
    ]
    assert store.read(claims.load) == (1, 0)
    store.write(partial(claims.said, key="j-1", seq=7, words="QUEUED x", closed_at=None))
    store.write(partial(claims.said, key="j-1", seq=6, words="older", closed_at=NOW))
    store.write(partial(claims.close, key="j-2", now=NOW))
    (claim,) = store.read(claims.still_open)
    assert (claim.said, claim.seq) == ("QUEUED x", 7)
    store.write(partial(claims.prune, before=NOW + 1))
    assert store.read(partial(claims.get, key="j-2")) is None
    store.write(partial(claims.close, key="j-1", now=NOW))
    store.write(partial(claims.prune, before=NOW + 1))
    assert [item.key for item in store.read(partial(claims.of_keys, keys=["j-1"]))] == ["j-1"], "its job is still here"
    store.write(partial(claims.reopen, key="j-1"))
    assert store.read(claims.still_open)[0].said is None
