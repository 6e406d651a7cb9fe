"""What checked visas prove (GA4GH Passport 1.2, section on visa types): pure functions for the site's policy.

``weft.auth.passports`` has checked signature, issuer, key address, source and times of every ``Visa`` here. A policy
asks for one thing and gets the visas that prove it, with the time at which the proof ends, or None. URLs are opaque
names: compared whole, letter by letter, and never fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from weft.model import Visa

#: The value of both visas of registered access.
REGISTERED_ACCESS = "https://doi.org/10.1038/s41431-018-0219-y"

#: (issuer, subject): a person as one issuer knows them.
Identity = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The visas that a decision stands on; it ends with the first of them."""

    visas: tuple[Visa, ...]

    @property
    def expires_at(self) -> float:
        """Seconds since the epoch."""
        return min(visa.expires_at for visa in self.visas)


def controlled_access(
    visas: Iterable[Visa],
    dataset: str,
    *,
    now: float,
    until: float | None = None,
    sources: Collection[str] = (),
    by: Collection[str] = (),
) -> Proof | None:
    """Prove access to a dataset by a ``ControlledAccessGrants`` visa, which must say ``by`` whom it was given.

    :param until: seconds since the epoch up to which the visa must hold; now, when absent.
    :param sources: whose grants count, such as the dataset's access committee; anybody's, when empty.
    :param by: roles of whoever asserted it (``dac``, ``so``, …) that count; any, when empty.
    """
    found = _valid(visas, "ControlledAccessGrants", dataset, now=now, until=until, sources=sources, by=by)
    return _longest(visa for visa in found if visa.by is not None)


def researcher_status(
    visas: Iterable[Visa], value: str = REGISTERED_ACCESS, *, now: float, until: float | None = None
) -> Proof | None:
    """Prove that somebody is a researcher in the sense of ``value``."""
    return _longest(_valid(visas, "ResearcherStatus", value, now=now, until=until))


def accepted_terms(
    visas: Iterable[Visa], value: str = REGISTERED_ACCESS, *, now: float, until: float | None = None
) -> Proof | None:
    """Prove that somebody accepted the terms at ``value``; the visa must say ``by`` whom it was asserted."""
    found = _valid(visas, "AcceptedTermsAndPolicies", value, now=now, until=until)
    return _longest(visa for visa in found if visa.by is not None)


def registered_access(visas: Sequence[Visa], *, now: float, until: float | None = None) -> Proof | None:
    """Prove registered access: a researcher who accepted the terms, both visas being of one person."""
    terms = [
        visa
        for visa in _valid(visas, "AcceptedTermsAndPolicies", REGISTERED_ACCESS, now=now, until=until)
        if visa.by is not None
    ]
    status = list(_valid(visas, "ResearcherStatus", REGISTERED_ACCESS, now=now, until=until))
    pairs = [(one, other) for one in terms for other in status if one_person(visas, _of(one), _of(other), now=now)]
    proofs = [Proof(visas=pair) for pair in pairs]
    return max(proofs, key=lambda proof: proof.expires_at, default=None)


def one_person(visas: Iterable[Visa], one: Identity, other: Identity, *, now: float) -> bool:
    """Tell whether two identities are one person's: the same, or joined by ``LinkedIdentities``, also in a chain."""
    links = [{_of(visa), *linked_by(visa.value)} for visa in _valid(visas, "LinkedIdentities", None, now=now)]
    known = {one}
    while other not in known:
        wider = known.union(*(link for link in links if not known.isdisjoint(link)))
        if wider == known:
            return False
        known = wider
    return True


def linked_by(value: str) -> Iterator[Identity]:
    """Read the value of ``LinkedIdentities``: ``sub,iss;sub,iss``, each part percent-encoded."""
    for pair in value.split(";"):
        subject, comma, issuer = pair.partition(",")
        if comma and subject and issuer and "," not in issuer:
            yield unquote(issuer), unquote(subject)


def _of(visa: Visa) -> Identity:
    return visa.issuer, visa.subject


def _valid(
    visas: Iterable[Visa],
    kind: str,
    value: str | None,
    *,
    now: float,
    until: float | None = None,
    sources: Collection[str] = (),
    by: Collection[str] = (),
) -> Iterator[Visa]:
    for visa in visas:
        if visa.type != kind or (value is not None and visa.value != value):
            continue
        if visa.asserted > now or visa.expires_at <= max(now, until or now):
            continue
        if (not sources or visa.source in sources) and (not by or visa.by in by):
            yield visa


def _longest(visas: Iterable[Visa]) -> Proof | None:
    best = max(visas, key=lambda visa: visa.expires_at, default=None)
    return None if best is None else Proof(visas=(best,))
