"""The store: jobs, attempts, events, the law of moves, leases, keyset pages. (Signatures; the body follows.)"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weft.model import Attempt, Event, Handle, Job, JsonObject, Kind, NewJob, Principal, StepResult, StoredOutput, Tail
from weft.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list may be narrowed by; ``tags`` are (key, value) pairs, an empty value matches any value."""

    owner: str | None = None  # None: everybody's (an operator)
    state: State | None = None
    name_prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    parent: str | None = None  # tasks of this run


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Jobs newest first, and the token of the next page or None."""

    jobs: tuple[Job, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker says of itself, so that the API knows what can run."""

    id: str
    heartbeat_at: float
    capabilities: JsonObject


class Store:
    """One database. Reads may be called from any thread; writes are group-committed by one writer thread.

    Every method that returns has its change on disk. ``now`` is always an argument.
    """

    def create(self, new: NewJob) -> Job: ...  # an idempotency key seen before for this owner returns the first job
    def get(self, job_id: str) -> Job | None: ...
    def page(self, kind: Kind, filters: Filters, size: int, token: str | None) -> Page: ...  # InvalidRequest on a bad token
    def counts(self, kind: Kind, owner: str | None) -> Mapping[State, int]: ...
    def attempts(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Attempt, ...]]: ...
    def events(self, job_id: str) -> tuple[Event, ...]: ...
    def tails(self, job_id: str) -> tuple[Tail, ...]: ...

    def claim(self, worker: str, kinds: Collection[Kind], limit: int, *, now: float, until: float) -> tuple[Job, ...]:
        """QUEUED -> INITIALIZING, attempt + 1, lease, a new attempt row; oldest first within priority."""
        ...
    def take_over(self, worker: str, limit: int, *, now: float, until: float) -> tuple[Job, ...]:
        """Jobs in DRIVEN states whose lease expired: same state, same attempt, new lease owner."""
        ...
    def renew(self, worker: str, job_ids: Collection[str], *, until: float) -> frozenset[str]:
        """Extend leases; returns the ids that are still this worker's."""
        ...
    def release(self, worker: str) -> None:
        """At a clean stop: expire this worker's leases now, so that the next start takes over at once."""
        ...
    def move(
        self,
        job_id: str,
        sources: Collection[State],
        target: State,
        *,
        now: float,
        message: str | None = None,
        lease_owner: str | None = None,
        handle: Handle | None = None,
        steps: Sequence[StepResult] | None = None,
        outputs: Sequence[StoredOutput] | None = None,
        run_outputs: JsonObject | None = None,
        metadata: Mapping[str, str] | None = None,
        tails: Sequence[Tail] = (),
    ) -> Job | None:
        """One conditional update with its event, and what is known of the attempt, in one transaction.

        With ``lease_owner`` it also requires that this worker holds the lease (fencing). None: somebody was first.
        An illegal move (not in ``states.MOVES``) raises ``Bug``.
        """
        ...
    def record(
        self,
        job_id: str,
        *,
        now: float,
        lease_owner: str,
        handle: Handle | None = None,
        steps: Sequence[StepResult] | None = None,
        metadata: Mapping[str, str] | None = None,
        messages: Sequence[str] = (),
        tails: Sequence[Tail] = (),
    ) -> bool:
        """Save what is known of the current attempt without a move; False when the lease is lost."""
        ...
    def request_cancel(self, job_id: str, *, now: float, message: str | None = None) -> Job | None:
        """QUEUED -> CANCELED, INITIALIZING | RUNNING -> CANCELING; terminal or CANCELING: unchanged job. None: no such job."""
        ...
    def children(self, run_id: str, states: Collection[State]) -> tuple[str, ...]:
        """Ids of a run's tasks that are in these states."""
        ...
    def delete(self, job_id: str) -> bool: ...  # only a terminal job

    def cancelling(self, worker: str) -> tuple[Job, ...]: ...  # CANCELING and leased by this worker
    def driven_by(self, worker: str) -> tuple[Job, ...]: ...
    def live_keys(self) -> frozenset[str]: ...  # keys (id-attempt) of all jobs in DRIVEN states, for the orphan sweep

    def create_token(self, principal: Principal, *, now: float, expires_at: float | None) -> str: ...  # returned once, stored hashed
    def find_token(self, token: str, *, now: float) -> Principal | None: ...
    def revoke_tokens(self, run: str) -> None: ...

    def announce(self, info: WorkerInfo) -> None: ...  # a worker's heartbeat
    def workers(self, *, since: float) -> tuple[WorkerInfo, ...]: ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` (must be quick) after each commit that created, cancelled or re-queued a job, by any process."""
        ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def ready(self) -> bool: ...
