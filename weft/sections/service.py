"""The tables of ``weft.toml`` about how weft deals with its clients and with other sites."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from weft.sections.section import Section


class CallbackSettings(Section):
    """Telling a URL that a job ended."""

    by_clients: bool = True
    """Let who creates a job name a URL with the header ``Weft-Callback``."""
    url: str | None = None
    """Where the end of every task and run is told besides; the tasks of runs are left out."""
    secret: SecretStr | None = None
    """Signs what goes to ``url``: ``whsec_`` and the base64 of 24 to 64 random bytes."""
    running: bool = False
    """Tell also when a job begins to run."""


class LimitSettings(Section):
    """What one user may have, and what the server takes on; absent: any number."""

    running: int | None = Field(default=None, ge=1)
    """Tasks of one user that run at once; and as many runs."""
    queued: int | None = Field(default=None, ge=0)
    """Jobs of one user that wait; a create beyond it is answered 429. Tasks of a run count and are never refused."""
    queued_in_all: int | None = Field(default=None, ge=0)
    """Jobs that wait in all; a create beyond it is answered 503."""
    requests: float | None = Field(default=None, gt=0)
    """Requests of one user a second; more are answered 429. Counted in each API process by itself."""
    burst: int = Field(default=100, ge=1)
    """How many of them may come at once."""
    connections: int = Field(default=10_000, ge=1)
    """Open connections of one API process; one more is answered 503. Never more than the open files it may have."""
    at_once: int = Field(default=1000, ge=1)
    """Requests that one API process has in hand; one more is answered 503."""
    stalled_seconds: float = Field(default=30.0, gt=0)
    """A connection is closed on which nothing has moved for so long, or at most twice as long: a client that does not
    send its request, or does not read its answer."""
    priority: int = Field(default=10, ge=0)
    """The highest ``backend_parameters.priority`` of a task, and below 0 the lowest: it ranks the tasks of one user."""


class HubSettings(Section):
    """A hub: a weft whose ``executor`` is ``node``."""

    silent_seconds: float = Field(default=90.0, gt=0)
    """A node that was not heard for so long counts as silent: it gets no new work, and its jobs say so."""
    invite_hours: float = Field(default=24.0, gt=0)
    """How long an enrolment token may be used."""
    release_bytes: int = Field(default=1 << 30, ge=0)
    """Largest file that a node may send here."""


class ReleaseSettings(Section):
    """What may leave a site that has joined a hub: the files of the hub's runs. A task with outputs needs ``auto``."""

    policy: Literal["stay", "auto", "checked", "manual"] = "stay"
    """``stay``: nothing; ``auto``: all; ``checked``: what passes the checks; ``manual``: what somebody approves."""
    logs: bool = True
    """Show the hub the ends of logs. Off where a program might print what it must not."""
    types: tuple[str, ...] = (".tsv", ".csv", ".txt", ".json", ".html", ".svg", ".png", ".pdf")
    """Endings of the names that pass (``checked``)."""
    max_mb: float = Field(default=10.0, gt=0)
    """Largest file that passes (10**6 bytes, ``checked``)."""
    min_count: int = Field(default=5, ge=0)
    """A table with a whole number below this, other than 0, does not pass (``checked``)."""
    count_columns: tuple[str, ...] = ()
    """Columns of tables that hold counts; a table needs one of them. Without any, all whole numbers are counts."""
