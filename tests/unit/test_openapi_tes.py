"""``openapi/tes.yaml`` is the released TES 1.1.0 in our own words, but for the differences listed here."""

from __future__ import annotations

import pytest
from connexion.spec import Specification

from tests.unit.spec_compare import REPOSITORY, Difference, copied, differences, official, ours

OFFICIAL = official("tes-1.1.0-bundled.yaml")
OURS = ours("tes.yaml")

_TOLERANT = "clients send null for what they leave out (Cromwell: examples/tes/ms-cromwell-testask1.json, T6)"
_MINIMAL = "the MINIMAL view has no executors, which tesTask requires (T2)"

#: Path -> (official value, our value, reason); None where the place is missing.
DELIBERATE: dict[str, tuple[str | None, str | None, str]] = {
    "/components/schemas/tesState/default": (
        "UNKNOWN",
        None,
        "a query without state would filter by UNKNOWN, and find nothing (A1, T1)",
    ),
    "/components/schemas/tesExecutorLog/required": (
        "['exit_code']",
        None,
        "FULL shows the live stdout and stderr of a command that runs, and that has no exit code yet (A21, A22)",
    ),
    "/components/schemas/tesTaskMinimal": (None, "{…}", _MINIMAL),
    "/components/schemas/tesTaskView": (None, "{…}", _MINIMAL),
    "/components/schemas/tesListTasksResponse/properties/tasks/items/$ref": (
        "#/components/schemas/tesTask",
        "#/components/schemas/tesTaskView",
        _MINIMAL,
    ),
    "/paths/~1tasks~1{id}/get/responses/200/content/application~1json/schema/$ref": (
        "#/components/schemas/tesTask",
        "#/components/schemas/tesTaskView",
        _MINIMAL,
    ),
    "/paths/~1tasks/get/parameters/page_size/schema/minimum": (None, "1", "the text forbids less than 1 (A2)"),
    "/paths/~1tasks/get/parameters/page_size/schema/maximum": (
        None,
        "2047",
        "the text says less than 2048 and the schema does not (A2)",
    ),
    "/components/schemas/tesTask/properties/executors/minItems": (None, "1", "a task without a command is none (A11)"),
    **{
        f"/components/schemas/{place}/nullable": (None, "True", _TOLERANT)
        for place in (
            "tesResources",
            *(f"tesExecutor/properties/{name}" for name in ("env", "ignore_error", "stderr", "stdin", "stdout")),
            "tesExecutor/properties/workdir",
            *(f"tesInput/properties/{name}" for name in ("content", "description", "name", "streamable", "url")),
            *(f"tesOutput/properties/{name}" for name in ("description", "name", "path_prefix")),
            *(f"tesResources/properties/{name}" for name in ("cpu_cores", "disk_gb", "preemptible", "ram_gb", "zones")),
            *(f"tesResources/properties/{name}" for name in ("backend_parameters", "backend_parameters_strict")),
            *(f"tesTask/properties/{name}" for name in ("creation_time", "description", "id", "inputs", "logs")),
            *(f"tesTask/properties/{name}" for name in ("name", "outputs", "tags", "volumes")),
        )
    },
}


def test_every_difference_from_the_released_tes_is_listed_with_its_values() -> None:
    listed = [Difference(path, theirs, own) for path, (theirs, own, _) in DELIBERATE.items()]
    assert [item for item in differences(OFFICIAL, OURS) if item not in listed] == []


def test_every_listed_difference_is_still_there() -> None:
    found = {item.path for item in differences(OFFICIAL, OURS)}
    assert sorted(set(DELIBERATE) - found) == []


def test_every_listed_difference_has_a_reason() -> None:
    assert [path for path, (_, _, reason) in DELIBERATE.items() if len(reason.split()) < 4] == []


def test_no_sentence_is_copied_from_the_released_tes() -> None:
    assert copied(OFFICIAL, OURS) == set()


def test_the_document_is_valid_openapi() -> None:
    Specification.load(REPOSITORY / "openapi" / "tes.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/paths/~1tasks/get/operationId", "ListThings"),
        ("/paths/~1tasks/get/parameters/state/required", True),
        ("/paths/~1service-info/get/responses/200", None),
        ("/components/schemas/tesTask/properties/description", None),
        ("/components/schemas/tesTask/required", ["executors", "name"]),
        ("/components/schemas/tesState/enum", ["QUEUED"]),
        ("/components/schemas/tesOutputFileLog/properties/size_bytes/type", "integer"),
    ],
)
def test_the_comparison_sees_a_change(path: str, value: object) -> None:
    changed = official("tes-1.1.0-bundled.yaml")
    *way, last = [part.replace("~1", "/") for part in path.split("/")[1:]]
    node = changed
    for part in way:
        node = next(item for item in node if item["name"] == part) if isinstance(node, list) else node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    assert [item.path for item in differences(OFFICIAL, changed)] == [path]


def test_the_comparison_does_not_see_words() -> None:
    changed = official("tes-1.1.0-bundled.yaml")
    changed["info"]["description"] = "something else"
    changed["components"]["schemas"]["tesTask"]["properties"]["id"]["example"] = "x"
    assert differences(OFFICIAL, changed) == []
