"""What else has to agree before a request is stored: a hub, for instance, that knows what its nodes can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from weft.model import JsonObject, Kind


class Feasibility(Protocol):
    """Says no to a request that is well formed and could never run."""

    def check(self, kind: Kind, document: JsonObject) -> None:
        """Raise ``InvalidRequest`` with what is missing, or do nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Anything:
    """Says no to nothing."""

    def check(self, kind: Kind, document: JsonObject) -> None:
        """Do nothing."""
