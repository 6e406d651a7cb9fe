"""One row a figure: what was measured, against what, the ratio, and the goal; as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chart import svg

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """``ratio`` is value / limit; ``goal`` says in words what it should be, ``reached`` whether it is.

    ``reach`` is 1 at the goal, and more the better a figure is.
    """

    name: str
    value: float
    limit: float | None
    unit: str
    ratio: float | None
    goal: str
    reach: float

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.reach >= 1


def at_most(name: str, value: float, limit: float, unit: str, goal: float) -> Row:
    """Make a row whose ratio should not exceed ``goal``."""
    return Row(name, value, limit, unit, value / limit, f"<= {goal:.3g} x", goal * limit / value)


def at_least(name: str, value: float, limit: float, unit: str, goal: float) -> Row:
    """Make a row whose ratio should reach ``goal``."""
    return Row(name, value, limit, unit, value / limit, f">= {goal:g} x", value / limit / goal)


def below(name: str, value: float, unit: str, goal: float) -> Row:
    """Make a row whose value itself should stay below ``goal``."""
    return Row(name, value, None, unit, None, f"< {goal:g} {unit}", goal / value if value else 2.0)


def interleaved(rounds: int, *actions: Callable[[], float]) -> list[float]:
    """Take the median of each action's figures, the actions in turn, so that both see the same machine."""
    figures: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for index, action in enumerate(actions):
            figures[index].append(action())
    return [statistics.median(values) for values in figures]


def publish(rows: list[Row]) -> Path:
    """Print the table, and write it as JSON with machine, date and revision, and as a chart beside that."""
    table = Table(title="weft benchmarks")
    for heading in ("figure", "value", "limit", "ratio", "goal", ""):
        table.add_column(heading)
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        reached = "reached" if row.reached else "NOT reached"
        table.add_row(row.name, f"{row.value:.4g} {row.unit}", limit, ratio, row.goal, reached)
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    figures = [{**asdict(row), "reached": row.reached} for row in rows]
    path.write_text(json.dumps({"machine": _machine(), "rows": figures}, indent=1))
    path.with_suffix(".svg").write_text(svg(rows))
    return path


def _machine() -> dict[str, str | int | None]:
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "revision": revision.stdout.strip() or None,
    }
