"""Whether a dataset is open to a principal: the project has it, the site approved them, and their visas stand."""

from __future__ import annotations

from collections.abc import Iterator

from weft.auth.policy.document import REGISTERED, Use, VisaAsked
from weft.auth.policy.finding import Finding, allowed, refused
from weft.auth.policy.policy import Guarded, Policy
from weft.auth.visas import accepted_terms, controlled_access, registered_access, researcher_status
from weft.model import Principal, Visa

#: What registered access is proved by; the last one joins the identities of one person.
_REGISTERED_BY = ("ResearcherStatus", "AcceptedTermsAndPolicies", "LinkedIdentities")


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
    return tuple(visa for visa in visas if any(_is_of_use(visa, wanted) for wanted in asked))


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
    name = dataset.name
    if _is_proved(asked, principal.visas, now):
        return allowed("dataset.visa", f"shows a visa {asked.type} for {name}")
    ended = any(_is_of_use(visa, asked) and visa.expires_at <= now for visa in principal.visas)
    return refused(
        "dataset.visa",
        f"the visa {asked.type} that the dataset {name} asks for {'has expired' if ended else 'is missing'}",
        field=field,
        datasets=(name,),
        remedy="log in again with a passport that holds it",
    )


def _is_proved(asked: VisaAsked, visas: tuple[Visa, ...], now: float) -> bool:
    """Ask the rule of the visa's type."""
    if asked.type == REGISTERED:
        return registered_access(visas, now=now) is not None
    fit = [visa for visa in visas if _is_of_use(visa, asked)]
    match asked.type:
        case "ControlledAccessGrants":
            return controlled_access(fit, asked.value, now=now) is not None
        case "AcceptedTermsAndPolicies":
            return accepted_terms(fit, asked.value, now=now) is not None
        case "ResearcherStatus":
            return researcher_status(fit, asked.value, now=now) is not None
        case _:
            return any(visa.asserted <= now < visa.expires_at for visa in fit)


def _is_of_use(visa: Visa, asked: VisaAsked) -> bool:
    """Tell whether a visa is of the kind that was asked for, whenever it holds."""
    if asked.type == REGISTERED:
        return visa.type in _REGISTERED_BY
    return (
        visa.type == asked.type
        and visa.value == asked.value
        and (not asked.issuers or visa.issuer in asked.issuers)
        and (not asked.sources or visa.source in asked.sources)
        and (not asked.by or visa.by in asked.by)
    )
