"""The wire model takes what the spec takes, and says which member is wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from connexion.json_schema import Draft4RequestValidator
from connexion.spec import Specification

from tes_service.wire import parse
from tests.unit.spec_compare import REPOSITORY
from weft.errors import InvalidRequest

FULL: dict[str, Any] = {
    "name": "count",
    "description": "counts lines",
    "inputs": [
        {
            "name": "reads",
            "description": "text",
            "url": "s3://b/reads",
            "path": "/data/reads",
            "type": "FILE",
            "content": "",
            "streamable": True,
        }
    ],
    "outputs": [
        {
            "name": "n",
            "description": "number",
            "url": "s3://b/n",
            "path": "/out/*",
            "path_prefix": "/out",
            "type": "DIRECTORY",
        }
    ],
    "resources": {
        "cpu_cores": 2,
        "preemptible": False,
        "ram_gb": 1.5,
        "disk_gb": 3,
        "zones": ["short"],
        "backend_parameters": {"queue": "short"},
        "backend_parameters_strict": False,
    },
    "executors": [
        {
            "image": "busybox",
            "command": ["wc", "-l"],
            "workdir": "/work",
            "stdin": "/data/reads",
            "stdout": "/out/n",
            "stderr": "/out/e",
            "env": {"LANG": "C"},
            "ignore_error": True,
        }
    ],
    "volumes": ["/scratch"],
    "tags": {"lab": "north"},
}
VALUES = (None, True, 5, 1.5, "text", [], {}, [5], {"a": 5}, [None], ["x"], {"a": "b"})
#: Where the wire model and the schema disagree on purpose.
TOLERATED_NULLS = {"inputs[0].type", "outputs[0].type"}


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def replaced(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(FULL)
    node = changed
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return changed  # type: ignore[no-any-return]


def dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


@pytest.fixture(scope="module")
def schema() -> Any:
    spec = Specification.load(REPOSITORY / "openapi" / "tes.yaml")
    return Draft4RequestValidator(spec["components"]["schemas"]["tesTask"])


def accepted(document: Any) -> bool:
    try:
        parse(document)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("path", list(places(FULL)), ids=dotted)
def test_the_wire_model_takes_what_the_spec_takes(schema: Any, path: tuple[str | int, ...]) -> None:
    for value in VALUES:
        if value is None and dotted(path) in TOLERATED_NULLS:
            continue
        document = replaced(path, value)
        assert accepted(document) == schema.is_valid(document), value


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        (("executors",), None, "executors", "must be a list"),
        (("executors",), [], "executors", "is empty"),
        (("executors", 0, "image"), 5, "executors[0].image", "must be a string"),
        (("executors", 0, "command"), "echo hi", "executors[0].command", "must be a list"),
        (("executors", 0, "command", 1), 5, "executors[0].command[1]", "must be a string"),
        (("executors", 0, "env"), {"N": 5}, "executors[0].env.N", "must be a string"),
        (("executors", 0, "ignore_error"), "true", "executors[0].ignore_error", "must be true or false"),
        (("inputs", 0, "type"), "file", "inputs[0].type", "FILE or DIRECTORY"),
        (("resources", "cpu_cores"), 1.5, "resources.cpu_cores", "whole number"),
        (("resources", "cpu_cores"), 0, "resources.cpu_cores", "greater than 0"),
        (("resources", "cpu_cores"), -1, "resources.cpu_cores", "greater than 0"),
        (("resources", "cpu_cores"), 2**31, "resources.cpu_cores", "more than any machine"),
        (("resources", "cpu_cores"), True, "resources.cpu_cores", "whole number"),
        (("resources", "ram_gb"), 0, "resources.ram_gb", "greater than 0"),
        (("resources", "ram_gb"), -0.5, "resources.ram_gb", "greater than 0"),
        (("resources", "ram_gb"), 1e308, "resources.ram_gb", "more than any machine"),
        (("resources", "ram_gb"), float("nan"), "resources.ram_gb", "finite"),
        (("resources", "disk_gb"), "10", "resources.disk_gb", "must be a number"),
        (("resources", "zones"), "short", "resources.zones", "must be a list"),
        (("tags",), ["a"], "tags", "must be an object"),
        (("tags", "lab"), None, "tags.lab", "must be a string"),
        (("volumes", 0), None, "volumes[0]", "must be a string"),
    ],
)
def test_a_refusal_names_the_member(path: tuple[str | int, ...], value: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        parse(replaced(path, value))
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_what_is_no_object_is_no_task(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="the body must be a JSON object"):
        parse(body)


def test_a_missing_member_is_said_to_be_missing() -> None:
    with pytest.raises(InvalidRequest, match=r"executors\[0\]\.image is missing \(and 1 more\)"):
        parse({"executors": [{}]})


def test_a_whole_number_may_be_written_with_a_point() -> None:
    task = parse(replaced(("resources", "cpu_cores"), 4.0))
    assert task.resources is not None
    assert task.resources.cpu_cores == 4


def test_what_only_the_server_sets_is_not_read() -> None:
    assert parse({**FULL, "id": 5, "state": "PARTYING", "logs": 7, "creation_time": []}) == parse(FULL)


def test_unknown_members_are_ignored() -> None:
    assert parse({**FULL, "ramGb": 15, "project": {"deep": [1]}}) == parse(FULL)


def test_nulls_count_as_absent() -> None:
    names = ("name", "description", "inputs", "outputs", "resources", "volumes", "tags")
    assert parse({**FULL, **dict.fromkeys(names)}) == parse({"executors": FULL["executors"]})
