"""Sum the tables that sites released, allele by allele. Exact, and honest about what is missing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Chromosome, position, reference allele, other allele.
Allele = tuple[str, int, str, str]
#: Allele -> (how many chromosomes have it, or None where the site suppressed that; how many were looked at).
Table = Mapping[Allele, tuple[int | None, int]]


@dataclass(frozen=True, slots=True)
class Sum:
    """One allele over all sites that answered."""

    #: Chromosomes that have it, over the sites that told.
    ac: int
    #: Chromosomes that were looked at, over the sites that told.
    an: int
    #: Chromosomes of sites that suppressed their count.
    an_suppressed: int

    @property
    def complete(self) -> bool:
        """Whether every site told its count."""
        return self.an_suppressed == 0


def read(path: Path) -> dict[Allele, tuple[int | None, int]]:
    """Read one table.

    :raises ValueError: an allele stands in it twice, or a number is none.
    """
    table: dict[Allele, tuple[int | None, int]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            allele = (row["chrom"], int(row["pos"]), row["ref"], row["alt"])
            if allele in table:
                raise ValueError(f"{path}: {allele} stands there twice")
            table[allele] = (None if row["ac"] == "NA" else int(row["ac"]), int(row["an"]))
    return table


def combine(tables: Iterable[Table]) -> dict[Allele, Sum]:
    """Sum counts by allele."""
    sums: dict[Allele, Sum] = {}
    for table in tables:
        for allele, (ac, an) in table.items():
            old = sums.get(allele, Sum(0, 0, 0))
            if ac is None:
                sums[allele] = Sum(old.ac, old.an, old.an_suppressed + an)
            else:
                sums[allele] = Sum(old.ac + ac, old.an + an, old.an_suppressed)
    return sums


def differences(sums: Mapping[Allele, Sum], pooled: Table) -> list[str]:
    """Say where the sums of complete alleles are not exactly the pooled counts; [] when they are."""
    said = [f"{allele} is in one of the two only" for allele in sums.keys() ^ pooled.keys()]
    for allele, found in sums.items():
        if found.complete and allele in pooled and (found.ac, found.an) != pooled[allele]:
            said.append(f"{allele}: federated {found.ac}/{found.an}, pooled {pooled[allele]}")
    return sorted(said)
