"""Write the report of the proof: one page with three small tables and a plot, and nothing to load from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from combine import Allele, Sum, Table

_SIDE = 360
_MARGIN = 44
_MOST_POINTS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One analysis over all sites."""

    title: str
    #: What became of it, in a sentence.
    outcome: str
    #: Site -> (alleles, suppressed alleles), or why there is nothing of it.
    sites: Mapping[str, tuple[int, int] | str]
    sums: Mapping[Allele, Sum]
    pooled: Table
    #: Whether the sums are of the same people as the pooled counts.
    covers_all: bool = True
    notes: Sequence[str] = field(default_factory=tuple)


def write(parts: Sequence[Part], path: Path, took: float) -> None:
    """Write the page."""
    sections = "\n".join(_section(part) for part in parts)
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Federated allele frequencies</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .25rem .9rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }}
td.no {{ text-align: left; color: #a33 }}
svg text {{ font: 12px system-ui, sans-serif; fill: #444 }}
</style>
<h1>Federated allele frequencies</h1>
<p>Each site counted alleles in its own cohort, which never left it. Only the tables that the sites released were
summed here. The cohorts are synthetic, so the pooled counts are known and stand beside the sums.</p>
{sections}
<p>Made in {took:.0f} s.</p>
</html>
""",
        encoding="utf-8",
    )


def _section(part: Part) -> str:
    complete = sum(1 for found in part.sums.values() if found.complete)
    rows = "\n".join(_row(site, said) for site, said in part.sites.items())
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in part.notes)
    return f"""<h2>{html.escape(part.title)}</h2>
<p>{html.escape(part.outcome)}</p>
<table><tr><th>site</th><th>alleles</th><th>suppressed</th><th>share</th></tr>
{rows}
</table>
<p>{complete} of {len(part.sums)} alleles have a count from every site that answered{_compared(part)}.</p>
{f"<ul>{notes}</ul>" if notes else ""}
{_plot(part)}"""


def _compared(part: Part) -> str:
    if not part.covers_all:
        return "; the pooled counts are of more people, so they differ"
    return ", and each of these is the pooled count"


def _row(site: str, said: tuple[int, int] | str) -> str:
    if isinstance(said, str):
        return f'<tr><td>{html.escape(site)}</td><td class="no" colspan="3">{html.escape(said)}</td></tr>'
    alleles, suppressed = said
    share = suppressed / alleles if alleles else 0.0
    return f"<tr><td>{html.escape(site)}</td><td>{alleles}</td><td>{suppressed}</td><td>{share:.1%}</td></tr>"


def _plot(part: Part) -> str:
    """Draw each allele's frequency: pooled along the foot, federated up the side."""
    alleles = sorted(allele for allele, found in part.sums.items() if found.an and allele in part.pooled)
    chosen = alleles[:: max(1, -(-len(alleles) // _MOST_POINTS))]
    points = "".join(_point(part.sums[allele], part.pooled[allele]) for allele in chosen)
    low, high = _MARGIN, _MARGIN + _SIDE
    ticks = "".join(_tick(share / 4) for share in range(5))
    return f"""<svg viewBox="0 0 {high + 20} {high + 40}" width="{high + 20}" role="img"
aria-label="Frequency of each allele, federated against pooled">
<path d="M{low} 10V{10 + _SIDE}H{high}" fill="none" stroke="#888"/>
<path d="M{low} {10 + _SIDE}L{high} 10" stroke="#ccc"/>
{ticks}{points}
<text x="{low + _SIDE / 2}" y="{high + 12}" text-anchor="middle">frequency in all cohorts pooled</text>
<text transform="translate(12 {10 + _SIDE / 2}) rotate(-90)" text-anchor="middle">federated frequency</text>
</svg>"""


def _point(found: Sum, pooled: tuple[int | None, int]) -> str:
    assert pooled[0] is not None
    x = _MARGIN + _SIDE * pooled[0] / pooled[1]
    y = 10 + _SIDE * (1 - found.ac / found.an)
    colour = "#2563a8" if found.complete else "#d98324"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{colour}" fill-opacity=".5"/>'


def _tick(share: float) -> str:
    x, y = _MARGIN + _SIDE * share, 10 + _SIDE * (1 - share)
    return (
        f'<text x="{x}" y="{_MARGIN + _SIDE - 16}" text-anchor="middle">{share:g}</text>'
        f'<text x="{_MARGIN - 6}" y="{y + 4}" text-anchor="end">{share:g}</text>'
    )
