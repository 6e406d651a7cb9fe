"""Where a job goes, and why; what can never go anywhere is told at once."""

from __future__ import annotations

from typing import Any

import pytest

from weft.errors import InvalidRequest, Unavailable
from weft.federation.routing import Ask, Candidate, Impossible, check, choose_node
from weft.model import JsonObject, Kind


def a_node(name: str, *datasets: str, urls: tuple[str, ...] = (), **changes: Any) -> Candidate:
    declared: JsonObject = {
        "datasets": [{"id": dataset, "urls": list(urls)} for dataset in datasets],
        "executor": {"cpu_cores": 4, "ram_bytes": 8 * 10**9, "slots": 2},
    }
    return Candidate(**{"name": name, "declared": declared, **changes})


def a_task(*urls: str, tags: JsonObject | None = None, **resources: Any) -> Ask:
    inputs = [{"url": url, "path": f"/in/{index}"} for index, url in enumerate(urls)]
    document = {"executors": [], "inputs": inputs, "resources": resources, "tags": tags or {}}
    return Ask(kind=Kind.TASK, document=document)


def parameters(**given: str) -> JsonObject:
    return {"backend_parameters": given}


CZ, EE, PT = (
    a_node("cz", "cohort"),
    a_node("ee", "cohort", "exomes"),
    a_node("pt", "images", urls=("drs://pt.example/",)),
)


def test_data_decide_before_load() -> None:
    busy = a_node("ee", "exomes", open=100)
    choice = choose_node([a_node("cz"), busy], a_task("dataset://exomes/a.vcf"))
    assert (choice.node, choice.reason) == ("ee", "node ee was chosen: it holds exomes")


def test_among_those_that_hold_it_the_least_busy_is_chosen_and_the_log_says_so() -> None:
    choice = choose_node([a_node("cz", "cohort", open=1), EE, PT], a_task("dataset://cohort/a.vcf"))
    assert choice.node == "ee"
    assert "it holds cohort; of its size it has the least to do (cz has 1 of 2, ee has 0 of 2)" in choice.reason


@pytest.mark.parametrize(
    ("url", "node"), [("drs://pt.example/scan-7", "pt"), ("dataset://exomes", "ee"), ("https://elsewhere.org/x", "cz")]
)
def test_a_url_leads_to_who_declares_it(url: str, node: str) -> None:
    assert choose_node([CZ, EE, PT], a_task(url)).node == node


def test_a_dataset_whose_name_begins_alike_is_another_one() -> None:
    with pytest.raises(Impossible, match="no node of this hub holds dataset://cohort-2/x"):
        choose_node([CZ, EE], a_task("dataset://cohort-2/x"))


def test_inputs_at_two_nodes_are_refused_with_the_reason() -> None:
    with pytest.raises(InvalidRequest) as refused:
        choose_node([CZ, EE, PT], a_task("dataset://exomes/a", "drs://pt.example/b"))
    assert refused.value.status == 400
    assert refused.value.field == "inputs[1].url"
    assert (
        "(dataset://exomes/a) is held by ee; inputs[1].url (drs://pt.example/b) is held by pt; data do not move"
        in str(refused.value)
    )


def test_parameters_of_a_run_name_data_too() -> None:
    document = {"workflow_type": "SMK", "workflow_params": {"all": [{"file": "dataset://images/x"}]}}
    assert choose_node([CZ, EE, PT], Ask(kind=Kind.RUN, document=document)).node == "pt"


def test_a_wish_is_kept_and_cannot_move_data() -> None:
    assert choose_node([CZ, EE], a_task("dataset://cohort/x", **parameters(node="ee"))).node == "ee"
    with pytest.raises(Impossible, match="is held by ee, and not by cz; data do not move"):
        choose_node([CZ, EE], a_task("dataset://exomes/x", **parameters(node="cz")))
    with pytest.raises(Impossible, match="no node 'xx'") as refused:
        choose_node([CZ, EE], a_task(**parameters(node="xx")))
    assert (refused.value.field, refused.value.remedy) == ("resources.backend_parameters.node", "one of: cz, ee")


def test_what_no_node_has_is_said_with_how_much_there_is() -> None:
    with pytest.raises(Impossible, match=r"cz has 8 GB and not 64 GB \(ram_gb\)") as refused:
        choose_node([CZ], a_task(ram_gb=64))
    assert refused.value.field == "resources.ram_gb"


def test_a_node_that_runs_another_language_is_not_chosen() -> None:
    cwl = Candidate(name="aa", declared={"wes": {"workflow_type_versions": {"CWL": {}}}})
    ask = Ask(kind=Kind.RUN, document={"workflow_type": "SMK"})
    choice = choose_node([cwl, CZ], ask)
    assert (choice.node, "aa runs CWL and not SMK" in choice.reason) == ("cz", True)
    with pytest.raises(Impossible, match="runs CWL and not SMK"):
        choose_node([cwl], ask)


def test_silent_and_suspended_nodes_are_passed_over_and_waited_for_where_they_alone_can_do_it() -> None:
    silent = a_node("cz", "cohort", healthy=False)
    assert choose_node([silent, EE], a_task("dataset://cohort/x")).node == "ee"
    assert choose_node([silent], a_task("dataset://cohort/x")).node == "cz"
    with pytest.raises(Unavailable, match="cz is suspended"):
        choose_node([a_node("cz", suspended=True)], a_task())
    with pytest.raises(Unavailable, match="no node has joined"):
        choose_node([], a_task())


def test_each_part_of_a_fan_out_is_checked_at_its_coming_in() -> None:
    asked = a_task("dataset://cohort/x", **parameters(nodes="cz,ee"))
    check([CZ, EE, PT], asked.kind, asked.document)
    wrong = a_task("dataset://cohort/x", **parameters(nodes="cz,pt"))
    with pytest.raises(InvalidRequest, match="not by pt"):
        check([CZ, EE, PT], wrong.kind, wrong.document)
