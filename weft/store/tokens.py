"""Bearer tokens that weft itself gives out, stored as hashes: who steals the database has no token."""

from __future__ import annotations

import hashlib

import orjson
from sqlalchemy import bindparam, delete, insert, select

from weft.model import Principal
from weft.store.link import Link, Prepared
from weft.store.rows import packed
from weft.store.schema import tokens

_ADD = Prepared(insert(tokens))
_FIND = Prepared(
    select(tokens.c.issuer, tokens.c.subject, tokens.c.roles, tokens.c.run, tokens.c.expires_at).where(
        tokens.c.hash == bindparam("hash")
    )
)
_REVOKE = Prepared(delete(tokens).where(tokens.c.run == bindparam("run"), tokens.c.run.is_not(None)))
_FORGET = Prepared(delete(tokens).where(tokens.c.expires_at <= bindparam("now")))


def add(link: Link, token: str, principal: Principal, *, now: float, expires_at: float | None) -> None:
    """Store a new token, and forget those that expired."""
    link.run(_FORGET, now=now)
    link.run(
        _ADD,
        hash=_hash(token),
        issuer=principal.issuer,
        subject=principal.subject,
        roles=packed(sorted(principal.roles)),
        run=principal.run,
        created_at=now,
        expires_at=expires_at,
    )


def find(link: Link, token: str, *, now: float) -> Principal | None:
    """Return whom a token stands for; None when it is unknown, expired or revoked."""
    row = link.one(_FIND, hash=_hash(token))
    if row is None:
        return None
    issuer, subject, roles, run, expires_at = row
    if expires_at is not None and expires_at <= now:
        return None
    return Principal(issuer=issuer, subject=subject, roles=frozenset(orjson.loads(roles)), run=run)


def revoke(link: Link, run: str) -> None:
    """Forget all tokens that are bound to a run."""
    link.run(_REVOKE, run=run)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
