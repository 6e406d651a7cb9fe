"""A chart of the ratios as SVG: how far each figure is from its goal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Row

_WIDTH, _LINE, _TEXT, _MOST = 1000, 20, 560, 2.0


def svg(rows: Sequence[Row]) -> str:
    """Draw a bar a figure: 1.0 is the goal, longer is better, and at twice the goal a bar is cut."""
    height = (len(rows) + 2) * _LINE
    goal = _x(1.0)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *(_bar(row, (index + 1) * _LINE) for index, row in enumerate(rows)),
        f'<line x1="{goal}" x2="{goal}" y1="{_LINE / 2}" y2="{height - _LINE}" stroke="black"/>',
        f'<text x="{goal}" y="{height - 6}" text-anchor="middle">the goal; to the right is better</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(row: Row, y: int) -> str:
    width = _x(min(row.reach, _MOST)) - _TEXT
    color = "#2e7d32" if row.reached else "#c62828"
    words = f"{row.name}: {row.value:.4g} {row.unit}"
    return (
        f'<text x="{_TEXT - 8}" y="{y + 12}" text-anchor="end">{escape(words)}</text>'
        f'<rect x="{_TEXT}" y="{y + 2}" width="{width:.0f}" height="{_LINE - 6}" fill="{color}"/>'
    )


def _x(reach: float) -> float:
    return _TEXT + reach / _MOST * (_WIDTH - _TEXT - 20)
