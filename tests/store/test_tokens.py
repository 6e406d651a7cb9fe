"""Tokens and workers."""

from dataclasses import replace
from pathlib import Path

from tests.builders import NOW
from tests.store.databases import only_sqlite
from weft.model import Principal
from weft.store.store import Store, WorkerInfo

ENGINE = Principal(issuer="weft", subject="alice", roles=frozenset({"engine", "b"}), run="r1")


def test_a_token_stands_for_its_principal_until_it_expires(store: Store) -> None:
    token = store.create_token(ENGINE, now=NOW, expires_at=NOW + 10)
    assert store.find_token(token, now=NOW + 9) == replace(ENGINE, expires_at=NOW + 10)
    assert store.find_token(token, now=NOW + 10) is None
    assert store.find_token(token + "x", now=NOW) is None
    assert store.find_token("", now=NOW) is None
    assert store.find_token("\ud800", now=NOW) is None


def test_a_token_without_an_end_does_not_expire(store: Store) -> None:
    token = store.create_token(Principal(issuer="i", subject="s"), now=NOW, expires_at=None)
    assert store.find_token(token, now=NOW + 1e9) == Principal(issuer="i", subject="s")


def test_every_token_is_another_and_long(store: Store) -> None:
    tokens = {store.create_token(ENGINE, now=NOW, expires_at=None) for _ in range(20)}
    assert len(tokens) == 20
    assert min(len(token) for token in tokens) >= 43


def test_revoking_a_run_revokes_its_tokens_alone(store: Store) -> None:
    token = store.create_token(ENGINE, now=NOW, expires_at=None)
    other = store.create_token(Principal(issuer="i", subject="s"), now=NOW, expires_at=None)
    store.revoke_tokens("r1")
    assert store.find_token(token, now=NOW) is None
    assert store.find_token(other, now=NOW) is not None


def test_a_persons_token_keeps_groups_and_scopes_and_is_listed_and_revoked_by_its_id(store: Store) -> None:
    ada = Principal(
        issuer="local",
        subject="ada",
        roles=frozenset({"operator"}),
        groups=frozenset({"lab", "é"}),
        scopes=frozenset({"tes:read"}),
        expires_at=NOW + 60,
    )
    token = store.create_token(ada, now=NOW, expires_at=NOW + 60, token_id="t1")
    other = store.create_token(ada, now=NOW, expires_at=None, token_id="t2")
    store.create_token(ENGINE, now=NOW, expires_at=None)
    assert store.find_token(token, now=NOW) == ada
    assert [(item.id, item.created_at) for item in store.list_tokens()] == [("t1", NOW), ("t2", NOW)]
    assert store.list_tokens()[0].principal == ada
    assert store.revoke_token("t1")
    assert not store.revoke_token("t1")
    assert store.find_token(token, now=NOW) is None
    assert store.find_token(other, now=NOW) == replace(ada, expires_at=None)


def test_a_token_without_any_scope_is_not_one_with_all(store: Store) -> None:
    token = store.create_token(Principal(issuer="i", subject="s", scopes=frozenset()), now=NOW, expires_at=None)
    found = store.find_token(token, now=NOW)
    assert found is not None
    assert found.scopes == frozenset()


@only_sqlite
def test_no_token_is_on_the_disk(store: Store, tmp_path: Path) -> None:
    token = store.create_token(ENGINE, now=NOW, expires_at=None)
    store.stop()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"alice" in content
    assert token.encode() not in content
    assert token.removeprefix("weft_").encode() not in content


def test_workers_are_those_heard_lately(store: Store) -> None:
    old = WorkerInfo(id="old", heartbeat_at=NOW, capabilities={})
    store.announce(old)
    store.announce(WorkerInfo(id="w", heartbeat_at=NOW, capabilities={"executor": "docker"}))
    new = WorkerInfo(id="w", heartbeat_at=NOW + 60, capabilities={"executor": "docker", "slots": 4})
    store.announce(new)
    assert store.workers(since=NOW + 30) == (new,)
    assert store.workers(since=NOW) == (old, new)


def test_a_worker_that_is_silent_for_a_day_is_forgotten(store: Store) -> None:
    store.announce(WorkerInfo(id="old", heartbeat_at=NOW, capabilities={}))
    new = WorkerInfo(id="new", heartbeat_at=NOW + 90_000, capabilities={})
    store.announce(new)
    assert store.workers(since=0) == (new,)
