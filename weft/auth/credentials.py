"""What a request shows of who sends it: the ``Authorization`` header, and a GA4GH passport beside it."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from weft.errors import InvalidToken

#: Carries passport JWTs (``vnd.ga4gh.passport+jwt``), separated by commas.
PASSPORT_HEADER = "ga4gh-passport"
#: How the tokens begin that weft itself gives out; they are shown to no issuer.
LOCAL_PREFIX = "weft_"

_MOST_BYTES = 48 << 10
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A token, and for the Basic scheme the user that it is said to be of."""

    token: str = field(repr=False)
    user: str | None = None
    passports: tuple[str, ...] = field(default=(), repr=False)

    @property
    def local(self) -> bool:
        """Whether only weft itself can know the token."""
        return self.user is not None or self.token.startswith(LOCAL_PREFIX)


def read(authorization: str, passport: str | None = None) -> Credentials:
    """Read the headers.

    :raises InvalidToken: another scheme, or not of its form (RFC 6750, RFC 7617).
    """
    scheme, _, rest = authorization.partition(" ")
    rest = rest.strip()
    if len(rest) > _MOST_BYTES:
        raise InvalidToken("the token is too long")
    passports = tuple(part for item in (passport or "").split(",") if (part := item.strip()))
    if any(_TOKEN.fullmatch(item) is None for item in passports):
        raise InvalidToken("the header GA4GH-Passport holds no JWT")
    match scheme.lower():
        case "bearer" if _TOKEN.fullmatch(rest):
            return Credentials(token=rest, passports=passports)
        case "basic":
            user, token = _basic(rest)
            return Credentials(token=token, user=user, passports=passports)
        case "bearer":
            raise InvalidToken("the Authorization header holds no bearer token")
    raise InvalidToken("the Authorization header has a scheme other than Bearer and Basic")


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of a ``Bearer`` header; None for any other scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def _basic(text: str) -> tuple[str, str]:
    try:
        user, colon, token = base64.b64decode(text, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidToken("the Authorization header holds no user and password in Base64") from error
    if not colon or not user or not token:
        raise InvalidToken("Basic needs a user and, as the password, a token that weft gave out")
    return user, token
