"""One pure question: may this principal do this to that, now? The answer says why, and by which rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weft.auth.policy import urls
from weft.auth.policy.datasets import dataset_findings
from weft.auth.policy.document import Role, Use
from weft.auth.policy.finding import Finding, allowed, refused
from weft.auth.policy.policy import Policy, Standing, Terms
from weft.auth.policy.resource import Action, Named, Resource
from weft.model import Kind, Principal

_PINNED = re.compile(r".+@(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer: ``findings`` end with the rule that refused, where one did."""

    allowed: bool
    #: In words, for whoever asked; it may quote the request.
    reason: str
    #: The rule's name, for the audit record; it quotes nothing.
    rule: str
    field: str | None = None
    remedy: str | None = None
    #: The project that the job belongs to.
    project: str | None = None
    #: The datasets that it uses.
    datasets: tuple[str, ...] = ()


def decide(policy: Policy, principal: Principal, action: Action, resource: Resource, now: float) -> Decision:
    """Decide; the first rule that refuses has the last word."""
    last = None
    project = None if action in (Action.CREATE, Action.START) else resource.project
    datasets: list[str] = []
    for last in findings(policy, principal, action, resource, now):
        datasets += last.datasets
        if not last.allowed:
            break
        project = last.project or project
    assert last is not None
    return Decision(
        allowed=last.allowed,
        reason=last.reason,
        rule=last.rule,
        field=last.field,
        remedy=last.remedy,
        project=project,
        datasets=tuple(dict.fromkeys(datasets)),
    )


def findings(policy: Policy, principal: Principal, action: Action, resource: Resource, now: float) -> Iterator[Finding]:
    """Go through the rules of an action in their order; what follows a refusal is there for ``weft policy explain``."""
    if action in (Action.CREATE, Action.START):
        return _use(policy, principal, action, resource, now)
    return _touch(policy, principal, action, resource)


# -- a job that is there -----------------------------------------------------------------------------------------


def _touch(policy: Policy, principal: Principal, action: Action, resource: Resource) -> Iterator[Finding]:
    standing = policy.standing(principal)
    if action is Action.READ_AUDIT:
        yield _by_role(Role.AUDITOR in standing.roles, Role.AUDITOR, action)
    elif resource.owner == principal.name:
        yield allowed("owner", "it is their own")
    elif action is not Action.DELETE and resource.project in standing.projects:
        yield allowed("project", "it belongs to a project of theirs")
    elif action is Action.READ and standing.roles & {Role.OPERATOR, Role.AUDITOR}:
        yield allowed("role", "operators and auditors read all jobs")
    elif action is Action.CANCEL and Role.OPERATOR in standing.roles:
        yield allowed("role", "operators cancel any job")
    else:
        yield refused("owner", f"only the owner may {action} this job")


def _by_role(has_it: bool, role: Role, action: Action) -> Finding:
    return allowed("role", f"has the role {role}") if has_it else refused("role", f"only an {role} may {action}")


# -- a job that is asked for -------------------------------------------------------------------------------------


def _use(policy: Policy, principal: Principal, action: Action, resource: Resource, now: float) -> Iterator[Finding]:
    if principal.expires_at is not None and action is Action.CREATE:
        yield _token(principal.expires_at, now)
    standing = policy.standing(principal)
    yield _submitter(policy, standing)
    membership = _project(policy, standing, action, resource)
    yield membership
    project = membership.project if membership.allowed else None
    terms = policy.terms.get(project, policy.terms[None])
    for named in resource.images:
        yield _image(terms, named)
    yield from _limits(policy, principal, project, resource)
    for name, value in resource.backend_parameters.items():
        yield _parameter(terms, name, value)
    if policy.datasets or terms.read is not None or terms.write is not None:
        yield from _urls(policy, principal, project, resource, now)


def _token(expires_at: float, now: float) -> Finding:
    if expires_at > now:
        return allowed("expiry", "the credential is valid")
    return refused("expiry", "the credential has expired", remedy="get a new token")


def _submitter(policy: Policy, standing: Standing) -> Finding:
    if Role.SUBMITTER not in policy.roles:
        return allowed("submitter", "anybody may submit")
    if Role.SUBMITTER in standing.roles:
        return allowed("submitter", "has the role submitter")
    return refused("submitter", "you do not have the role submitter", remedy="ask the site's operators for it")


