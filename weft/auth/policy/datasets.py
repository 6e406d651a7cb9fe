"""Whether a dataset is open to a principal: the project has it, the site approved them, and their visas stand."""

from __future__ import annotations

from collections.abc import Iterator

from weft.auth.policy.document import Use, VisaAsked
from weft.auth.policy.finding import Finding, allowed, refused
from weft.auth.policy.policy import Guarded, Policy
from weft.model import Principal, Visa

#: How far the clock of whoever made a claim may be ahead, in seconds.
_SKEW = 30.0


def dataset_findings(
    policy: Policy, principal: Principal, project: str | None, dataset: Guarded, use: Use, field: str, now: float
) -> Iterator[Finding]:
    """Go through what a dataset asks for. A visa is necessary where it is asked for, and never sufficient."""
    name = dataset.name
    if project is None or name not in policy.terms[project].datasets:
        of = "a job without a project" if project is None else f"the project {project}"
        yield refused("dataset.project", f"the dataset {name} is not open to {of}", field=field, datasets=(name,))
    else:
        yield allowed("dataset.project", f"{project} may use {name}", datasets=(name,))
    if use not in dataset.uses:
        yield refused("dataset.actions", f"nobody may {use} the dataset {name}", field=field, datasets=(name,))
    yield _approval(dataset, principal, project, use, field, now)
    for asked in dataset.visas:
        yield _visa(dataset, principal, asked, field, now)


def grounds(policy: Policy, datasets: tuple[str, ...], visas: tuple[Visa, ...]) -> tuple[Visa, ...]:
    """Return the visas that decisions on these datasets can stand on."""
    if not visas:
        return ()
    asked = [visa for dataset in policy.datasets if dataset.name in datasets for visa in dataset.visas]
    return tuple(visa for visa in visas if any(_matches(visa, wanted) for wanted in asked))


def _approval(dataset: Guarded, principal: Principal, project: str | None, use: Use, field: str, now: float) -> Finding:
    given = [item for item in dataset.approvals if use in item.uses and item.who.has(principal, project)]
    if any(item.until is None or item.until > now for item in given):
        return allowed("dataset.approval", f"approved to {use} {dataset.name}")
    if given:
        return refused(
            "dataset.approval",
            f"the approval to {use} the dataset {dataset.name} has ended",
            field=field,
            datasets=(dataset.name,),
        )
    return refused(
        "dataset.approval",
        f"the site has not approved that you {use} {dataset.name}",
        field=field,
        datasets=(dataset.name,),
    )


def _visa(dataset: Guarded, principal: Principal, asked: VisaAsked, field: str, now: float) -> Finding:
    held = [visa for visa in principal.visas if _matches(visa, asked)]
    if any(visa.expires_at > now and visa.asserted <= now + _SKEW for visa in held):
        return allowed("dataset.visa", f"shows a visa {asked.type} for {dataset.name}")
    words = "has expired" if held else "is missing"
    return refused(
        "dataset.visa",
        f"the visa {asked.type} that the dataset {dataset.name} asks for {words}",
        field=field,
        datasets=(dataset.name,),
        remedy="log in again with a passport that holds it",
    )


def _matches(visa: Visa, asked: VisaAsked) -> bool:
    return (
        visa.type == asked.type
        and visa.value == asked.value
        and (not asked.issuers or visa.issuer in asked.issuers)
        and (not asked.sources or visa.source in asked.sources)
        and (not asked.by or visa.by in asked.by)
    )
