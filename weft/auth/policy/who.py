"""Who is meant by a list of names in the policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weft.errors import InvalidRequest
from weft.model import Principal

_GROUP = "group:"
_PROJECT = "project:"


@dataclass(frozen=True, slots=True)
class Who:
    """Principals, by name, by group, by issuer, or as members of a project."""

    names: frozenset[str]
    #: ``ISSUER|GROUP``.
    groups: frozenset[str]
    #: Everybody whom one of these vouches for.
    issuers: frozenset[str]
    projects: frozenset[str]

    def has(self, principal: Principal, project: str | None = None) -> bool:
        """Tell whether ``principal`` is meant, acting for ``project`` (of which they are a member) or for none."""
        return (
            principal.name in self.names
            or principal.issuer in self.issuers
            or project in self.projects
            or any(f"{principal.issuer}|{group}" in self.groups for group in principal.groups)
        )


def read(names: Iterable[str], field: str, *, projects: frozenset[str] | None = None) -> Who:
    """Read names as the file writes them.

    :param projects: those that may be named; None: none may.
    :raises InvalidRequest: a name that can mean nobody.
    """
    kinds: dict[str, set[str]] = {"names": set(), "groups": set(), "issuers": set(), "projects": set()}
    for place, name in enumerate(names):
        kind, value = _one(name, f"{field}[{place}]", projects)
        kinds[kind].add(value)
    return Who(**{kind: frozenset(values) for kind, values in kinds.items()})


def _one(name: str, field: str, projects: frozenset[str] | None) -> tuple[str, str]:
    if projects is not None and name.startswith(_PROJECT):
        project = name.removeprefix(_PROJECT)
        if project not in projects:
            raise InvalidRequest(f"there is no project {project!r}", field=field)
        return "projects", project
    kind, text = ("groups", name.removeprefix(_GROUP)) if name.startswith(_GROUP) else ("names", name)
    issuer, separator, subject = text.partition("|")
    if not separator or not issuer or not subject:
        raise InvalidRequest(
            f"{name!r} names nobody", field=field, remedy="write ISSUER|SUBJECT, ISSUER|* or group:ISSUER|GROUP"
        )
    if subject != "*":
        return kind, text
    if kind == "groups":
        raise InvalidRequest("a group has a name", field=field, remedy=f"write {issuer}|* for all of an issuer")
    return "issuers", issuer
