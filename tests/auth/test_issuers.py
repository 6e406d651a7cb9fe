"""Tokens of OpenID providers, and all that is wrong with those of attackers. The guarded client fetches for real."""

from __future__ import annotations

import base64
import time
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.api.conftest import assert_error
from tests.auth.conftest import LoginSite, OpenSite, bearer
from tests.auth.provider import AUDIENCE, Provider, sign

STRANGER = RSAKey.generate_key(2048, {"kid": "k0"})


class ShortKey:
    """A key of 1024 bits in an issuer's key set."""

    kid = "short"

    def as_dict(self, *, private: bool) -> dict[str, str]:
        modulus = base64.urlsafe_b64encode(b"\xc1" * 128).rstrip(b"=").decode()
        return {"kty": "RSA", "kid": self.kid, "e": "AQAB", "n": modulus}


@pytest.fixture
def site(open_site: OpenSite, provider: Provider) -> LoginSite:
    return open_site(provider)


def refused(response: Any, *words: str) -> None:
    """Check for a 401 that says why in its body and in its challenge."""
    assert_error(response, 401, *words)
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="weft", error="invalid_token", error_description="')
    for word in words:
        assert word in challenge


@pytest.mark.parametrize("kind", ["at+jwt", "JWT", "application/at+jwt"])
def test_a_token_of_a_configured_issuer_is_a_principal(site: LoginSite, provider: Provider, kind: str) -> None:
    assert site.who(provider.token(header_typ=kind)).json()["name"] == f"{provider.issuer}|ada"
    assert site.who(provider.token(key=provider.keys[1])).json()["name"] == f"{provider.issuer}|ada"


def test_without_credentials_who_must_be_known(site: LoginSite) -> None:
    response = site.who()
    assert_error(response, 401, "who asks must be known", "Authorization")
    assert response.headers["www-authenticate"] == 'Bearer realm="weft"'


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aud": "https://other.example/"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": [f"{AUDIENCE}x", AUDIENCE[:-1]]}, "audience"),
        ({"iss": "https://evil.example"}, "issuer that is not accepted"),
        ({"iss": None}, "issuer that is not accepted"),
        ({"exp": time.time() - 31}, "expired"),
        ({"exp": None}, "no time exp"),
        ({"exp": True}, "no time exp"),
        ({"exp": "never"}, "no time exp"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
        ({"iat": time.time() + 3600}, "not valid yet"),
        ({"iat": None}, "no time iat"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": "a\nb"}, "no subject"),
        ({"sub": "x" * 256}, "no subject"),
        ({"sub": 7}, "no subject"),
        ({"typ": "ID"}, "not an access token"),
        ({"header_typ": "vnd.ga4gh.passport+jwt"}, "not an access token"),
        ({"header_typ": "vnd.ga4gh.visa+jwt"}, "not an access token"),
        ({"header_typ": None}, "not an access token"),
        ({"header_crit": ["b64"], "header_b64": True}, "extension"),
        ({"header_kid": "nobody"}, "not among those of its issuer"),
    ],
)
def test_a_token_that_says_something_wrong_is_refused(
    site: LoginSite, provider: Provider, changes: dict[str, Any], words: str
) -> None:
    refused(site.who(provider.token(**changes)), words)


def test_half_a_minute_between_two_clocks_is_forgiven(site: LoginSite, provider: Provider) -> None:
    late, early = provider.token(exp=time.time() - 20), provider.token(iat=time.time() + 20, nbf=time.time() + 20)
    assert site.who(late).status_code == site.who(early).status_code == 200


def test_no_other_signature_passes_for_the_issuers(site: LoginSite, provider: Provider) -> None:
    refused(site.who(provider.token(key=STRANGER)), "signature is wrong")
    good = provider.token()
    head, claims, signature = good.split(".")
    other = provider.token("mallory").split(".")[1]
    refused(site.who(f"{head}.{other}.{signature}"), "signature is wrong")
    refused(site.who(f"{head}.{claims}."), "signature")
    assert site.who(good).status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS512", "PS256", "ES256K", "dir", ""])
def test_an_algorithm_that_is_not_listed_is_refused(site: LoginSite, provider: Provider, algorithm: str) -> None:
    head = (
        base64.urlsafe_b64encode(orjson.dumps({"alg": algorithm, "kid": "k0", "typ": "at+jwt"})).rstrip(b"=").decode()
    )
    _, claims, signature = provider.token().split(".")
    for tail in (signature, ""):
        refused(site.who(f"{head}.{claims}.{tail}"), "")


def test_the_public_key_is_no_shared_secret(site: LoginSite, provider: Provider) -> None:
    for secret in (provider.keys[0].as_pem(private=False), provider.keys[0].as_der(private=False)):
        key = OctKey.import_key(base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), {"kid": "k0"})
        refused(site.who(provider.token(key=key, header_alg="HS256")), "algorithm that is not accepted")


