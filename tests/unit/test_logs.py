"""Log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from weft.logs import configure, get_logger


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("break_", ["\n", "\r", "\r\n", "\x1b[2J", "\x85", "\u2028"])
def test_a_value_never_passes_for_another_line(
    root_logger: None, capsys: pytest.CaptureFixture[str], break_: str
) -> None:
    configure("INFO")
    get_logger("weft.test").info("request refused", path=f"/tasks/x{break_}forged")
    (line,) = capsys.readouterr().err.splitlines()
    assert break_ not in line
    assert "forged" in line
