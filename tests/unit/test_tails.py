"""Live log tails."""

from __future__ import annotations

from pathlib import Path

from weft.folders import AttemptFolder
from weft.model import Step
from weft.tails import TailReader, read_tail


def test_a_tail_is_the_end_and_never_begins_inside_a_character(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("ää".encode() * 100)
    assert read_tail(path, 5) == "ää"


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "none", 10) == ""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "log").symlink_to(tmp_path / "secret")
    assert read_tail(tmp_path / "log", 10) == ""


def test_bytes_that_are_not_text_are_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\xff\0b")
    assert read_tail(tmp_path / "log", 10) == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"


def test_what_was_not_saved_is_news_again(tmp_path: Path) -> None:
    logs = AttemptFolder(tmp_path).logs
    logs.mkdir()
    reader = TailReader(1, tmp_path, (), (Step(image="i", command=("c",)),), limit=100)
    assert reader.news() == ()
    (logs / "0.stdout").write_text("one")
    for _ in range(2):
        assert [tail.stdout for tail in reader.news()] == ["one"]
    reader.saved()
    assert reader.news() == ()
    (logs / "0.stderr").write_text("two")
    assert [(tail.stdout, tail.stderr) for tail in reader.news()] == [("one", "two")]
