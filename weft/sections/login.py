"""The tables of ``weft.toml`` about who may ask."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from weft.sections.section import Section

#: Signatures with a public key alone: a key that both sides know is never a proof of who signed.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
Role = Literal["submitter", "operator", "auditor", "reviewer"]


class IssuerSettings(Section):
    """``[[auth.issuers]]``: an OpenID Connect provider whose tokens are accepted."""

    issuer: str = Field(pattern=r"^https?://[^\s|]+$")
    """Its URL, exactly as ``iss`` has it."""
    audience: tuple[str, ...] = ()
    """What ``aud`` of a token must hold one of: the names of this weft at the provider."""
    require_audience: bool = True
    """Off: a token for anybody is accepted, for providers that write no useful ``aud``."""
    jwks_uri: str | None = None
    """Where its keys are; by discovery when absent."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    """How its tokens may be signed."""
    opaque: Literal["refuse", "introspection", "userinfo"] = "refuse"
    """How to ask for a token that is no JWT: introspection (RFC 7662, needs the client) or userinfo."""
    introspection_endpoint: str | None = None
    """By discovery when absent."""
    userinfo_endpoint: str | None = None
    """By discovery when absent."""
    token_endpoint: str | None = None
    """By discovery when absent."""
    client_id: str | None = None
    """The client that weft is at the provider, for introspection and token exchange."""
    client_secret: SecretStr | None = None
    """Its secret."""
    roles_claim: str = "roles"
    """Claim that names the caller's roles; dots lead into objects, as in ``realm_access.roles``."""
    roles: dict[str, Role] = {}
    """Value of that claim -> role here; other values mean nothing."""
    groups_claim: str = "groups"
    """Claim that names the caller's groups; dots lead into objects."""
    use_scopes: bool = False
    """Let a token do only what its ``scope`` names: tes:read, tes:write, wes:read, wes:write."""
    passport: Literal["ignore", "userinfo", "exchange"] = "ignore"
    """Trust the provider as a GA4GH broker, and get visas from userinfo or by token exchange (RFC 8693)."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.require_audience and not self.audience and self.opaque != "userinfo":
            raise ValueError(f"{self.issuer}: name the audience, or say require_audience = false")
        if (self.opaque == "introspection" or self.passport == "exchange") and not (
            self.client_id and self.client_secret
        ):
            raise ValueError(f"{self.issuer}: introspection and exchange need client_id and client_secret")
        return self


class VisaIssuerSettings(Section):
    """``[[auth.visa_issuers]]``: who may sign GA4GH visas, where the keys are, and for whom it may speak."""

    issuer: str = Field(min_length=1)
    """``iss`` of its visas, exactly."""
    jku: str = Field(pattern=r"^https?://")
    """The one address of its keys, exactly as ``jku`` of its visas has it."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Values of ``source`` that are believed from it, exactly; ``*`` for any."""


class AuthSettings(Section):
    """Who may ask. See docs/security.md."""

    login: Literal["off", "tokens", "oidc"] | None = None
    """``off``: nobody logs in. ``tokens``: tokens that ``weft token create`` made. ``oidc``: these and those of the
    issuers. When absent: ``oidc`` if there are issuers, else ``off``."""
    issuers: tuple[IssuerSettings, ...] = ()
    """``[[auth.issuers]]``, see below."""
    visa_issuers: tuple[VisaIssuerSettings, ...] = ()
    """``[[auth.visa_issuers]]``, see below."""
    remember_seconds: float = Field(default=300.0, ge=0, le=3600)
    """How long a token that was found good is not looked at again. Local tokens: at most 2 seconds."""

    @property
    def mode(self) -> Literal["off", "tokens", "oidc"]:
        """The login that is in force."""
        return self.login or ("oidc" if self.issuers else "off")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.login == "oidc" and not self.issuers:
            raise ValueError("login = oidc needs [[auth.issuers]]")
        if self.login in ("off", "tokens") and self.issuers:
            raise ValueError(f"login = {self.login} contradicts [[auth.issuers]]")
        if len({item.issuer for item in self.issuers}) < len(self.issuers):
            raise ValueError("two issuers have the same name")
        if sum(item.opaque != "refuse" for item in self.issuers) > 1:
            raise ValueError("only one issuer may answer for opaque tokens: others would be shown what is not theirs")
        return self
