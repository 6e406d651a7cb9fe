"""Three sites, one workflow, no data moved: the federated sums are the pooled counts, exactly, or this fails.

python proof.py [--output FOLDER] [--megabases 2] [--people 200 300 500]
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cohorts
import combine
import federation
import report
from federation import Answer, Policy
from sites import DidNotStart

HERE = Path(__file__).resolve().parent
MINIMUM = 5


class ProofFailed(Exception):
    """The sums are not what they must be."""


def main() -> int:
    """Read the command line, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    parser.add_argument("--megabases", type=float, default=2.0)
    parser.add_argument("--people", type=int, nargs=3, default=cohorts.PEOPLE)
    given = parser.parse_args()
    began = time.monotonic()
    shutil.rmtree(given.output, ignore_errors=True)
    given.output.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(prefix="weft-proof-", ignore_cleanup_errors=True) as scratch:
            Path(scratch).chmod(0o755)
            parts = prove(Path(scratch), given.output, given.megabases, given.people)
    except (ProofFailed, DidNotStart) as error:
        print(f"The proof failed: {error}")
        return 1
    page = given.output / "report.html"
    report.write(parts, page, time.monotonic() - began)
    say(f"Report: {page}")
    return 0


def prove(scratch: Path, output: Path, megabases: float, people: Sequence[int]) -> list[report.Part]:
    """Make the cohorts, let the sites join a hub, run the three analyses through it."""
    held = scratch / "cohorts"
    say(f"cohorts: {cohorts.make(held, megabases, people)} positions, {sum(people)} people")
    pooled = combine.read(held / "pooled.tsv")
    with federation.running(scratch, {site: held / site for site in cohorts.SITES}) as sites:
        say(f"hub: {sites.hub.url}, sites: {', '.join(sites.sites)}")
        sites.apply({"cz": Policy(release="auto"), "ee": Policy(release="auto"), "pt": Policy(release="manual")})
        exact = sites.analyse(output / "exact", minimum=1, review=("pt",))
        parts = [exact_part(exact, pooled)]
        say(parts[-1].outcome)
        careful = sites.analyse(output / "minimum-count", minimum=MINIMUM, review=("pt",))
        parts.append(careful_part(careful, pooled))
        say(parts[-1].outcome)
        sites.apply({"pt": Policy(release="manual", permits=False)})
        denied = sites.analyse(output / "denied", minimum=MINIMUM, require="quorum:2")
        parts.append(denied_part(denied, pooled))
        say(parts[-1].outcome)
    return parts


def exact_part(answer: Answer, pooled: combine.Table) -> report.Part:
    """Demand equality on every allele.

    :raises ProofFailed: a site did not answer, or one count differs.
    """
    _demand_all(answer)
    sums = combine.combine(tables(answer))
    wrong = combine.differences(sums, pooled)
    if wrong or not all(found.complete for found in sums.values()):
        raise ProofFailed(f"{len(wrong)} alleles differ from the pooled counts, such as {wrong[:3]}")
    return report.Part(
        title="Nothing suppressed",
        outcome=f"Federated equals pooled exactly on all {len(sums)} alleles.",
        sites=shares(answer),
        sums=sums,
        pooled=pooled,
    )


def careful_part(answer: Answer, pooled: combine.Table) -> report.Part:
    """Demand equality wherever every site told its count, and that what is missing is within the bounds.

    :raises ProofFailed: it is not so.
    """
    _demand_all(answer)
    sums = combine.combine(tables(answer))
    wrong = combine.differences(sums, pooled)
    if wrong:
        raise ProofFailed(f"{len(wrong)} complete alleles differ, such as {wrong[:3]}")
    for allele, found in sums.items():
        truth = pooled[allele][0]
        if truth is None or not found.ac <= truth <= found.ac + found.an_suppressed:
            raise ProofFailed(f"{allele}: {found} cannot come to {truth}")
    suppressed = sum(1 for found in sums.values() if not found.complete)
    return report.Part(
        title=f"Minimum count {MINIMUM}",
        outcome=f"{suppressed} of {len(sums)} alleles are suppressed at one site or more; all others are exact.",
        sites=shares(answer),
        sums=sums,
        pooled=pooled,
        notes=(f"What left pt was approved file by file ({federation.REVIEWER}).",),
    )


def denied_part(answer: Answer, pooled: combine.Table) -> report.Part:
    """Demand that two sites answered, that the result says it is partial, and that the third says why.

    :raises ProofFailed: it is not so.
    """
    if answer.state != "COMPLETE" or not answer.partial or sorted(answer.reasons) != ["pt"] or len(answer.folders) != 2:
        raise ProofFailed(f"expected two answers and a reason, and got {answer}")
    return report.Part(
        title="One site says no",
        outcome=f"Partial: {len(answer.folders)} of 3 sites answered. {answer.reasons['pt']}",
        sites=shares(answer),
        sums=combine.combine(tables(answer)),
        pooled=pooled,
        covers_all=False,
        notes=("Two sites were required (quorum:2), so the run counts as complete, and says that it is partial.",),
    )


def _demand_all(answer: Answer) -> None:
    if answer.state != "COMPLETE" or answer.partial or len(answer.folders) != len(cohorts.SITES):
        raise ProofFailed(f"not every site answered: {answer}")


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def tables(answer: Answer) -> list[combine.Table]:
    """Read the tables of the sites that answered."""
    return [combine.read(folder / "frequencies.tsv") for folder in answer.folders.values()]


def shares(answer: Answer) -> dict[str, tuple[int, int] | str]:
    """Read each site's own word on how much it suppressed, or why it sent nothing."""
    said: dict[str, tuple[int, int] | str] = {}
    for site, folder in answer.folders.items():
        with (folder / "summary.tsv").open(newline="") as stream:
            (row,) = csv.DictReader(stream, delimiter="\t")
        said[site] = int(row["alleles"]), int(row["suppressed"])
    return {**said, **answer.reasons}


if __name__ == "__main__":
    sys.exit(main())
