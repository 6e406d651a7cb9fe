"""The tables: what may stand in the database. The schema itself refuses rows that the law does not know.

Times are seconds since the epoch. JSON is kept as bytes, because answers are made of those bytes unread. Ids sort
by time, so ``id DESC`` is newest first. A change here needs a new file in ``migrations/versions``;
``tests/store/test_schema.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    literal_column,
)

from weft.model import Kind, Place
from weft.states import DRIVEN, STORED, TERMINAL, State

#: The newest file in ``migrations/versions``: a database at this revision needs no Alembic at start.
HEAD = "0006"

metadata = MetaData()

#: Text that is compared by code point, so that a prefix is a range of the index.
_BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")


def words(values: Iterable[State | Kind | Place]) -> str:
    """Write a closed set of words as an SQL list, in a fixed order."""
    return ", ".join(f"'{value.value}'" for value in sorted(values))


def is_in(column: Column[str], states: Iterable[State]) -> ColumnElement[bool]:
    """Compare with states that stand in the statement's text: only then may SQLite use a partial index."""
    return column.in_([literal_column(f"'{state.value}'", Text) for state in sorted(states)])


jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("name", _BYTEWISE),
    Column("parent", Text),
    # A task with ``inputs[].content``: without any, the BASIC view may paste the document's bytes.
    Column("has_content", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("lease_owner", Text),
    Column("lease_until", Double),
    Column("executor", Text),
    Column("native_id", Text),
    Column("idempotency_key", Text),
    # Only where they are not the document's own.
    Column("tags", LargeBinary),
    # The long ones come last: SQLite reads what stands before them without following their overflow pages.
    Column("document", LargeBinary, nullable=False),
    Column("outputs", LargeBinary),
    # The site's project whose members share the job, and what the policy's decision stood on.
    Column("project", Text),
    Column("grounds", LargeBinary),
    CheckConstraint(f"kind IN ({words(Kind)})", name="jobs_kind"),
    CheckConstraint(f"state IN ({words(STORED)})", name="jobs_state"),
    CheckConstraint(f"(ended_at IS NOT NULL) = (state IN ({words(TERMINAL)}))", name="jobs_ended"),
    CheckConstraint(f"(lease_owner IS NOT NULL) = (state IN ({words(DRIVEN)}))", name="jobs_leased"),
    CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="jobs_lease_whole"),
    CheckConstraint("(executor IS NULL) = (native_id IS NULL)", name="jobs_handle_whole"),
    CheckConstraint("attempt >= 0 AND max_attempts >= 1", name="jobs_attempt"),
)


def _partial(name: str, *columns: Column[Any] | ColumnElement[Any], where: ColumnElement[bool], unique: bool) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


QUEUED = jobs.c.state == literal_column(f"'{State.QUEUED.value}'", Text)
LEASED = jobs.c.lease_owner.is_not(None)

_partial(
    "jobs_queue",
    jobs.c.kind,
    jobs.c.owner,
    jobs.c.priority.desc(),
    jobs.c.id,
    jobs.c.not_before,
    where=QUEUED,
    unique=False,
)
_partial("jobs_driven", jobs.c.kind, jobs.c.owner, where=LEASED, unique=False)
_partial("jobs_lease", jobs.c.lease_until, where=LEASED, unique=False)
_partial("jobs_parent", jobs.c.parent, jobs.c.id, where=jobs.c.parent.is_not(None), unique=False)
_partial("jobs_name", jobs.c.kind, jobs.c.name, jobs.c.id, where=jobs.c.name.is_not(None), unique=False)
_partial(
    "jobs_idempotency",
    jobs.c.owner,
    jobs.c.kind,
    jobs.c.idempotency_key,
    where=jobs.c.idempotency_key.is_not(None),
    unique=True,
)
Index("jobs_by_kind", jobs.c.kind, jobs.c.id)
Index("jobs_by_state", jobs.c.kind, jobs.c.state, jobs.c.id)
Index("jobs_by_owner", jobs.c.kind, jobs.c.owner, jobs.c.id)
_partial("jobs_by_project", jobs.c.kind, jobs.c.project, jobs.c.id, where=jobs.c.project.is_not(None), unique=False)


def _of_a_job(*, primary_key: bool = True) -> Column[str]:
    return Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=primary_key)