def test_secret_short_and_foreign_keys_among_the_issuers_do_not_count(site: LoginSite, provider: Provider) -> None:
    secret = OctKey.generate_key(256, {"kid": "secret"})
    signing = provider.keys[0]
    for key in (secret, ShortKey(), ECKey.generate_key("P-384", {"kid": "p384"})):
        provider.keys = [key]
        site.clock.ahead += 60
        refused(site.who(provider.token(key=signing, header_kid=key.kid, exp=time.time() + 9e6)), "")
    provider.keys = [secret]
    refused(site.who(provider.token(key=secret, header_alg="HS256")), "algorithm")


def test_keys_in_the_token_itself_are_not_looked_at(site: LoginSite, provider: Provider, other: Provider) -> None:
    jwk = STRANGER.as_dict(private=False)
    refused(site.who(provider.token(key=STRANGER, header_jwk=jwk, header_jku=other.jku)), "signature is wrong")
    assert other.asked == []


def test_no_issuer_but_the_configured_ones_is_ever_asked(site: LoginSite, provider: Provider, other: Provider) -> None:
    refused(site.who(other.token()), "issuer that is not accepted")
    refused(site.who(provider.token(iss=f"{provider.issuer}/")), "issuer that is not accepted")
    refused(site.who(provider.token(iss=[provider.issuer])), "issuer that is not accepted")
    assert (other.asked, provider.asked) == ([], [])


@pytest.mark.parametrize(
    "text", ["ey.ey.ey", "eyJ9.e30.", "e30.e30.e30", "a.b", "x" * 70_000, "weft_", "eyJhbGciOiI.~.~"]
)
def test_what_is_no_token_is_refused(site: LoginSite, text: str) -> None:
    assert site.who(text).status_code in (401, 431)


@pytest.mark.parametrize(
    "header", ["Digest x", "Bearer", "Bearer a b", "Bearer ä", "Basic", "Basic !", "Basic eDp5eg==", "x"]
)
def test_what_is_no_authorization_is_refused(site: LoginSite, header: str) -> None:
    response = site.client.get("/weft/v1/who", headers={"Authorization": header.encode()})
    refused(response, "")


def test_the_issuers_own_keys_are_fetched_once_and_anew_when_they_are_rotated(
    site: LoginSite, provider: Provider
) -> None:
    for _ in range(3):
        assert site.who(provider.token()).status_code == 200
    assert provider.asked == ["/.well-known/openid-configuration", "/jwks"]
    provider.rotate()
    refused(site.who(provider.token()), "not among")  # asked for a moment ago: not again
    assert len(provider.asked) == 2
    site.clock.ahead += 31
    assert site.who(provider.token(exp=time.time() + 9e5)).status_code == 200
    assert provider.asked[2:] == ["/jwks"]


def test_unknown_keys_cannot_be_used_to_hammer_the_issuer(site: LoginSite, provider: Provider) -> None:
    site.who(provider.token())
    for number in range(20):
        refused(site.who(provider.token(header_kid=f"x{number}")), "not among")
    assert len(provider.asked) == 2
    site.clock.ahead += 31
    for number in range(20):
        refused(site.who(provider.token(header_kid=f"x{number}", exp=time.time() + 9e5)), "not among")
    assert len(provider.asked) == 3


def test_a_removed_key_is_no_longer_good_within_the_hour(site: LoginSite, provider: Provider) -> None:
    old = provider.token(exp=time.time() + 9e5)
    assert site.who(old).status_code == 200
    provider.rotate()
    site.clock.ahead += 3601
    refused(site.who(old), "not among")


def test_an_issuer_that_is_down_is_503_and_never_401(site: LoginSite, provider: Provider) -> None:
    provider.down = True
    for _ in range(5):
        response = site.who(provider.token())
        assert_error(response, 503, "cannot be had")
        assert int(response.headers["retry-after"]) > 0
        assert "www-authenticate" not in response.headers
    assert len(provider.asked) == 1
    provider.down = False
    site.clock.ahead += 6
    assert site.who(provider.token()).status_code == 200
    provider.down = True
    site.clock.ahead += 3600
    token = provider.token(exp=time.time() + 9e5)
    assert site.who(token).status_code == 200, "known keys stay good for a second hour"
    site.clock.ahead += 3600
    assert_error(site.who(token), 503)


def test_an_issuer_that_is_nowhere_is_503(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, allow_hosts=())  # the guard refuses loopback
    assert_error(site.who(provider.token()), 503, "cannot be had")
    assert provider.asked == []


