"""Where work of the hub comes in at a site: as a request like anybody's, so the site's own checks and policy decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weft.http.request import Request
from weft.model import JsonObject, Kind, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a hub wants to be run."""

    key: str
    kind: Kind
    #: Who asked at the hub.
    owner: str
    document: JsonObject


class Desk:
    """Makes jobs of this site of what its hub offers."""

    def __init__(self, hub: str, create_task: Callable[[Any, Request], JsonObject]) -> None:
        """Keep the hub's URL, which is the issuer of whom it names, and the operation that stores a task."""
        self._hub = hub
        self._create_task = create_task

    def take(self, offer: Offer) -> str:
        """Store the job and return its id; the same key again returns the first one's.

        :raises WeftError: this site does not take it, in its words; ``Unavailable``: it cannot tell now.
        """
        principal = Principal(issuer=self._hub, subject=offer.owner)
        request = Request(principal=principal, headers={"idempotency-key": f"{self._hub} {offer.key}"[-255:]})
        return str(self._create_task(offer.document, request)["id"])