# No foreign key: removing a job names its tags one by one, which spares an index over ``job_id`` on every insert.
tags = Table(
    "tags",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Index("tags_by_key", "key", "job_id"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    _of_a_job(),
    Column("number", Integer, primary_key=True),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("executor", Text),
    Column("native_id", Text),
    Column("steps", LargeBinary),
    Column("outputs", LargeBinary),
    Column("metadata", LargeBinary),
    CheckConstraint("number >= 1", name="attempts_number"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    _of_a_job(),
    # Counts from 1 within the job: one tree, and a job's events lie side by side.
    Column("seq", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("source", Text),
    Column("target", Text),
    Column("message", Text),
    CheckConstraint("target IS NOT NULL OR message IS NOT NULL", name="events_say_something"),
    sqlite_with_rowid=False,
)

# Bytes, because programs write what is not text, NUL among it.
tails = Table(
    "tails",
    metadata,
    _of_a_job(),
    Column("attempt", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("stdout", LargeBinary, nullable=False),
    Column("stderr", LargeBinary, nullable=False),
)

# Who is to be told of a job's moves. Gone with the message that says its end, and with the job.
callbacks = Table(
    "callbacks",
    metadata,
    _of_a_job(),
    Column("place", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("running", Boolean, nullable=False),
    CheckConstraint(f"place IN ({words(Place)})", name="callbacks_place"),
    sqlite_with_rowid=False,
)

# What is still to be told: written with the move, and no part of the job, which may be removed before.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("tries", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Index("outbox_due", "due_at"),
)

tokens = Table(
    "tokens",
    metadata,
    # SHA-256 of the token; the token itself is never stored.
    Column("hash", LargeBinary, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("roles", LargeBinary, nullable=False),
    Column("run", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    # Of a person's token: what it is listed and revoked by; a run's has none.
    Column("id", Text),
    Column("groups", LargeBinary),
    # NULL: it may do all that its owner may.
    Column("scopes", LargeBinary),
)
_partial("tokens_by_id", tokens.c.id, where=tokens.c.id.is_not(None), unique=True)
_partial("tokens_by_run", tokens.c.run, where=tokens.c.run.is_not(None), unique=False)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("heartbeat_at", Double, nullable=False),
    Column("capabilities", LargeBinary, nullable=False),
)

# Owners who may have more or fewer jobs running than the workers' default; NULL: any number.
shares = Table(
    "shares",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("running", Integer),
    CheckConstraint("running >= 0", name="shares_running"),
)
# -- Federation, at the hub ------------------------------------------------------------------------------------

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    # A JWK of the public half; the private one never leaves the site.
    Column("public_key", LargeBinary, nullable=False),
    Column("standing", Text, nullable=False),
    Column("joined_at", Double, nullable=False),
    Column("heard_at", Double, nullable=False),
    # What the site says of itself: service-info, capacity, datasets.
    Column("declared", LargeBinary, nullable=False),
    # What it said at its last heartbeat: jobs that wait and run.
    Column("load", LargeBinary),
    CheckConstraint("standing IN ('active', 'suspended')", name="nodes_standing"),
)

invites = Table(
    "invites",
    metadata,
    # SHA-256 of the enrolment token; the token itself is never stored.
    Column("hash", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    # Who used it, as the thumbprint of a key: the same join again, after a lost answer, is no second use.
    Column("used_by", Text),
)

nonces = Table(
    "nonces",
    metadata,
    Column("node", Text, primary_key=True),
    Column("nonce", Text, primary_key=True),
    Column("expires_at", Double, nullable=False),
    Index("nonces_by_end", "expires_at"),
    sqlite_with_rowid=False,
)

assignments = Table(
    "assignments",
    metadata,
    # Job id and attempt: the same key never starts two.
    Column("key", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", Double, nullable=False),
    # A cancel that the node was asked for, and when it was last told.
    Column("cancelled", Boolean, nullable=False),
    Column("told_at", Double),
    # Number of the newest report that was taken in.
    Column("seq", BigInteger, nullable=False),
    Column("report", LargeBinary),
    Column("document", LargeBinary, nullable=False),
    CheckConstraint("stage IN ('offered', 'sent', 'taken', 'ended', 'withdrawn')", name="assignments_stage"),
    CheckConstraint(f"kind IN ({words(Kind)})", name="assignments_kind"),
    Index("assignments_by_node", "node", "stage"),
)

# -- Federation, at a node -------------------------------------------------------------------------------------

claims = Table(
    "claims",
    metadata,
    # The hub's key of the assignment, and the job of this site that was made of it; none of one that was refused.
    Column("key", Text, primary_key=True),
    Column("job_id", Text),
    Column("refusal", Text),
    # The state and the end of the logs that the hub has confirmed, and the number of the newest report.
    Column("said", Text),
    Column("seq", BigInteger, nullable=False),
    # Nothing more is to be said of it.
    Column("closed_at", Double),
    CheckConstraint("job_id IS NOT NULL OR refusal IS NOT NULL", name="claims_say_something"),
)
_partial("claims_open", claims.c.key, where=claims.c.closed_at.is_(None), unique=False)
Index("claims_by_job", claims.c.job_id)