def test_the_same_subject_of_two_issuers_is_two_people(
    open_site: OpenSite, provider: Provider, other: Provider
) -> None:
    site = open_site(provider, other)
    names = {site.who(issuer.token("ada")).json()["name"] for issuer in (provider, other)}
    assert names == {f"{provider.issuer}|ada", f"{other.issuer}|ada"}
    refused(site.who(other.token(iss=provider.issuer, key=STRANGER)), "signature")


def test_roles_groups_and_scopes_come_from_the_claims_that_are_configured(
    open_site: OpenSite, provider: Provider
) -> None:
    issuer = {
        "roles_claim": "realm_access.roles",
        "roles": {"weft-op": "operator"},
        "groups_claim": "https://example.org/groups",
        "use_scopes": True,
    }
    site = open_site(provider, issuer=issuer, full=True)
    claims = {"realm_access": {"roles": ["weft-op", "auditor", 5]}, "https://example.org/groups": ["lab", "x"]}
    token = provider.token(scope="openid tes:read wes:write", **claims)
    assert_error(site.who(token), 403, "too narrow")
    assert site.client.get("/ga4gh/tes/v1/tasks", headers=bearer(token)).status_code == 200
    response = site.client.get("/ga4gh/wes/v1/runs", headers=bearer(token))
    assert_error(response, 403, "wes:read")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert_error(site.client.post("/ga4gh/tes/v1/tasks", headers=bearer(token), json={}), 403, "tes:write")
    plain = open_site(provider, issuer={**issuer, "use_scopes": False}).who(token).json()
    assert (plain["roles"], plain["groups"], plain["scopes"]) == (["operator"], ["lab", "x"], None)


def test_a_token_that_was_seen_before_is_not_checked_again_and_ends_in_time(
    open_site: OpenSite, provider: Provider
) -> None:
    site = open_site(provider, remember_seconds=300)
    token = provider.token(exp=time.time() + 100)
    assert site.who(token).status_code == 200
    stranger = provider.token("eve")
    provider.keys = []
    provider.asked.clear()
    site.clock.ahead = 90
    assert site.who(token).status_code == 200
    assert site.access.remembered(f"Bearer {token}", None) is not None
    assert site.access.remembered(f"Bearer {stranger}", None) is None
    assert provider.asked == []
    site.clock.ahead = 131
    refused(site.who(token), "expired")


# -- opaque tokens -----------------------------------------------------------------------------------------------------

CLIENT = {"client_id": "weft", "client_secret": "s3cret/+"}


def test_an_opaque_token_is_introspected(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"opaque": "introspection", **CLIENT})
    good = {"active": True, "sub": "ada", "aud": AUDIENCE, "exp": time.time() + 60, "groups": ["lab"]}
    provider.opaque = {
        "good": good,
        "old": {**good, "exp": time.time() - 60},
        "foreign": {**good, "aud": "https://other.example/"},
        "elsewhere": {**good, "iss": "https://evil.example"},
        "nobody": {**good, "sub": None},
        "odd": {**good, "active": "yes"},
    }
    assert site.who("good").json()["name"] == f"{provider.issuer}|ada"
    assert f"Basic {base64.b64encode(b's3cret/+').decode()}" not in provider.authorizations
    assert f"Basic {base64.b64encode(b'weft:s3cret/%2B').decode()}" in provider.authorizations
    for token in ("old", "foreign", "elsewhere", "nobody", "odd", "unknown"):
        refused(site.who(token), "")
    provider.down = True
    assert_error(site.who("good"), 503)


def test_an_opaque_token_is_shown_at_userinfo(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"opaque": "userinfo"})
    provider.userinfo = {"good": {"sub": "ada", "groups": ["lab"]}, "nobody": {"name": "x"}}
    assert site.who("good").json()["groups"] == ["lab"]
    refused(site.who("unknown"), "issuer refuses it")
    refused(site.who("nobody"), "no subject")
    provider.down = True
    assert_error(site.who("good"), 503)


def test_opaque_tokens_are_refused_unless_configured(site: LoginSite, provider: Provider) -> None:
    refused(site.who("opaque"), "not a JWT")
    assert provider.asked == []


def test_tokens_of_weft_are_shown_to_no_issuer(open_site: OpenSite, provider: Provider) -> None:
    site = open_site(provider, issuer={"opaque": "introspection", **CLIENT})
    refused(site.who("weft_unknown"), "unknown, expired or revoked")
    basic = base64.b64encode(b"ada:password").decode()
    refused(site.client.get("/weft/v1/who", headers={"Authorization": f"Basic {basic}"}), "unknown")
    assert provider.asked == []


def test_a_forged_header_is_no_way_round(site: LoginSite, provider: Provider) -> None:
    token = sign({"iss": provider.issuer, "sub": "ada"}, STRANGER, alg="RS256", kid="../../k0", typ="JWT")
    refused(site.who(token), "")
