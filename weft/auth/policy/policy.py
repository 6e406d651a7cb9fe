"""The policy in force: ``policy.toml``, read, checked and ready to be asked. Never changes; a new file is a new one."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate

from pydantic import ValidationError

from weft.auth.policy import urls, who
from weft.auth.policy.document import Dataset, Document, Images, Maxima, Project, Role, Use, VisaAsked, moment
from weft.auth.policy.urls import Place
from weft.auth.policy.who import Who
from weft.errors import InvalidRequest
from weft.model import Principal

#: Principals whose roles and projects are remembered; more than that, and remembering begins anew.
_REMEMBERED = 4096
_DIGEST = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Standing:
    """What the policy makes of a principal."""

    roles: frozenset[Role]
    #: Names of the projects of which they are a member, in order.
    projects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Approved:
    """Who may do what with a dataset, until when (seconds since the epoch)."""

    who: Who
    uses: frozenset[Use]
    until: float | None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A dataset, ready to be asked."""

    name: str
    places: tuple[Place, ...]
    uses: frozenset[Use]
    visas: tuple[VisaAsked, ...]
    approvals: tuple[Approved, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What jobs of a project, or of none, may be: the site's words, with the project's in their place."""

    maxima: Maxima
    #: None: any image.
    images: re.Pattern[str] | None
    digests: frozenset[str]
    require_digest: bool
    #: None: anything that the settings allow.
    read: tuple[Place, ...] | None
    write: tuple[Place, ...] | None
    #: Name -> values, ``*`` for any; None: whatever the executor takes.
    backend_parameters: Mapping[str, frozenset[str]] | None
    datasets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the site's policy."""

    #: The beginning of the SHA-256 of the file; stands in the audit record.
    version: str
    roles: Mapping[Role, Who]
    members: Mapping[str, Who]
    require_project: bool
    datasets: tuple[Guarded, ...]
    #: Project -> its terms; None -> those of jobs without a project.
    terms: Mapping[str | None, Terms]
    exemptions: tuple[tuple[Who, Maxima], ...]
    _standings: dict[Principal, Standing] = field(default_factory=dict)

    def standing(self, principal: Principal) -> Standing:
        """Return roles (those of the token too) and projects of a principal."""
        known = self._standings.get(principal)
        if known is None:
            if len(self._standings) >= _REMEMBERED:
                self._standings.clear()
            known = self._standings[principal] = self._look_up(principal)
        return known

    def maxima(self, principal: Principal, project: str | None) -> Maxima:
        """Return the limits of a principal who acts for a project or for none."""
        site = self.terms[project if project in self.terms else None].maxima
        for meant, exempt in self.exemptions:
            if meant.has(principal):
                return _over(site, exempt)
        return site

    def holding(self, place: Place) -> list[Guarded]:
        """Return the datasets that a place lies in."""
        return [
            dataset for dataset in self.datasets for held in dataset.places if held.holds(place)
        ]  # fmt: skip

    def _look_up(self, principal: Principal) -> Standing:
        roles = {role for role, meant in self.roles.items() if meant.has(principal)}
        roles |= {Role(role) for role in principal.roles if role in tuple(Role)}
        return Standing(frozenset(roles), tuple(name for name, meant in self.members.items() if meant.has(principal)))


def parse(text: str) -> Policy:
    """Read the text of a policy file.

    :raises InvalidRequest: says what is wrong, and in ``field`` where.
    """
    try:
        document = Document.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"the policy is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{first['msg']}", field=where, remedy="see docs/policy.md") from error
    return _compiled(document, hashlib.sha256(text.encode()).hexdigest()[:16])


def _compiled(document: Document, version: str) -> Policy:
    projects = frozenset(document.projects)
    _check_names(document)
    return Policy(
        version=version,
        roles={role: who.read(names, f"roles.{role}") for role, names in document.roles.items()},
        members={name: who.read(it.members, f"projects.{name}.members") for name, it in document.projects.items()},
        require_project=document.require_project,
        datasets=tuple(_guarded(name, dataset, projects) for name, dataset in document.datasets.items()),
        terms={
            None: _terms(document, Project(members=()), ""),
            **{name: _terms(document, project, f"projects.{name}.") for name, project in document.projects.items()},
        },
        exemptions=tuple(
            (who.read(item.who, f"exemptions[{place}].who"), item.limits)
            for place, item in enumerate(document.exemptions)
        ),
    )


def _check_names(document: Document) -> None:
    """Refuse a dataset that no table describes.

    :raises InvalidRequest: names it.
    """
    for name, project in document.projects.items():
        for place, dataset in enumerate(project.datasets):
            if dataset not in document.datasets:
                raise InvalidRequest(f"there is no dataset {dataset!r}", field=f"projects.{name}.datasets[{place}]")


def _guarded(name: str, dataset: Dataset, projects: frozenset[str]) -> Guarded:
    field_ = f"datasets.{name}"
    return Guarded(
        name=name,
        places=_places(dataset.urls, f"{field_}.urls"),
        uses=frozenset(dataset.actions),
        visas=dataset.visas,
        approvals=tuple(
            Approved(
                who.read(item.who, f"{field_}.approvals[{place}].who", projects=projects),
                frozenset(item.actions),
                moment(item.until),
            )
            for place, item in enumerate(dataset.approvals)
        ),
    )


def _terms(document: Document, project: Project, field_: str) -> Terms:
    images = project.images or document.images
    storage = project.storage or document.storage
    chosen = project.backend_parameters
    backend = document.backend_parameters if chosen is None else chosen
    return Terms(
        maxima=_over(document.limits, project.limits),
        images=_patterns(images),
        digests=_digests(images, f"{field_}images.digests"),
        require_digest=images.require_digest or bool(images.digests),
        read=None if storage.read is None else _places(storage.read, f"{field_}storage.read"),
        write=None if storage.write is None else _places(storage.write, f"{field_}storage.write"),
        backend_parameters=None if backend is None else {key.lower(): frozenset(it) for key, it in backend.items()},
        datasets=frozenset(project.datasets),
    )


def _over(below: Maxima, above: Maxima) -> Maxima:
    """Put what ``above`` says in place of what ``below`` says, each limit by itself."""
    return below.model_copy(update=above.model_dump(exclude_none=True))


def _places(texts: tuple[str, ...], field_: str) -> tuple[Place, ...]:
    return tuple(urls.read(text, f"{field_}[{place}]") for place, text in enumerate(texts))


def _patterns(images: Images) -> re.Pattern[str] | None:
    return None if images.allow is None else re.compile("|".join(translate(text) for text in images.allow) or "(?!)")


def _digests(images: Images, field_: str) -> frozenset[str]:
    for place, digest in enumerate(images.digests):
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest(
                f"{digest!r} is no digest", field=f"{field_}[{place}]", remedy="sha256:<64 hex digits>"
            )
    return frozenset(images.digests)
