"""Where an installation keeps its audit record, and whether it keeps one."""

from __future__ import annotations

from pathlib import Path

from weft.audit.checkpoints import Sealer
from weft.audit.entry import Entry
from weft.audit.journal import Journal
from weft.clock import Clock
from weft.config import Settings
from weft.store.audit_table import AuditTable


def is_kept(settings: Settings) -> bool:
    """Tell whether acts are recorded: as the setting says, else wherever there is a policy or a login."""
    wanted = settings.policy is not None or settings.auth.mode != "off"
    return wanted if settings.audit is None else settings.audit


def folder(settings: Settings) -> Path:
    """Return the folder of the key, the checkpoints and, with SQLite, the record itself."""
    return settings.data / "audit"


def database(settings: Settings) -> str:
    """Return the record's address: beside the jobs where these are in PostgreSQL, else a file of its own."""
    if settings.audit_database is not None:
        return settings.audit_database
    if settings.database is not None and not settings.database.startswith("sqlite"):
        return settings.database
    return f"sqlite:///{folder(settings) / 'audit.db'}"


def record_once(settings: Settings, entry: Entry) -> None:
    """Record what is done on the command line, before it is done; a server may run meanwhile.

    :raises Unavailable: it cannot be recorded.
    """
    if is_kept(settings):
        journal = open_journal(settings, lambda: entry.at)
        try:
            journal.append(entry)
        finally:
            journal.stop()


def open_journal(settings: Settings, clock: Clock) -> Journal:
    """Return the journal of an installation, started.

    :raises Unavailable: the record cannot be opened, or its end is gone.
    """
    sealer = Sealer(folder(settings), settings.service_id)
    journal = Journal(AuditTable(database(settings)), sealer, node=settings.service_id, clock=clock)
    journal.start()
    return journal
