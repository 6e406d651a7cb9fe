"""What checked visas prove: the pure rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from weft.auth.visas import (
    REGISTERED_ACCESS,
    accepted_terms,
    controlled_access,
    linked_by,
    one_person,
    registered_access,
    researcher_status,
)
from weft.model import Visa

NOW = 1_767_225_600.0
GRANT = Visa(
    issuer="https://dac.example",
    subject="ada",
    type="ControlledAccessGrants",
    value="https://example.org/d/1",
    source="https://example.org/dac",
    by="dac",
    asserted=NOW - 60,
    expires_at=NOW + 600,
    digest="d1",
)
TERMS = replace(GRANT, type="AcceptedTermsAndPolicies", value=REGISTERED_ACCESS, by="self")
STATUS = replace(GRANT, type="ResearcherStatus", value=REGISTERED_ACCESS, by=None, expires_at=NOW + 300)


def test_a_grant_opens_its_dataset_until_it_ends() -> None:
    proof = controlled_access([GRANT], GRANT.value, now=NOW)
    assert proof is not None
    assert (proof.visas, proof.expires_at) == ((GRANT,), NOW + 600)
    assert controlled_access([GRANT], GRANT.value, now=NOW, until=NOW + 599) is not None
    assert controlled_access([GRANT], GRANT.value, now=NOW, until=NOW + 600) is None
    assert controlled_access([GRANT], GRANT.value, now=NOW + 600) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "https://example.org/d/1/"},
        {"value": "https://EXAMPLE.org/d/1"},
        {"type": "controlledaccessgrants"},
        {"by": None},
        {"asserted": NOW + 1},
    ],
    ids=str,
)
def test_a_grant_is_read_to_the_letter(changes: dict[str, Any]) -> None:
    assert controlled_access([replace(GRANT, **changes)], GRANT.value, now=NOW) is None


def test_a_policy_may_name_sources_and_who_must_have_asserted() -> None:
    assert controlled_access([GRANT], GRANT.value, now=NOW, sources=[GRANT.source], by=["dac"]) is not None
    assert controlled_access([GRANT], GRANT.value, now=NOW, sources=["https://example.org/dac2"]) is None
    assert controlled_access([GRANT], GRANT.value, now=NOW, by=["so"]) is None


def test_the_visa_that_holds_longest_is_the_proof() -> None:
    later = replace(GRANT, expires_at=NOW + 900, digest="d2")
    proof = controlled_access([GRANT, later], GRANT.value, now=NOW)
    assert proof is not None
    assert proof.visas == (later,)


def test_registered_access_needs_both_visas_of_one_person_and_ends_with_the_first() -> None:
    proof = registered_access([TERMS, STATUS], now=NOW)
    assert proof is not None
    assert proof.expires_at == NOW + 300
    for some in ([TERMS], [STATUS], [], [replace(TERMS, by=None), STATUS], [TERMS, replace(STATUS, value="x")]):
        assert registered_access(some, now=NOW) is None
    assert registered_access([TERMS, replace(STATUS, subject="bob")], now=NOW) is None
    assert registered_access([TERMS, replace(STATUS, issuer="https://other.example")], now=NOW) is None
    assert researcher_status([STATUS], now=NOW) is not None
    assert accepted_terms([TERMS], now=NOW) is not None
    assert accepted_terms([replace(TERMS, by=None)], now=NOW) is None


def test_two_identities_are_joined_by_links_also_in_a_chain() -> None:
    status = replace(STATUS, issuer="https://c.example", subject="c;,c")
    first = replace(GRANT, type="LinkedIdentities", value="b,https%3A%2F%2Fb.example")
    second = replace(
        first, issuer="https://b.example", subject="b", value="x,y;c%3B%2Cc,https%3A%2F%2Fc.example;broken"
    )
    assert registered_access([TERMS, status, first], now=NOW) is None
    proof = registered_access([TERMS, status, first, second], now=NOW)
    assert proof is not None
    assert registered_access([TERMS, status, first, replace(second, expires_at=NOW)], now=NOW) is None
    mine, theirs = ("https://dac.example", "ada"), ("https://c.example", "c;,c")
    assert one_person([first, second], theirs, mine, now=NOW)
    assert one_person([], mine, mine, now=NOW)
    assert not one_person([first, second], mine, ("https://c.example", "c"), now=NOW)


def test_a_value_of_links_that_is_broken_links_nobody() -> None:
    assert list(linked_by("a,https%3A%2F%2Fx;b;,c;d,;e,f,g")) == [("https://x", "a")]
