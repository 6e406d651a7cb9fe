"""Make three synthetic cohorts of one population with three demes, and what they come to when they are pooled.

    python cohorts.py FOLDER [--megabases 2] [--people 200 300 500]

``FOLDER/SITE/cohort.vcf.gz`` is what a site holds, on the same positions everywhere, as after genotyping with one
panel. ``FOLDER/pooled.tsv`` is counted here from all genotypes at once, without bcftools: what no site could know.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path

import msprime
import tskit

SITES = ("cz", "ee", "pt")
PEOPLE = (200, 300, 500)
_SEED = 2026


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabases", type=float, default=2.0)
    parser.add_argument("--people", type=int, nargs=3, default=PEOPLE)
    given = parser.parse_args()
    make(given.folder, given.megabases, given.people)


def make(folder: Path, megabases: float, people: Sequence[int] = PEOPLE) -> int:
    """Write the cohorts and the pooled table; return the number of positions."""
    genealogies = simulate(megabases, people)
    first = 0
    for site, size in zip(SITES, people, strict=True):
        write_cohort(genealogies, range(first, first + size), folder / site / "cohort.vcf.gz")
        first += size
    write_pooled(genealogies, folder / "pooled.tsv")
    return int(genealogies.num_sites)


def simulate(megabases: float, people: Sequence[int]) -> tskit.TreeSequence:
    """Return the genealogies, with mutations, of three demes between which people move now and then."""
    demes = msprime.Demography.island_model([10_000] * len(people), migration_rate=1e-4)
    genealogies = msprime.sim_ancestry(
        samples=dict(enumerate(people)),
        demography=demes,
        sequence_length=megabases * 1e6,
        recombination_rate=1e-8,
        random_seed=_SEED,
    )
    return msprime.sim_mutations(genealogies, rate=1.2e-8, random_seed=_SEED)


def write_cohort(genealogies: tskit.TreeSequence, individuals: range, path: Path) -> None:
    """Write the genotypes of these people as VCF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", compresslevel=1) as stream:
        genealogies.write_vcf(
            stream,
            individuals=list(individuals),
            contig_id="chr1",
            position_transform=lambda at: [int(x) + 1 for x in at],
        )


def write_pooled(genealogies: tskit.TreeSequence, path: Path) -> None:
    """Count each allele over all chromosomes."""
    with path.open("w") as stream:
        print("chrom", "pos", "ref", "alt", "ac", "an", sep="\t", file=stream)
        for variant in genealogies.variants():
            counts = variant.counts()
            reference = variant.alleles[0]
            for allele in variant.alleles[1:]:
                position = int(variant.site.position) + 1
                row = ("chr1", position, reference, allele, counts[allele], genealogies.num_samples)
                print(*row, sep="\t", file=stream)


if __name__ == "__main__":
    main()
