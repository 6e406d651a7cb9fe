"""``openapi/wes.yaml`` is the released WES 1.1.0 in our own words, but for the differences listed here."""

from __future__ import annotations

from connexion.spec import Specification

from tests.unit.spec_compare import REPOSITORY, Difference, copied, differences, official, ours
from weft.states import State
from wes_service.app import FileHandlers

OFFICIAL = official("wes-1.1.0-bundled.yaml")
OURS = ours("wes.yaml")
EXTENSIONS = ours("weft.yaml")

_FILTER = "the filters that TES has, asked for in WES as well (open pull request 213 of the specification)"
_BODY = "wes-client sends urlencoded bodies when nothing is attached, others send JSON (B1)"
_NAVIGATION = "chapters and menus for one documentation tool, which weft's page does not use"

#: Path -> (official value, our value, reason); None where the place is missing.
DELIBERATE: dict[str, tuple[str | None, str | None, str]] = {
    **{f"/paths/~1runs/get/parameters/{name}": (None, "{…}", _FILTER) for name in ("state", "tag_key", "tag_value")},
    **{
        f"/paths/~1runs/post/requestBody/content/application~1{kind}": (None, "{…}", _BODY)
        for kind in ("json", "x-www-form-urlencoded")
    },
    **{f"/tags/{place}": ("{…}", None, _NAVIGATION) for place in range(2, len(OFFICIAL["tags"]))},
    "/x-tagGroups": (str(OFFICIAL["x-tagGroups"]), None, _NAVIGATION),
}


def test_every_difference_from_the_released_wes_is_listed_with_its_values() -> None:
    listed = [Difference(path, theirs, own) for path, (theirs, own, _) in DELIBERATE.items()]
    assert [item for item in differences(OFFICIAL, OURS) if item not in listed] == []


def test_every_listed_difference_is_still_there() -> None:
    found = {item.path for item in differences(OFFICIAL, OURS)}
    assert sorted(set(DELIBERATE) - found) == []


def test_every_listed_difference_has_a_reason() -> None:
    assert [path for path, (_, _, reason) in DELIBERATE.items() if len(reason.split()) < 4] == []


def test_no_sentence_is_copied_from_the_released_wes() -> None:
    assert copied(OFFICIAL, OURS) == set()
    assert copied(OFFICIAL, EXTENSIONS) == set()


def test_both_documents_are_valid_openapi() -> None:
    Specification.load(REPOSITORY / "openapi" / "wes.yaml")
    Specification.load(REPOSITORY / "openapi" / "weft.yaml")


def test_the_states_of_the_document_are_those_of_the_law() -> None:
    assert set(OURS["components"]["schemas"]["State"]["enum"]) == {state.value for state in State}


def test_no_address_of_weft_itself_hides_one_of_wes() -> None:
    assert set(OURS["paths"]) & set(EXTENSIONS["paths"]) == set()


def test_weft_answers_every_operation_of_its_own_document() -> None:
    operations = [path["get"]["operationId"] for path in EXTENSIONS["paths"].values()]
    methods = {name.replace("_", "") for name in vars(FileHandlers)}
    assert [name for name in operations if name.lower() not in methods] == []
