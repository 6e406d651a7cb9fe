"""How a callback is signed: HMAC-SHA256 over id, time and body, as Standard Webhooks 1.0 writes it. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from weft.errors import InvalidRequest

PREFIX = "whsec_"
#: Bytes of a key: less is too easy to guess, more than a block of the hash adds nothing.
_LEAST, _MOST = 24, 64
REMEDY = f'send {PREFIX} and the base64 of {_LEAST} to {_MOST} random bytes: echo "{PREFIX}$(openssl rand -base64 32)"'


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for.

    :raises InvalidRequest: it is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("the secret is not base64", remedy=REMEDY) from error
    if not secret.startswith(PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise InvalidRequest("the secret has another form", remedy=REMEDY)
    return key


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent ``body``, and when.

    :param timestamp: of this try, in seconds since the epoch, so that an old one cannot be sent again later.
    """
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.new(key_of(secret), content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
