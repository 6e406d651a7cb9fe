"""docs/tes.md answers every open question of TES, and each answer names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tes.md"
QUESTIONS = [f"A{number}" for number in range(1, 36)]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the table of decisions, by its number."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"A\d+", cells[0]):
            assert cells[0] not in found, f"two rows {cells[0]}"
            found[cells[0]] = cells
    return found


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the test functions and methods of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_question_has_one_row_in_order() -> None:
    assert list(rows()) == QUESTIONS


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_row_has_a_question_an_answer_and_tests_that_exist(question: str) -> None:
    _, asked, answer, proof = rows()[question]
    assert asked.endswith("?")
    assert len(answer) > 20
    named = _TEST.findall(proof)
    assert named, f"{question} names no test"
    for file, name in named:
        assert name in names_in(ROOT / file), f"{question}: {file} has no {name}"


def test_every_kind_of_bad_input_names_its_answer_and_its_tests() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What bad input gets")[2].partition("\n## ")[0]
    table = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(table) >= 15
    for kind, answer, proof in table:
        assert re.search(r"4\d\d", answer) or "4xx" in answer, kind
        assert _TEST.findall(proof), kind


def test_every_test_that_the_page_names_exists() -> None:
    for file, name in _TEST.findall(PAGE.read_text(encoding="utf-8")):
        assert name in names_in(ROOT / file), f"{file} has no {name}"
