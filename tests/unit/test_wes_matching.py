"""Which engine runs a request: types and versions in all their spellings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.wes_site import cwltool, snakemake
from weft.errors import InvalidRequest
from wes_service.matching import choose
from wes_service.wire import parse

ENGINES = (snakemake(), cwltool())


def _choose(**changes: Any) -> tuple[str, str, str]:
    form = parse({"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "x", **changes})
    match = choose(form, ENGINES)
    return match.engine.info.name, match.workflow_type, match.workflow_type_version


@pytest.mark.parametrize("spelling", ["SMK", "smk", "Snakemake", "SNAKEMAKE", " smk "])
def test_a_type_is_known_in_any_case_and_by_its_aliases(spelling: str) -> None:
    assert _choose(workflow_type=spelling)[:2] == ("snakemake", "SMK")


@pytest.mark.parametrize(
    ("sent", "canonical"),
    [("9.27.0", "9.27.0"), ("v9.27.0", "9.27.0"), ("9", "9"), ("V9", "9"), ("9.27", "9.27"), ("1.0", "1.0")],
)
def test_a_version_of_snakemake_is_the_installed_one_its_beginnings_or_the_customary_one(
    sent: str, canonical: str
) -> None:
    assert _choose(workflow_type_version=sent)[2] == canonical


@pytest.mark.parametrize(("sent", "canonical"), [("v1.0", "1.0"), ("1.2", "v1.2"), ("v1.2", "v1.2")])
def test_a_leading_v_makes_no_difference(sent: str, canonical: str) -> None:
    assert _choose(workflow_type="cwl", workflow_type_version=sent)[2] == canonical


@pytest.mark.parametrize(
    ("name", "version"), [("SMK", "9.2"), ("SMK", "8"), ("SMK", "v"), ("CWL", "3.1"), ("CWL", "1")]
)
def test_a_version_that_is_not_supported_is_refused(name: str, version: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _choose(workflow_type=name, workflow_type_version=version)
    assert refused.value.field == "workflow_type_version"


def test_an_engine_is_known_in_any_case() -> None:
    assert _choose(workflow_engine="Snakemake", workflow_engine_version="v9.27.0")[0] == "snakemake"


def test_without_engines_the_refusal_says_so() -> None:
    with pytest.raises(InvalidRequest, match="no workflow engine is installed"):
        choose(parse({"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "x"}), ())
