"""The store: jobs, attempts, events, the law of moves, leases, keyset pages. The only door to the database."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from weft.model import (
    Attempt,
    Delivery,
    Event,
    FileType,
    Handle,
    Job,
    JsonObject,
    Kind,
    NewJob,
    Principal,
    StepResult,
    StoredOutput,
    Tail,
)
from weft.states import State
from weft.store import dialect, history, jobs, leases, moves, outbox, pages, shares, tokens, workers
from weft.store.bell import Bell
from weft.store.counting import KeptCounts
from weft.store.link import Link, Readers, open_writer
from weft.store.notify import NotifyBell
from weft.store.pages import Filters
from weft.store.patience import Patience
from weft.store.rows import Brief, Row
from weft.store.tokens import IssuedToken
from weft.store.upgrade import upgrade
from weft.store.workers import WorkerInfo
from weft.store.writer import Writer

__all__ = ["Brief", "Filters", "IssuedToken", "Page", "Row", "Store", "WorkerInfo"]

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Jobs newest first, and the token of the next page or None."""

    jobs: tuple[Job, ...]
    next_token: str | None


class Store:
    """One database. Reads may be called from any thread; writes are group-committed by one writer thread.

    Every method that returns has its change on disk. ``now`` is always an argument: seconds since the epoch. All
    methods raise ``Unavailable`` when the database cannot be used now (a full disk, a locked or read-only file); then
    nothing was changed, or at least nothing that anybody was told of.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Assign; ``start`` opens.

        :param url: SQLAlchemy's, such as ``sqlite:////path/weft.db`` or ``postgresql://user:password@host/name``.
        :param monotonic: seconds on a clock that is never set, for leases of a clock that was.

        :raises ValueError: a database in memory, or of another make than SQLite and PostgreSQL.
        :raises Unavailable: PostgreSQL's driver is not installed.
        """
        self._engine = dialect.open_engine(url)
        self._readers = Readers(self._engine)
        self.writer = Writer(partial(open_writer, self._engine), self._rang)
        self._patience = Patience(monotonic)
        self._counts = KeptCounts(monotonic)
        self._turns = shares.Turns()
        self._listeners: tuple[Callable[[], None], ...] = ()
        #: Ring at the end of every job too, for those who pass ends on to somebody else.
        self.tells_ends = False
        file = dialect.database_file(self._engine.url)
        self._bell = NotifyBell(self._engine, self._tell) if file is None else Bell(file.parent / "wake", self._tell)

    @property
    def address(self) -> str:
        """The database's URL without its password, for people and logs."""
        return self._engine.url.render_as_string(hide_password=True)

    # Life

    def start(self) -> None:
        """Bring the schema up to date and begin to write. May be called twice.

        :raises Unavailable: the database cannot be opened, or is of a newer weft.
        """
        if self.writer.alive:
            return
        dialect.prepare_file(self._engine)
        upgrade(self._engine)
        self._readers = Readers(self._engine)
        self._bell.start()
        self.writer.start()

    def stop(self) -> None:
        """Write what waits and close all connections. May be called twice."""
        self.writer.stop()
        self._bell.stop()
        self._readers.close()
        self._engine.dispose()

    def ready(self) -> bool:
        """Tell whether jobs can be read and a transaction can be written now."""
        try:
            self.get("")
            self.writer.run(lambda link: None)
        except Exception:
            return False
        return True

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` (must be quick) after each commit that created, cancelled or re-queued a job.

        It is called in a thread of the store, and cannot write to the store there. Commits of other processes are
        heard too: with SQLite those on the same host, with PostgreSQL all.
        """
        self._listeners = (*self._listeners, listener)

    # Jobs

    def create(self, new: NewJob) -> Job:
        """Store a QUEUED job; an idempotency key seen before for this owner and kind returns the first job.

        :raises Conflict: its run is over or being cancelled.
        :raises InvalidRequest: the document holds what cannot be stored.
        """
        known = self.writer.run_each(jobs.create_all, new, rings=True)
        return jobs.as_created(new) if known is None else known

    def create_soon(self, new: NewJob) -> asyncio.Future[Job | None]:
        """Like ``create``, for a coroutine; None: ``new`` is on disk and no job came before it."""
        return self.writer.submit_soon(jobs.create_all, new, rings=True)

    def get(self, job_id: str) -> Job | None:
        """Return a job; None when there is none of this id."""
        row = self.row(job_id)
        return None if row is None else row.job

    def row(self, job_id: str) -> Row | None:
        """Like ``get``, with the document as the bytes that are stored."""
        with self._readers.link() as link:
            return jobs.get(link, job_id)

    def brief(self, job_id: str) -> Brief | None:
        """Return how a job stands and who may see it; cheaper than ``row``."""
        with self._readers.link() as link:
            return jobs.brief(link, job_id)

    def page(self, kind: Kind, filters: Filters, size: int, token: str | None) -> Page:
        """Return at most ``size`` jobs, newest first.

        :raises InvalidRequest: (field ``page_token``) the token is not of this list with these filters.
        """
        rows, next_token = self.rows(kind, filters, size, token)
        return Page(jobs=tuple(row.job for row in rows), next_token=next_token)

    def rows(self, kind: Kind, filters: Filters, size: int, token: str | None) -> tuple[list[Row], str | None]:
        """Like ``page``, with documents as the bytes that are stored."""
        values, next_token = self.columns(kind, Row._fields[1:], filters, size, token)
        return [Row._make(row) for row in values], next_token

    def columns(
        self, kind: Kind, names: tuple[str, ...], filters: Filters, size: int, token: str | None
    ) -> tuple[list[tuple[Any, ...]], str | None]:
        """Like ``rows``, with nothing but the id and the named fields of ``Row``: the less is asked, the faster."""
        with self._readers.link() as link:
            return pages.rows_of(link, kind, names, filters, size, token)

    def counts(self, kind: Kind, owner: str | None) -> Mapping[State, int]:
        """Count jobs by state, for every state in which a job can rest; where they are many, as of the last second."""
        return self._counts.of(kind, owner, partial(self._count, kind, owner))

    def _count(self, kind: Kind, owner: str | None) -> Mapping[State, int]:
        with self._readers.link() as link:
            return jobs.counts(link, kind, owner)

    def attempts(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Attempt, ...]]:
        """Return the attempts of each job, first try first."""
        with self._readers.link() as link:
            return history.attempts_of(link, job_ids)

    def events(self, job_id: str) -> tuple[Event, ...]:
        """Return a job's events in the order in which they happened."""
        return self.events_of([job_id])[job_id]

    def events_of(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Event, ...]]:
        """Return the events of each job, in one query."""
        with self._readers.link() as link:
            return history.events_of(link, job_ids)

    def tails(self, job_id: str) -> tuple[Tail, ...]:
        """Return the log tails of a job by attempt and step."""
        return self.tails_of([job_id])[job_id]

    def tails_of(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Tail, ...]]:
        """Return the log tails of each job, in one query."""
        with self._readers.link() as link:
            return history.tails_of(link, job_ids)

    def children(self, run_id: str, states: Collection[State]) -> tuple[str, ...]:
        """Return the ids of a run's tasks that are in these states, oldest first."""
        with self._readers.link() as link:
            return jobs.children(link, run_id, states)

    def ended_before(self, at: float, limit: int) -> tuple[str, ...]:
        """Return the ids of at most ``limit`` jobs that ended before a moment and are no run's tasks, oldest first."""
        with self._readers.link() as link:
            return jobs.ended_before(link, at, limit)

    def delete(self, job_id: str) -> bool:
        """Remove a terminal job and all that is known of it; False when there is none such."""
        return self.writer.run(partial(jobs.remove, job_id=job_id))

    # Leases

    def claim(
        self,
        worker: str,
        kinds: Collection[Kind],
        limit: int,
        *,
        now: float,
        until: float,
        most_each: int | None = None,
    ) -> tuple[Job, ...]:
        """QUEUED -> INITIALIZING, attempt + 1, lease, a new attempt row; every owner gets a fair share.

        Who has the fewest jobs running is next, and equals take turns; within one owner the highest priority goes
        first, then the oldest.

        :param most_each: the most jobs of a kind that one owner may have running, unless ``allow`` said otherwise.
        """
        return self.writer.run(
            partial(
                leases.claim,
                worker=worker,
                kinds=kinds,
                limit=limit,
                now=now,
                until=until,
                turns=self._turns,
                most_each=most_each,
            )
        )

    def queued(self, owner: str | None) -> int:
        """Count the jobs that wait, of one owner or of all; costs as much as there are."""
        with self._readers.link() as link:
            return shares.queued(link, owner)

    def allow(self, owner: str, running: int | None) -> None:
        """Let an owner have so many jobs of a kind running (None: any number), whatever ``most_each`` says."""
        self.writer.run(partial(shares.allow, owner=owner, running=running), rings=True)

    def allow_default(self, owner: str) -> None:
        """Undo ``allow``."""
        self.writer.run(partial(shares.allow_default, owner=owner), rings=True)

    def take_over(self, worker: str, limit: int, *, now: float, until: float) -> tuple[Job, ...]:
        """Jobs in DRIVEN states whose lease expired: same state, same attempt, new lease owner."""
        return self.writer.run(
            partial(leases.take_over, worker=worker, limit=limit, now=now, until=until, patience=self._patience)
        )

    def renew(self, worker: str, job_ids: Collection[str], *, until: float) -> frozenset[str]:
        """Extend leases; returns the ids that are still this worker's."""
        return self.writer.run(partial(leases.renew, worker=worker, job_ids=job_ids, until=until))

    def release(self, worker: str) -> None:
        """At a clean stop: expire this worker's leases now, so that the next start takes over at once."""
        self.writer.run(partial(leases.release, worker=worker), rings=True)

    def driven_by(self, worker: str) -> tuple[Job, ...]:
        """Return the jobs whose lease this worker holds, oldest first."""
        with self._readers.link() as link:
            return jobs.driven_by(link, worker)

    def cancelling(self, worker: str) -> tuple[Job, ...]:
        """Return those among them that are CANCELING."""
        return tuple(job for job in self.driven_by(worker) if job.state is State.CANCELING)

    def live_keys(self) -> frozenset[str]:
        """Return the keys (id-attempt) of all jobs in DRIVEN states: a native job of another key is an orphan."""
        with self._readers.link() as link:
            return jobs.live_keys(link)

    # Moves

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
        not_before: float | None = None,
    ) -> Job | None:
        """One conditional update with its event, and what is known of the attempt, in one transaction.

        With ``lease_owner`` it also requires that this worker holds the lease (fencing). None: somebody was first.
        A job moved to QUEUED is not claimed again before ``not_before``. Metadata are added to those already there.

        :raises Bug: an illegal move (not in ``states.MOVES``), or one to INITIALIZING, which only ``claim`` makes.
        """
        moves.check_legal(sources, target)
        operation = partial(
            moves.move,
            job_id=job_id,
            sources=sources,
            target=target,
            now=now,
            message=message,
            lease_owner=lease_owner,
            handle=handle,
            steps=steps,
            outputs=outputs,
            run_outputs=run_outputs,
            metadata=metadata,
            tails=tails,
            not_before=not_before,
        )
        rings = target in (State.QUEUED, State.CANCELED, State.CANCELING) or (self.tells_ends and target.terminal)
        return self.writer.run(operation, rings=rings)

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
        types: Mapping[str, Mapping[str, FileType]] | None = None,
    ) -> bool:
        """Save what is known of the current attempt without a move; False when the lease is lost.

        A line that the attempt's system log already has is not written again. ``types`` (``inputs`` and
        ``outputs`` -> path -> type) are written into the task's document.
        """
        return self.writer.run(
            partial(
                moves.record,
                job_id=job_id,
                now=now,
                lease_owner=lease_owner,
                handle=handle,
                steps=steps,
                metadata=metadata,
                messages=messages,
                tails=tails,
                types=types,
            )
        )

    def save_tails(self, tails: Mapping[str, Sequence[Tail]], *, lease_owner: str) -> None:
        """Save the log tails of several jobs in one transaction; those whose lease is lost are left alone.

        :param tails: job id -> what its steps wrote.
        """
        self.writer.run(partial(moves.save_tails_of, tails=tails, lease_owner=lease_owner))

    def request_cancel(self, job_id: str, *, now: float, message: str | None = None) -> Job | None:
        """QUEUED -> CANCELED, INITIALIZING | RUNNING -> CANCELING, else the unchanged job. None: no such job."""
        return self.writer.run(partial(moves.request_cancel, job_id=job_id, now=now, message=message), rings=True)

    # Tokens and workers

    def create_token(
        self, principal: Principal, *, now: float, expires_at: float | None, token_id: str | None = None
    ) -> str:
        """Return a new bearer token: it is shown this once, and stored as a hash.

        With ``token_id`` it is a person's, which is listed and can be revoked by that id.
        """
        token = f"weft_{secrets.token_urlsafe(32)}"
        self.writer.run(
            partial(tokens.add, token=token, principal=principal, now=now, expires_at=expires_at, token_id=token_id)
        )
        return token

    def list_tokens(self) -> tuple[IssuedToken, ...]:
        """Return what is known of the tokens of people, oldest first."""
        with self._readers.link() as link:
            return tokens.listed(link)

    def revoke_token(self, token_id: str) -> bool:
        """Forget a person's token; False when there is none of this id."""
        return self.writer.run(partial(tokens.revoke_one, token_id=token_id))

    def find_token(self, token: str, *, now: float) -> Principal | None:
        """Return whom a token stands for; None when it is unknown, expired or revoked."""
        with self._readers.link() as link:
            return tokens.find(link, token, now=now)

    def revoke_tokens(self, run: str) -> None:
        """Forget all tokens that are bound to this run."""
        self.writer.run(partial(tokens.revoke, run=run))

    def announce(self, info: WorkerInfo) -> None:
        """Save a worker's heartbeat."""
        self.writer.run(partial(workers.announce, info=info))

    def workers(self, *, since: float) -> tuple[WorkerInfo, ...]:
        """Return the workers whose last heartbeat is not older than ``since``."""
        with self._readers.link() as link:
            return workers.heard_since(link, since)

    # Callbacks

    def callbacks_are_due(self, *, now: float) -> bool:
        """Tell whether a callback waits to be sent."""
        with self._readers.link() as link:
            return outbox.is_due(link, now=now)

    def claim_callbacks(self, limit: int, *, now: float, until: float) -> tuple[Delivery, ...]:
        """Take at most ``limit`` callbacks that are due, oldest first; nobody else gets them before ``until``."""
        return self.writer.run(partial(outbox.claim, limit=limit, now=now, until=until))

    def callback_failed(self, delivery: Delivery, *, due_at: float) -> None:
        """Let a callback be claimed again at ``due_at``."""
        self.writer.run(partial(outbox.postpone, delivery=delivery, due_at=due_at))

    def callback_settled(self, delivery: Delivery, *, now: float, message: str | None = None) -> None:
        """Remove a callback that was taken or given up; a message goes into its job's system log."""
        self.writer.run(partial(outbox.settle, delivery=delivery, now=now, message=message))

    # Operations of the rooms beside jobs (``weft.store.nodes``, ``assignments``, ``claims``)

    def read(self, operation: Callable[[Link], T]) -> T:
        """Run an operation that only reads."""
        with self._readers.link() as link:
            return operation(link)

    def write(self, operation: Callable[[Link], T], *, rings: bool = False) -> T:
        """Run an operation as a part of one transaction, and return what it returns once that is on disk."""
        return self.writer.run(operation, rings=rings)

    def write_soon(self, operation: Callable[[Link], T], *, rings: bool = False) -> Future[T]:
        """Like ``write``, for an event loop that must not wait."""
        return self.writer.submit(operation, rings=rings)

    # The bell

    def _rang(self) -> None:
        self._bell.ring()
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener of the store failed")
