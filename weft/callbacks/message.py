"""What a callback says. Pure: the same delivery gives the same bytes, however often it is sent."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from weft.model import Delivery


def body_of(delivery: Delivery) -> bytes:
    """Return the JSON document; nothing of the job but where it stands, for it may go to another's machine."""
    at = datetime.fromtimestamp(delivery.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps(
        {
            "id": delivery.job_id,
            "kind": delivery.kind.value,
            "state": delivery.state.value,
            "attempt": delivery.attempt,
            "time": at,
        }
    )
