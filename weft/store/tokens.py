"""Bearer tokens that weft itself gives out, stored as hashes: who steals the database has no token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson
from sqlalchemy import bindparam, delete, insert, select

from weft.model import Principal
from weft.store.link import Link, Prepared
from weft.store.rows import packed
from weft.store.schema import tokens

_ADD = Prepared(insert(tokens))
_FIND = Prepared(
    select(
        tokens.c.issuer,
        tokens.c.subject,
        tokens.c.roles,
        tokens.c.run,
        tokens.c.expires_at,
        tokens.c.groups,
        tokens.c.scopes,
    ).where(tokens.c.hash == bindparam("hash"))
)
_LIST = Prepared(
    select(
        tokens.c.id,
        tokens.c.issuer,
        tokens.c.subject,
        tokens.c.roles,
        tokens.c.groups,
        tokens.c.scopes,
        tokens.c.created_at,
        tokens.c.expires_at,
    )
    .where(tokens.c.id.is_not(None))
    .order_by(tokens.c.id)
)
_REVOKE_ONE = Prepared(delete(tokens).where(tokens.c.id == bindparam("id"), tokens.c.id.is_not(None)))
_REVOKE = Prepared(delete(tokens).where(tokens.c.run == bindparam("run"), tokens.c.run.is_not(None)))
_FORGET = Prepared(delete(tokens).where(tokens.c.expires_at <= bindparam("now")))


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """What is known of a person's token; the token itself is not."""

    id: str
    principal: Principal
    created_at: float


def add(
    link: Link, token: str, principal: Principal, *, now: float, expires_at: float | None, token_id: str | None = None
) -> None:
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
        id=token_id,
        groups=packed(sorted(principal.groups)) if principal.groups else None,
        scopes=None if principal.scopes is None else packed(sorted(principal.scopes)),
    )


def find(link: Link, token: str, *, now: float) -> Principal | None:
    """Return whom a token stands for; None when it is unknown, expired or revoked."""
    row = link.one(_FIND, hash=_hash(token))
    if row is None:
        return None
    issuer, subject, roles, run, expires_at, groups, scopes = row
    if expires_at is not None and expires_at <= now:
        return None
    return Principal(
        issuer=issuer,
        subject=subject,
        roles=_words(roles),
        run=run,
        groups=_words(groups),
        expires_at=expires_at,
        scopes=None if scopes is None else _words(scopes),
    )


def listed(link: Link) -> tuple[IssuedToken, ...]:
    """Return the tokens of people, oldest first."""
    return tuple(
        IssuedToken(
            id=token_id,
            principal=Principal(
                issuer=issuer,
                subject=subject,
                roles=_words(roles),
                groups=_words(groups),
                expires_at=expires_at,
                scopes=None if scopes is None else _words(scopes),
            ),
            created_at=created_at,
        )
        for token_id, issuer, subject, roles, groups, scopes, created_at, expires_at in link.all(_LIST)
    )


def revoke_one(link: Link, token_id: str) -> bool:
    """Forget a person's token; False when there is none of this id."""
    return link.run(_REVOKE_ONE, id=token_id) > 0


def revoke(link: Link, run: str) -> None:
    """Forget all tokens that are bound to a run."""
    link.run(_REVOKE, run=run)


def _words(value: bytes | None) -> frozenset[str]:
    return frozenset() if value is None else frozenset(orjson.loads(value))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
