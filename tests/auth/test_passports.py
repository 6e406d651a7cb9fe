"""GA4GH passports against a broker and visa issuers on loopback: what counts, what is left out, what is refused."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

import pytest
from joserfc.jwk import RSAKey

from tests.api.conftest import assert_error
from tests.auth.conftest import LoginSite, OpenSite
from tests.auth.provider import DAC, DATASET, Provider
from weft.auth.visas import REGISTERED_ACCESS

STRANGER = RSAKey.generate_key(2048, {"kid": "k0"})
CLIENT = {"client_id": "weft", "client_secret": "secret"}


def trust(issuer: Provider, *sources: str, jku: str | None = None) -> dict[str, Any]:
    return {"issuer": issuer.issuer, "jku": jku or issuer.jku, "sources": list(sources) or [DAC]}


@pytest.fixture
def site(open_site: OpenSite, provider: Provider, other: Provider) -> LoginSite:
    """``provider`` is the broker; visas of both issuers count."""
    return open_site(
        provider,
        allow_hosts=(provider.host, other.host),
        issuer={"passport": "userinfo"},
        visa_issuers=[trust(provider), trust(other)],
    )


def visas_of(site: LoginSite, provider: Provider, *visas: str) -> list[Any]:
    """Let the broker give these visas at userinfo, and return those that count."""
    token = provider.token(jti=str(time.time_ns()))
    provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": list(visas)}
    response = site.who(token)
    assert response.status_code == 200, response.text
    return list(response.json()["visas"])


def test_a_passport_scoped_token_brings_the_visas_of_userinfo(
    site: LoginSite, provider: Provider, other: Provider
) -> None:
    own, foreign = provider.visa(), other.visa("ada-at-other", key=other.keys[1])
    assert visas_of(site, provider, own, foreign, own) == [
        [provider.issuer, "ada", "ControlledAccessGrants", DATASET, DAC, "dac"],
        [other.issuer, "ada-at-other", "ControlledAccessGrants", DATASET, DAC, "dac"],
    ]


def test_a_token_without_the_scope_asks_for_no_passport(site: LoginSite, provider: Provider) -> None:
    assert site.who(provider.token(scope="openid")).json()["visas"] == []
    assert "/userinfo" not in provider.asked


def test_an_opaque_token_and_its_passport_are_one_question_an_hour(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"passport": "userinfo", "opaque": "userinfo"}, visa_issuers=[trust(provider)])
    provider.userinfo["opaque"] = {"sub": "ada", "ga4gh_passport_v1": [provider.visa(exp=time.time() + 9e5)]}
    for _ in range(3):
        assert len(site.who("opaque").json()["visas"]) == 1
    assert provider.asked.count("/userinfo") == 1
    assert site.who(provider.token(scope="tes:read")).json()["visas"] == []
    assert provider.asked.count("/userinfo") == 1, "a JWT without the scope is not shown at userinfo"
    provider.userinfo = {}
    site.clock.ahead = 3601
    assert_error(site.who("opaque"), 401, "refuses it")


def test_a_passport_in_the_access_token_itself_is_not_read(site: LoginSite, provider: Provider) -> None:
    token = provider.token(scope="openid", ga4gh_passport_v1=[provider.visa()], ga4gh_visa_v1={"type": "x"})
    assert site.who(token).json()["visas"] == []


def test_the_broker_is_polled_once_an_hour_for_a_token(site: LoginSite, provider: Provider) -> None:
    token = provider.token(exp=time.time() + 9e5)
    provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": [provider.visa(exp=time.time() + 9e5)]}
    for seconds in (0, 1000, 2000):
        site.clock.ahead = seconds
        assert len(site.who(token).json()["visas"]) == 1
    assert provider.asked.count("/userinfo") == 1
    provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": []}
    site.clock.ahead = 3700
    assert site.who(token).json()["visas"] == []
    assert provider.asked.count("/userinfo") == 2


def test_userinfo_of_another_subject_is_refused(site: LoginSite, provider: Provider) -> None:
    token = provider.token()
    provider.userinfo[token] = {"sub": "bob", "ga4gh_passport_v1": []}
    assert_error(site.who(token), 401, "another subject")


def test_what_is_known_of_one_is_never_used_for_another(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"passport": "userinfo"}, visa_issuers=[trust(provider)], remember_seconds=300)
    ada, bob = provider.token("ada"), provider.token("bob")
    provider.userinfo[ada] = {"sub": "ada", "ga4gh_passport_v1": [provider.visa()]}
    provider.userinfo[bob] = {"sub": "bob", "ga4gh_passport_v1": []}
    for _ in range(2):
        assert [len(site.who(token).json()["visas"]) for token in (ada, bob)] == [1, 0]
    passport = provider.passport_of(provider.visa("bob", visa_value="https://example.org/datasets/2"), subject="bob")
    assert len(site.who(bob, passport=passport).json()["visas"]) == 1
    assert len(site.who(bob).json()["visas"]) == 0
    assert_error(site.who(ada, passport=passport), 403, "another person")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": time.time() - 31},
        {"exp": None},
        {"iat": time.time() + 3600},
        {"iat": None},
        {"sub": None},
        {"nbf": time.time() + 3600},
        {"iss": "https://elsewhere.example"},
        {"header_jku": None},
        {"header_typ": "at+jwt"},
        {"header_kid": "nobody"},
        {"scope": "openid"},
        {"ga4gh_visa_v1": None},
        {"ga4gh_visa_v1": "all"},
        {"visa_asserted": time.time() + 3600},
        {"visa_asserted": None},
        {"visa_asserted": "yesterday"},
        {"visa_conditions": [[{"type": "AffiliationAndRole", "value": "const:x@y"}]]},
        {"visa_conditions": "any"},
        {"visa_source": "https://example.org/DAC"},
        {"visa_source": f"{DAC}/"},
        {"visa_source": None},
        {"visa_source": f"{DAC}{'x' * 255}"},
        {"visa_value": None},
        {"visa_type": None},
        {"visa_by": "me"},
        {"key": STRANGER},
        {"header_alg": "RS512"},
        {"header_alg": "none"},
    ],
)
def test_a_visa_that_is_not_to_the_letter_does_not_count(
    site: LoginSite, provider: Provider, changes: dict[str, Any]
) -> None:
    assert visas_of(site, provider, provider.visa(**changes)) == []


@pytest.mark.parametrize("conditions", [None, []])
def test_empty_conditions_are_none(site: LoginSite, provider: Provider, conditions: Any) -> None:
    assert len(visas_of(site, provider, provider.visa(visa_conditions=conditions, header_typ="JWT"))) == 1


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "ey.ey.ey", "é"])
def test_what_is_no_visa_does_not_count(site: LoginSite, provider: Provider, text: str) -> None:
    assert len(visas_of(site, provider, text, provider.visa())) == 1


def test_keys_are_asked_for_only_where_issuer_and_jku_are_trusted_together(
    open_site: OpenSite, provider: Provider, other: Provider
) -> None:
    site = open_site(
        provider,
        allow_hosts=(provider.host, other.host),
        issuer={"passport": "userinfo"},
        visa_issuers=[trust(provider), {"issuer": "https://third.example", "jku": other.jku, "sources": ["*"]}],
    )
    forged = [
        provider.visa(key=STRANGER, header_jku=f"{other.issuer}/forged"),  # on no list
        provider.visa(key=other.keys[1], header_jku=other.jku),  # listed, but for another issuer
        provider.visa(header_jku=f"{provider.jku}?x"),  # nearly
        other.visa(),  # an issuer that is on no list
    ]
    assert visas_of(site, provider, *forged) == []
    assert other.asked == []
    assert "/jwks" in provider.asked  # the broker's own, for the token
    assert provider.asked.count("/jwks") == 1


def test_too_many_and_too_large_visas_are_refused_before_any_key_is_asked_for(
    site: LoginSite, provider: Provider, other: Provider
) -> None:
    visa = other.visa()
    for visas, words in (([visa] * 201, "more than 200"), ([f"{visa}{'A' * 16384}"], "larger than 16384")):
        token = provider.token(jti=words)
        provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": visas}
        assert_error(site.who(token), 403, words)
    assert other.asked == []
    assert len(visas_of(site, provider, *([visa] * 200))) == 1
    assert other.asked == ["/jwks"]


def test_visas_of_too_many_key_sets_are_refused_before_any_is_asked_for(
    open_site: OpenSite, provider: Provider, other: Provider
) -> None:
    addresses = [f"{other.issuer}/jwks-{number}" for number in range(11)]
    site = open_site(
        provider,
        allow_hosts=(provider.host, other.host),
        issuer={"passport": "userinfo"},
        visa_issuers=[trust(other, jku=address) for address in addresses],
    )
    token = provider.token()
    visas = [other.visa(header_jku=address) for address in addresses]
    provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": visas}
    assert_error(site.who(token), 403, "more than 10 key sets")
    assert other.asked == []


def test_a_key_server_that_is_down_is_503(site: LoginSite, provider: Provider, other: Provider) -> None:
    other.down = True
    token = provider.token()
    provider.userinfo[token] = {"sub": "ada", "ga4gh_passport_v1": [other.visa()]}
    assert_error(site.who(token), 503, "cannot be had")
    other.down = False
    site.clock.ahead += 6
    assert len(site.who(token).json()["visas"]) == 1
    other.rotate()
    site.clock.ahead += 31
    again = provider.token(jti="2")
    provider.userinfo[again] = {"sub": "ada", "ga4gh_passport_v1": [other.visa()]}
    assert len(site.who(again).json()["visas"]) == 1


def test_what_was_left_out_is_logged_by_its_digest(
    site: LoginSite, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    visa = provider.visa(visa_source="https://nobody.example")
    with caplog.at_level(logging.INFO, logger="weft"):
        visas_of(site, provider, visa)
    (record,) = [record for record in caplog.records if record.getMessage() == "visa left out"]
    assert record.fields["reason"] == "its source is not trusted"  # type: ignore[attr-defined]
    assert visa not in caplog.text


# -- passports by header and by exchange ------------------------------------------------------------------------------


def test_a_passport_may_be_shown_beside_the_token(site: LoginSite, provider: Provider, other: Provider) -> None:
    token = provider.token(scope="openid")
    passport = provider.passport_of(provider.visa(), other.visa("x"), key=provider.keys[1])
    assert len(site.who(token, passport=passport).json()["visas"]) == 2
    second = provider.passport_of(provider.visa(visa_value="https://example.org/datasets/2"))
    assert len(site.who(token, passport=f"{passport}, {second}").json()["visas"]) == 3
    assert_error(site.who(passport), 401, "not an access token")
    assert_error(site.who(None, passport=passport), 401)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header_typ": "JWT"}, "another type"),
        ({"header_typ": "at+jwt"}, "another type"),
        ({"exp": time.time() - 31}, "expired"),
        ({"iat": None}, "no time iat"),
        ({"iss": "https://evil.example"}, "issuer that is not accepted"),
        ({"key": STRANGER}, "signature is wrong"),
        ({"header_alg": "RS512"}, "algorithm"),
        ({"header_alg": "none"}, "algorithm"),
        ({"aud": "somebody-else"}, "audience"),
        ({"ga4gh_passport_v1": None}, "no list of visas"),
        ({"ga4gh_passport_v1": "x"}, "no list of visas"),
        ({"ga4gh_passport_v1": [{}]}, "no list of visas"),
        ({"sub": None}, "no subject"),
    ],
)
def test_a_passport_that_fails_its_checks_refuses_the_request(
    site: LoginSite, provider: Provider, changes: dict[str, Any], words: str
) -> None:
    passport = provider.passport_of(provider.visa(), **changes)
    assert_error(site.who(provider.token(scope="openid"), passport=passport), 401, words)


def test_a_passport_of_another_person_needs_a_visa_that_links_the_two(site: LoginSite, provider: Provider) -> None:
    token = provider.token(scope="openid")
    bobs = provider.passport_of(provider.visa("bob"), subject="bob")
    assert_error(site.who(token, passport=bobs), 403, "another person")
    link = f"{quote('ada', safe='')},{quote(provider.issuer, safe='')}"
    linked = provider.visa("bob", visa_type="LinkedIdentities", visa_value=link)
    passport = provider.passport_of(provider.visa("bob"), linked, subject="bob")
    assert len(site.who(token, passport=passport).json()["visas"]) == 2
    forged = provider.visa("bob", visa_type="LinkedIdentities", visa_value=link, key=STRANGER)
    passport = provider.passport_of(provider.visa("bob"), forged, subject="bob")
    assert_error(site.who(token, passport=passport), 403, "another person")


def test_a_local_token_carries_no_passport_of_a_stranger(site: LoginSite, provider: Provider) -> None:
    token = site.local_token("ada")
    assert_error(site.who(token, passport=provider.passport_of(provider.visa())), 403, "another person")


def test_an_issuer_that_is_no_broker_signs_no_passports(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, visa_issuers=[trust(provider)])
    assert_error(site.who(provider.token(), passport=provider.passport_of(provider.visa())), 401, "not trusted")


def test_a_token_is_exchanged_for_a_passport(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"passport": "exchange", **CLIENT}, visa_issuers=[trust(provider)])
    provider.passport = provider.passport_of(provider.visa(), aud="weft")
    assert len(site.who(provider.token()).json()["visas"]) == 1
    assert provider.asked[-2:] == ["/jwks", "/token"]
    provider.passport = provider.passport_of(provider.visa(), subject="bob")
    assert_error(site.who(provider.token(jti="2")), 401, "another subject")
    provider.passport = None
    assert_error(site.who(provider.token(jti="3")), 503, "gave no passport")


def test_a_signed_visa_of_registered_access_arrives_whole(site: LoginSite, provider: Provider) -> None:
    terms = {"visa_type": "AcceptedTermsAndPolicies", "visa_value": REGISTERED_ACCESS, "visa_by": "self"}
    found = visas_of(site, provider, provider.visa(**terms))
    assert found == [[provider.issuer, "ada", "AcceptedTermsAndPolicies", REGISTERED_ACCESS, DAC, "self"]]
