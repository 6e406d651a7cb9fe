"""People, visas and requests for tests of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.builders import NOW
from weft.auth.policy.policy import Policy, parse
from weft.model import Principal, Visa

ISSUER = "https://login.example.org"
OTHER = "https://login.example.net"
EXAMPLE = Path(__file__).parents[2] / "examples" / "policy" / "policy.toml"
DIGEST = "sha256:" + "ab" * 32


def a_principal(subject: str, **changes: Any) -> Principal:
    return Principal(**{"issuer": ISSUER, "subject": subject, **changes})


def a_visa(**changes: Any) -> Visa:
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "subject": "anna",
        "type": "ControlledAccessGrants",
        "value": "https://data.example.org/datasets/rare-diseases",
        "source": "https://dac.example.org",
        "by": "dac",
        "asserted": NOW - 86_400,
        "expires_at": NOW + 3600,
        "digest": "00" * 32,
    }
    return Visa(**{**fields, **changes})


ANNA = a_principal("anna", visas=(a_visa(),))
BEN = a_principal("ben")
CARL = a_principal("carl")
OLGA = a_principal("olga", groups=frozenset({"weft-operators"}))
AUDREY = a_principal("audrey")
#: The same names, vouched for by somebody else.
FALSE_ANNA = a_principal("anna", issuer=OTHER, visas=(a_visa(),))
FALSE_OLGA = a_principal("olga", issuer=OTHER, groups=frozenset({"weft-operators"}))


def the_example() -> Policy:
    return parse(EXAMPLE.read_text())
