"""Show jobs to people: tables, times, colours where the terminal has them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from weft.client.connection import JsonObject

COLOURS = {
    "COMPLETE": "green",
    "RUNNING": "cyan",
    "INITIALIZING": "cyan",
    "EXECUTOR_ERROR": "red",
    "SYSTEM_ERROR": "red",
    "CANCELED": "yellow",
    "CANCELING": "yellow",
}


def console(file: TextIO | None = None) -> Console:
    """Return a console for ``file`` (stdout); where it is no terminal, lines are as long as they need to be."""
    stream = file or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 400, highlight=False, soft_wrap=True)


def state_text(state: object) -> Text:
    """Return the state's word in its colour."""
    word = str(state or "UNKNOWN")
    return Text(word, style=COLOURS.get(word, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Return a table without lines, so that a copied cell is clean."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        grid.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else escape(cell) for cell in row))
    return grid


def tasks_table(tasks: Iterable[JsonObject]) -> Table:
    """Show TES tasks (BASIC view)."""
    rows = [
        (str(task.get("id", "")), state_text(task.get("state")), str(task.get("name") or ""), *_times_of(task))
        for task in tasks
    ]
    return table(("ID", "STATE", "NAME", "CREATED", "TOOK"), rows)


def runs_table(runs: Iterable[JsonObject]) -> Table:
    """Show WES runs (RunSummary, or RunStatus of older servers)."""
    rows = [
        (
            str(run.get("run_id", "")),
            state_text(run.get("state")),
            when(run.get("start_time")),
            took(run.get("start_time"), run.get("end_time")),
            ", ".join(f"{key}={value}" for key, value in (run.get("tags") or {}).items()),
        )
        for run in runs
    ]
    return table(("ID", "STATE", "STARTED", "TOOK", "TAGS"), rows)


def task_logs_table(logs: Iterable[JsonObject]) -> Table:
    """Show the tasks of a run (WES ``TaskLog``)."""
    rows = [
        (
            str(log.get("id", "")),
            str(log.get("name") or ""),
            "" if log.get("exit_code") is None else str(log["exit_code"]),
            when(log.get("start_time")),
            took(log.get("start_time"), log.get("end_time")),
            str(log.get("tes_uri") or ""),
        )
        for log in logs
    ]
    return table(("ID", "NAME", "EXIT", "STARTED", "TOOK", "TES"), rows)


def facts(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Show names and values, one pair a line, without the pairs that say nothing."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            grid.add_row(name, value if isinstance(value, Text) else escape(value))
    return grid


def moment(value: object) -> datetime | None:
    """Read a server's time; None for what is absent or cannot be read. A time without zone counts as UTC."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def when(value: object) -> str:
    """Show a time in the reader's own zone."""
    read = moment(value)
    return "" if read is None else read.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(start: object, end: object) -> str:
    """Show how long something took, or nothing while it is not known."""
    began, over = moment(start), moment(end)
    return "" if began is None or over is None else duration((over - began).total_seconds())


def duration(seconds: float) -> str:
    """Show a number of seconds: "0.4 s", "12 s", "3 min 05 s", "2 h 07 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _times_of(task: JsonObject) -> tuple[str, str]:
    logs = task.get("logs") or [{}]
    return when(task.get("creation_time")), took(logs[-1].get("start_time"), logs[-1].get("end_time"))
