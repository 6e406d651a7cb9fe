"""``policy.toml`` as it is written. ``weft.auth.policy.policy`` makes of it what decisions are asked of.

Whoever is named is named with the issuer that vouches for them: ``ISSUER|SUBJECT``, ``ISSUER|*`` for everybody of an
issuer, ``group:ISSUER|GROUP``; an approval may also say ``project:NAME``. A group of one issuer is never a group of
another.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Role(StrEnum):
    """What a principal may be beside an owner of jobs."""

    SUBMITTER = "submitter"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    REVIEWER = "reviewer"


class Use(StrEnum):
    """What a job does with a dataset."""

    READ = "read"
    WRITE = "write"


#: Not a visa of its own.
REGISTERED = "RegisteredAccess"
Names = tuple[Annotated[str, Field(min_length=1)], ...]


class Table(BaseModel):
    """A table of the file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Maxima(Table):
    """The most that one job, and one principal or project, may have; what is absent is not limited here."""

    cores: int | None = Field(default=None, ge=1)
    """Cores of one task."""
    ram_gb: float | None = Field(default=None, gt=0)
    """Memory of one task."""
    disk_gb: float | None = Field(default=None, gt=0)
    """Disk of one task."""
    time_limit_seconds: float | None = Field(default=None, gt=0)
    """Wall time of one attempt of a task; a task that asks for none gets this."""
    run_time_limit_seconds: float | None = Field(default=None, gt=0)
    """Wall time of one attempt of a workflow run."""
    queued: int | None = Field(default=None, ge=0)
    """Jobs that wait at once."""
    running: int | None = Field(default=None, ge=0)
    """Jobs that run at once."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Requests of one principal, on average."""


class Images(Table):
    """Which container images may be used."""

    allow: Names | None = None
    """Patterns of names as tasks write them, ``*`` for anything; absent: any name."""
    digests: Names = ()
    """``sha256:…``: if any is listed, an image must be pinned to one of them."""
    require_digest: bool = False
    """Whether an image must be named with its digest, ``name@sha256:…``."""


class Storage(Table):
    """Which URLs jobs may use, beside those of datasets."""

    read: Names | None = None
    """URLs, and all below them, that inputs may name; absent: any that the settings allow."""
    write: Names | None = None
    """The same for outputs."""


class VisaAsked(Table):
    """A GA4GH visa without which a dataset is closed."""

    type: Literal[
        "ControlledAccessGrants",
        "ResearcherStatus",
        "AcceptedTermsAndPolicies",
        "AffiliationAndRole",
        "RegisteredAccess",
    ]
    """``RegisteredAccess`` means both visas that it is made of, of one person."""
    value: str = ""
    """The dataset or the statement, exactly as the visa names it; not for ``RegisteredAccess``."""
    issuers: Names = ()
    """Who may have signed it; empty: any issuer that weft trusts."""
    sources: Names = ()
    """The organisations that may have made the claim; empty: any."""
    by: Names = ()
    """``dac``, ``so``, ``system``, …; empty: any."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.type == REGISTERED) == bool(self.value):
            raise ValueError(f"a visa {self.type} has {'no value' if self.value else 'a value'}")
        return self


class Approval(Table):
    """The site's own word for some principals; without one, a dataset is closed."""

    who: Names
    """Principals, groups, or ``project:NAME`` for the members of a project."""
    actions: tuple[Use, ...] = (Use.READ,)
    """What they may do."""
    until: datetime | date | None = None
    """When it ends; a day ends with its last second, UTC."""


class Dataset(Table):
    """Data that is not for everybody."""

    urls: Names
    """Where it lies, and all below: ``s3://bucket/prefix/``, ``drs://host/``."""
    actions: tuple[Use, ...] = (Use.READ,)
    """What anybody may do with it at all."""
    visas: tuple[VisaAsked, ...] = ()
    """Visas that a principal needs, every one of them."""
    approvals: tuple[Approval, ...] = ()
    """Who has been approved, for what, until when."""


class Project(Table):
    """People who share jobs, and the data that they may use together."""

    members: Names
    """Principals and groups."""
    datasets: Names = ()
    """The datasets that jobs of this project may use."""
    limits: Maxima = Maxima()
    """Stand in place of the site's, each by itself; ``queued`` and ``running`` count the project's jobs."""
    images: Images | None = None
    """Stands in place of the site's."""
    storage: Storage | None = None
    """Stands in place of the site's."""
    backend_parameters: dict[str, Names] | None = None
    """Stands in place of the site's."""


class Exemption(Table):
    """Limits of some principals."""

    who: Names
    """Principals and groups."""
    limits: Maxima
    """Stand in place of the site's and the project's, each by itself."""


class Document(Table):
    """The whole file."""

    roles: dict[Role, Names] = {}
    """Role -> who has it. If there are submitters, nobody else may submit."""
    require_project: bool = False
    """Whether every job must belong to a project."""
    limits: Maxima = Maxima()
    """For every principal."""
    exemptions: tuple[Exemption, ...] = ()
    """For some; the first one that names a principal counts."""
    images: Images = Images()
    storage: Storage = Storage()
    backend_parameters: dict[str, Names] | None = None
    """What tasks may choose: name -> values, ``*`` for any; absent: whatever the executor takes."""
    datasets: dict[str, Dataset] = {}
    projects: dict[str, Project] = {}


def moment(until: datetime | date | None) -> float | None:
    """Return the end of an approval in seconds since the epoch; a time without a zone is UTC."""
    if until is None:
        return None
    if not isinstance(until, datetime):
        return datetime.combine(until, time.max, UTC).timestamp()
    return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
