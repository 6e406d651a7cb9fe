"""Tokens and workers."""

from pathlib import Path

from tests.builders import NOW
from tests.store.databases import only_sqlite
from weft.model import Principal
from weft.store.store import Store, WorkerInfo

ENGINE = Principal(issuer="weft", subject="alice", roles=frozenset({"engine", "b"}), run="r1")


def test_a_token_stands_for_its_principal_until_it_expires(store: Store) -> None:
    token = store.create_token(ENGINE, now=NOW, expires_at=NOW + 10)
    assert store.find_token(token, now=NOW + 9) == ENGINE
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
