"""What a decision stood on, as it is kept with the job: enough to decide again, and never a token."""

from __future__ import annotations

import dataclasses

import orjson

from weft.model import Principal, Visa


def pack(principal: Principal, visas: tuple[Visa, ...]) -> bytes | None:
    """Write roles, groups and these visas (issuer, value, expiry, digest); None when there is none of them."""
    if not (principal.roles or principal.groups or visas):
        return None
    return orjson.dumps(
        {
            "roles": sorted(principal.roles),
            "groups": sorted(principal.groups),
            "visas": [dataclasses.asdict(visa) for visa in visas],
        }
    )


def unpack(owner: str, packed: bytes | None) -> Principal:
    """Give the principal of a stored job again: its owner, with what was known of them at its creation."""
    issuer, _, subject = owner.partition("|")
    known = {} if packed is None else orjson.loads(packed)
    return Principal(
        issuer=issuer,
        subject=subject,
        roles=frozenset(known.get("roles", ())),
        groups=frozenset(known.get("groups", ())),
        visas=tuple(Visa(**visa) for visa in known.get("visas", ())),
    )
