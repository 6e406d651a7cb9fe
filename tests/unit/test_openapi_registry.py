"""``openapi/registry.yaml`` is the released Service Registry 1.0.0 in our own words, but for what is listed here."""

from __future__ import annotations

from connexion.spec import Specification

from tests.unit.spec_compare import REPOSITORY, Difference, copied, differences, official, ours

OFFICIAL = official("service-registry-1.0.0.yaml")
#: The release points to these at an address; ours has them in it.
_SERVICE_INFO = official("service-info-1.0.0.yaml")["components"]["schemas"]
OFFICIAL["components"]["schemas"] |= {name: _SERVICE_INFO[name] for name in ("Service", "ServiceType")}
OURS = ours("registry.yaml")

_GATE = "the gate asks for a login, for all services alike and as the site configured it"
#: Path -> (official value, our value, reason); None where the place is missing.
DELIBERATE: dict[str, tuple[str | None, str | None, str]] = {
    "/components/securitySchemes": ("{…}", None, _GATE),
    "/security": ("[{'bearerAuth': []}]", None, _GATE),
}


def test_every_difference_from_the_released_registry_is_listed_with_its_values() -> None:
    listed = [Difference(path, theirs, own) for path, (theirs, own, _) in DELIBERATE.items()]
    assert [item for item in differences(OFFICIAL, OURS) if item not in listed] == []


def test_every_listed_difference_is_still_there() -> None:
    assert sorted(set(DELIBERATE) - {item.path for item in differences(OFFICIAL, OURS)}) == []


def test_no_sentence_is_copied_from_the_released_registry() -> None:
    assert copied(OFFICIAL, OURS) == set()


def test_both_documents_of_the_federation_are_valid() -> None:
    for name in ("registry.yaml", "nodes.yaml"):
        Specification.load(REPOSITORY / "openapi" / name)
