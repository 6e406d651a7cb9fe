"""Whether a file may leave its site: the site's policy, and the checks that a machine can make. Pure but for reading.

A table is checked cell by cell: a whole number from 1 to below the minimum count says that something is true of a few
people only. Where the settings name columns these alone are looked at, else every cell that is a whole number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from weft.sections.service import ReleaseSettings

_TABLES = {".tsv": "\t", ".csv": ","}
_LONGEST_CELL = 1 << 20


class Decision(StrEnum):
    """What was decided on a file."""

    PENDING = "pending"
    APPROVED = "approved"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reason in words."""

    decision: Decision
    reason: str


def judge(settings: ReleaseSettings, name: str, file: Path) -> Verdict:
    """Decide on ``file``, which the job calls ``name``."""
    match settings.policy:
        case "auto":
            return Verdict(Decision.APPROVED, "the site releases what its jobs make")
        case "manual":
            return Verdict(Decision.PENDING, "the site reviews it")
        case "checked":
            fault = _fault(settings, name, file)
            if fault is None:
                return Verdict(Decision.APPROVED, "it passed the site's checks")
            return Verdict(Decision.WITHHELD, f"it did not pass the site's checks: {fault}")
        case _:
            return Verdict(Decision.WITHHELD, "outputs stay at this site")


def _fault(settings: ReleaseSettings, name: str, file: Path) -> str | None:
    suffix = Path(name).suffix.lower()
    if suffix not in settings.types:
        return f"its type {suffix or '(none)'} is not one of {', '.join(settings.types)}"
    size, most = file.stat().st_size, settings.max_mb * 1_000_000
    if size > most:
        return f"its {size} bytes are more than {most:.0f}"
    if suffix not in _TABLES:
        return None
    try:
        return _small_cell(settings, file, _TABLES[suffix])
    except (UnicodeDecodeError, csv.Error):
        return "it is no table of text"


def _small_cell(settings: ReleaseSettings, file: Path, separator: str) -> str | None:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = _rows(stream, separator)
        head = next(rows, [])
        columns = [index for index, name in enumerate(head) if name in settings.count_columns]
        if settings.count_columns and not columns:
            return f"it has none of the columns {', '.join(settings.count_columns)}"
        for number, row in enumerate(rows, start=2):
            if len(row) != len(head):
                return f"line {number} has {len(row)} cells and not {len(head)}"
            for index in columns or range(len(row)):
                if _is_small(row[index], settings.min_count):
                    return f"line {number}, column {head[index]!r}: a count below {settings.min_count}"
    return None


def _rows(stream: Iterator[str], separator: str) -> Iterator[Sequence[str]]:
    csv.field_size_limit(_LONGEST_CELL)
    return iter(csv.reader(stream, delimiter=separator, strict=True))


def _is_small(cell: str, minimum: int) -> bool:
    try:
        return 0 < abs(float(cell)) < minimum and float(cell).is_integer()
    except (ValueError, OverflowError):
        return False
