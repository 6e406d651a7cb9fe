"""Resources and backend parameters are held against what the workers say of themselves (A17, A18)."""

from __future__ import annotations

from typing import Any

import pytest

from tes_service.fleet import Fleet, FleetView, read_resources
from tes_service.wire import WireResources
from tests.fakes import Clock
from weft.errors import InvalidRequest
from weft.model import Resources
from weft.parameters import Bounds
from weft.store.store import WorkerInfo

SMALL = {"cpu_cores": 4, "ram_bytes": 8 * 10**9, "disk_bytes": None, "backend_parameters": ["network"]}
WIDE = {"cpu_cores": 64, "ram_bytes": 4 * 10**9, "disk_bytes": 10**12, "backend_parameters": ["Queue"]}


def asked(**members: Any) -> WireResources:
    return WireResources(**members)


def test_without_workers_everything_is_accepted() -> None:
    wire = asked(cpu_cores=1000, backend_parameters={"Any": "x"}, backend_parameters_strict=True)
    resources, notes = read_resources(wire, Fleet(()))
    assert resources == Resources(cpu_cores=1000, backend_parameters={"any": "x"}, backend_parameters_strict=True)
    assert notes == []


@pytest.mark.parametrize("members", [{"cpu_cores": 4, "ram_gb": 8.0}, {"disk_gb": 1e6}, {"cpu_cores": 64, "ram_gb": 4}])
def test_what_one_executor_has_is_accepted(members: dict[str, Any]) -> None:
    read_resources(asked(**members), Fleet((SMALL, WIDE)))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"cpu_cores": 65}, r"resources\.cpu_cores: 65 is more than any executor here has \(64\)"),
        ({"ram_gb": 8.5}, r"resources\.ram_gb: 8\.5 GB is more than any executor here has \(8 GB\)"),
        ({"cpu_cores": 64, "ram_gb": 8}, "as much of everything at once"),
    ],
)
def test_what_no_executor_has_is_refused_in_words(members: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_resources(asked(**members), Fleet((SMALL, WIDE)))


def test_keys_are_compared_without_regard_to_case_and_kept_in_lower_case() -> None:
    resources, notes = read_resources(asked(backend_parameters={"NetWork": "true", "queue": "a"}), Fleet((SMALL, WIDE)))
    assert resources is not None
    assert resources.backend_parameters == {"network": "true", "queue": "a"}
    assert notes == []


def test_an_unknown_key_is_dropped_with_a_note() -> None:
    resources, notes = read_resources(asked(backend_parameters={"VmSize": "D64"}), Fleet((SMALL,)))
    assert resources is not None
    assert resources.backend_parameters == {}
    assert notes == ["backend parameter 'VmSize' is not supported here and was dropped (known: network)"]


def test_an_unknown_key_is_refused_where_the_client_is_strict() -> None:
    wire = asked(backend_parameters={"VmSize": "D64"}, backend_parameters_strict=True)
    with pytest.raises(InvalidRequest, match="'VmSize' is not supported") as caught:
        read_resources(wire, Fleet((SMALL,)))
    assert caught.value.field == "resources.backend_parameters.VmSize"
    assert "network" in (caught.value.remedy or "")


@pytest.mark.parametrize("fleet", [Fleet(()), Fleet((SMALL,))])
def test_keys_that_differ_by_case_only_are_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidRequest, match="'a' and 'A' are the same key"):
        read_resources(asked(backend_parameters={"a": "1", "A": "2"}), fleet)


def test_the_fleet_is_asked_for_at_most_once_a_second() -> None:
    class Workers:
        asked = 0

        def workers(self, *, since: float) -> tuple[WorkerInfo, ...]:
            self.asked += 1
            return (WorkerInfo(id="w", heartbeat_at=since, capabilities=SMALL),)

    clock, workers = Clock(), Workers()
    view = FleetView(workers, clock, silent_seconds=90)
    assert view.now().backend_parameters == ("network",)
    view.now()
    assert workers.asked == 1
    clock.pass_(1)
    view.now()
    assert workers.asked == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("time_limit", "soon", "'soon' is not a number of seconds"),
        ("time_limit", "0", "'0' is not a number of seconds"),
        ("time_limit", "nan", "'nan' is not a number of seconds"),
        ("Max_Retries", "-1", "'-1' is not a number of retries"),
        ("Max_Retries", "4", "'4' is not a number of retries"),
        ("Max_Retries", "0000000004", "'0000000004' is not a number of retries"),
        ("Max_Retries", "3\n", "is not a number of retries"),
        ("Priority", "6", "'6' is not a priority that you may give here"),
        ("Priority", "-6", "'-6' is not a priority"),
        ("Priority", "1.0", "'1.0' is not a priority"),
        ("Priority", "high", "'high' is not a priority"),
        ("Max_Retries", "²", "'²' is not a number of retries"),
    ],
)
def test_a_value_that_makes_no_sense_counts_as_unsupported(name: str, value: str, words: str) -> None:
    fleet = Fleet(({**SMALL, "backend_parameters": ["time_limit", "max_retries", "priority"]},))
    resources, notes = read_resources(
        asked(backend_parameters={name: value}), fleet, bounds=Bounds(retries=3, priority=5)
    )
    assert resources is not None
    assert resources.backend_parameters == {}
    assert words in notes[0]
    with pytest.raises(InvalidRequest, match=words) as caught:
        read_resources(
            asked(backend_parameters={name: value}, backend_parameters_strict=True),
            fleet,
            bounds=Bounds(retries=3, priority=5),
        )
    assert caught.value.field == f"resources.backend_parameters.{name}"


def test_a_time_limit_and_retries_are_kept() -> None:
    fleet = Fleet(({**SMALL, "backend_parameters": ["time_limit", "max_retries"]},))
    wire = asked(backend_parameters={"TIME_LIMIT": "3.5", "max_retries": "3"}, backend_parameters_strict=True)
    resources, notes = read_resources(wire, fleet, bounds=Bounds(retries=3, priority=5))
    assert resources is not None
    assert resources.backend_parameters == {"time_limit": "3.5", "max_retries": "3"}
    assert notes == []
