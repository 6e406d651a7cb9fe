"""Where work of the hub comes in at a site: as a request like anybody's, so the site's own checks and policy decide."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from weft.feasibility import Anything, Feasibility
from weft.http.request import Request
from weft.model import JsonObject, Kind, Principal

_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a hub wants to be run."""

    key: str
    kind: Kind
    #: Who asked at the hub.
    owner: str
    document: JsonObject


class Stream(Protocol):
    """The bytes of a form."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        ...


class CreateTask(Protocol):
    """``TesApi.create_task``."""

    def __call__(self, body: Any, request: Request) -> JsonObject:
        """Store a task."""
        ...


class CreateRun(Protocol):
    """``WesApi.run_workflow``."""

    def __call__(self, request: Request, stream: Stream) -> JsonObject:
        """Store a run."""
        ...


#: Opens the form of an offered run by its key: its content type and its bytes.
FetchRun = Callable[[str], AbstractContextManager[tuple[str, Stream]]]


class Desk:
    """Makes jobs of this site of what its hub offers."""

    def __init__(
        self,
        hub: str,
        *,
        create_task: CreateTask,
        create_run: CreateRun,
        fetch_run: FetchRun,
        feasible: Feasibility | None = None,
    ) -> None:
        """Keep the hub's URL, which is the issuer of whom it names, and the operations that store jobs.

        :param feasible: refuses what may not come in here.
        """
        self._feasible = feasible or Anything()
        self._hub = hub
        self._create_task = create_task
        self._create_run = create_run
        self._fetch_run = fetch_run

    def take(self, offer: Offer) -> str:
        """Store the job and return its id; the same key again returns the first one's.

        :raises WeftError: this site does not take it, in its words; ``Unavailable``: it cannot tell now.
        """
        self._feasible.check(offer.kind, offer.document)
        headers = {"idempotency-key": f"{self._hub} {offer.key}"[-_LONGEST_KEY:]}
        principal = Principal(issuer=self._hub, subject=offer.owner)
        if offer.kind is Kind.TASK:
            return str(self._create_task(offer.document, Request(principal=principal, headers=headers))["id"])
        with self._fetch_run(offer.key) as (content_type, stream):
            headers["content-type"] = content_type
            return str(self._create_run(Request(principal=principal, headers=headers), stream)["run_id"])
