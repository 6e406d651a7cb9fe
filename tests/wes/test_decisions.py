"""docs/wes.md answers every open question of WES, and each answer names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from wes_service.engines import cwl_parameters, wdl_parameters

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "wes.md"
QUESTIONS = [f"B{number}" for number in range(1, 30)]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the table of decisions, by its number."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and re.fullmatch(r"B\d+", cells[0]):
            assert cells[0] not in found, f"two rows {cells[0]}"
            found[cells[0]] = cells
    return found


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the test functions and methods of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def section(title: str) -> str:
    """Return the text of one section of the page."""
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_question_has_one_row_in_order() -> None:
    assert list(rows()) == QUESTIONS


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_row_has_a_question_an_answer_and_tests(question: str) -> None:
    _, asked, answer, proof = rows()[question]
    assert asked.endswith("?")
    assert len(answer) > 20
    assert _TEST.findall(proof), f"{question} names no test"


def test_every_test_that_the_page_names_exists() -> None:
    for file, name in _TEST.findall(PAGE.read_text(encoding="utf-8")):
        assert name in names_in(ROOT / file), f"{file} has no {name}"


@pytest.mark.parametrize(("title", "allowed"), [("CWL", cwl_parameters.ALLOWED), ("WDL", wdl_parameters.ALLOWED)])
def test_every_engine_parameter_is_on_the_page(title: str, allowed: dict[str, object]) -> None:
    for name in allowed:
        shown = {"log-level": "logLevel", "resume-from": "resume_from", "output-url": "output_url"}.get(name, name)
        assert f"`{shown}`" in section(title), f"the section {title} does not name {shown}"