def _project(policy: Policy, standing: Standing, action: Action, resource: Resource) -> Finding:
    mine = standing.projects
    named = resource.project if policy.members else None
    if named is not None:
        if named in mine:
            return allowed("project", f"a member of {named}", project=named)
        return refused(
            "project",
            f"you are not a member of a project {named[:100]!r}",
            field="tags.Project",
            remedy=f"name one of yours: {', '.join(mine)}" if mine else "leave the tag out",
        )
    if len(mine) == 1 and action is Action.CREATE:
        return allowed("project", f"a member of {mine[0]} alone", project=mine[0])
    if policy.require_project:
        return refused(
            "project",
            "every job here belongs to a project",
            field="tags.Project",
            remedy=f"name one of yours: {', '.join(mine)}" if mine else "ask the site's operators for one",
        )
    return allowed("project", "it belongs to no project")


def _image(terms: Terms, named: Named) -> Finding:
    pinned = _PINNED.fullmatch(named.value)
    if terms.images is not None and not terms.images.fullmatch(named.value):
        return refused("images.allow", f"the image {named.value[:200]!r} is not on the site's list", field=named.field)
    if terms.require_digest and pinned is None:
        return refused(
            "images.require_digest",
            f"the image {named.value[:200]!r} is not named with its digest",
            field=named.field,
            remedy="write name@sha256:…",
        )
    if terms.digests and (pinned is None or pinned[1] not in terms.digests):
        return refused("images.digests", f"the digest of {named.value[:200]!r} is not approved", field=named.field)
    return allowed("images", f"the image of {named.field} may be used")


def _limits(policy: Policy, principal: Principal, project: str | None, resource: Resource) -> Iterator[Finding]:
    maxima = policy.maxima(principal, project)
    longest = maxima.time_limit_seconds if resource.kind is Kind.TASK else maxima.run_time_limit_seconds
    for rule, field, asked, most in (
        ("limits.cores", "resources.cpu_cores", resource.cores, maxima.cores),
        ("limits.ram_gb", "resources.ram_gb", resource.ram_gb, maxima.ram_gb),
        ("limits.disk_gb", "resources.disk_gb", resource.disk_gb, maxima.disk_gb),
        ("limits.time", "resources.backend_parameters.time_limit", resource.seconds, longest),
    ):
        if asked is not None and most is not None:
            if asked > most:
                yield refused(rule, f"{asked:g} is more than the {most:g} that you may have", field=field)
            else:
                yield allowed(rule, f"{asked:g} of at most {most:g}")


def _parameter(terms: Terms, name: str, value: str) -> Finding:
    if terms.backend_parameters is None:
        return allowed("backend_parameters", f"{name} is the executor's business")
    values = terms.backend_parameters.get(name.lower())
    field = f"resources.backend_parameters.{name}"
    if values is None:
        return refused("backend_parameters", f"{name!r} is not a parameter that you may choose", field=field)
    if "*" in values or value in values:
        return allowed("backend_parameters", f"{name} may be chosen")
    remedy = f"one of: {', '.join(sorted(values))}"
    return refused("backend_parameters", f"{value[:100]!r} may not be chosen", field=field, remedy=remedy)


def _urls(
    policy: Policy, principal: Principal, project: str | None, resource: Resource, now: float
) -> Iterator[Finding]:
    """Decide on each URL: it lies in datasets, all of which must be open, or where anybody's may lie."""
    terms = policy.terms.get(project, policy.terms[None])
    asked: set[tuple[str, Use]] = set()
    for items, use, places, is_moved in (
        (resource.reads, Use.READ, terms.read, True),
        (resource.mentions, Use.READ, None, False),
        (resource.writes, Use.WRITE, terms.write, True),
    ):
        for item in items:
            place = urls.plain(item.value)
            holding = () if place is None else policy.holding(place)
            for dataset in holding:
                if (dataset.name, use) not in asked:  # once is enough for all that lies in it
                    asked.add((dataset.name, use))
                    yield from dataset_findings(policy, principal, project, dataset, use, item.field, now)
            if not holding and is_moved:
                yield _storage(item, place, use, places)


def _storage(item: Named, place: urls.Place | None, use: Use, places: tuple[urls.Place, ...] | None) -> Finding:
    if place is None:
        return refused("storage", "the URL is not in its plain form", field=item.field, remedy="no .., no //, no login")
    if places is None or any(held.holds(place) for held in places):
        return allowed("storage", f"{item.field} may be used")
    rule = f"storage.{use}"
    return refused(rule, f"the site does not let jobs {use} {_without_query(item.value)}", field=item.field)


def _without_query(url: str) -> str:
    return url.partition("?")[0][:200]
