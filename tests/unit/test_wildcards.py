"""POSIX patterns, compared with a table and with what the standard's own examples say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weft.staging.wildcards import expand, has_wildcards, literal, literal_folder, matches, pruned


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a", True),
        ("*", ".a", False),
        (".*", ".a", True),
        ("\\.*", ".a", True),
        ("?a", ".a", False),
        ("[.]a", ".a", False),
        ("[!x]a", ".a", False),
        ("a*", "a", True),
        ("a*c", "abbc", True),
        ("a*c", "abbcd", False),
        ("*a", "a.a", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("?", "ä", True),
        ("*", "a\nb", True),
        ("a?b", "a\nb", True),
        ("[abc]", "b", True),
        ("[abc]", "d", False),
        ("[!abc]", "d", True),
        ("[!abc]", "a", False),
        ("[^abc]", "d", True),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[a-c-]", "-", True),
        ("[-ac]", "-", True),
        ("[]a]", "]", True),
        ("[]a]", "b", False),
        ("[!]a]", "b", True),
        ("[!]a]", "]", False),
        ("[[:alpha:]]", "q", True),
        ("[[:alpha:]]", "1", False),
        ("[[:digit:]x]", "7", True),
        ("[![:digit:]]", "7", False),
        ("[[:space:]]b", " b", True),
        ("[[:nonsense:]]", "a", False),
        ("[[=a=]]", "a", True),
        ("[[.-.]z]", "-", True),
        ("[z-a]", "m", False),
        ("[a", "[a", True),
        ("[a", "a", False),
        ("a[", "a[", True),
        ("[]", "[]", True),
        ("[[]", "[", True),
        ("[a^]", "^", True),
        ("[a\\]b]", "]", True),
        ("[\\\\]", "\\", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a\\?", "a?", True),
        ("\\[a]", "[a]", True),
        ("a\\", "a\\", True),
        ("a.b", "axb", False),
        ("a+(b)|{c}$^", "a+(b)|{c}$^", True),
        ("**", "ab", True),
        ("*.fq", "\udcff.fq", True),
        ("[&&a]", "&", True),
        ("[a||b]", "|", True),
    ],
)
def test_one_component(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", False),
        ("/a*", True),
        ("/a?", True),
        ("/[a]", True),
        ("/a\\*", False),
        ("/a\\\\*", True),
        ("/a]", False),
    ],
)
def test_only_an_unescaped_character_is_a_wildcard(path: str, expected: bool) -> None:
    assert has_wildcards(path) is expected


def test_a_backslash_takes_the_meaning_away() -> None:
    assert literal("/out/a\\*b\\[1\\]") == "/out/a*b[1]"
    assert literal("/out/plain\\n") == "/out/plain\\n"


def test_the_literal_folder_is_the_deepest_without_wildcards() -> None:
    assert literal_folder("/work/*.txt") == "/work"
    assert literal_folder("/work/a/b?/c/*.txt") == "/work/a"
    assert literal_folder("/*.txt") == "/"
    assert literal_folder("/work/a\\*/x*") == "/work/a*"


def names_in(root: Path):
    def names(folder: str) -> list[str]:
        try:
            return sorted(path.name for path in (root / folder.lstrip("/")).iterdir())
        except (NotADirectoryError, FileNotFoundError):
            return []

    return names


def test_patterns_do_not_cross_a_slash_and_name_folders_on_the_way(tmp_path: Path) -> None:
    for name in ("work/a.txt", "work/sub/b.txt", "work/sub/deep/c.txt", "work/other/d.txt", "work/.hidden/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = names_in(tmp_path)
    assert expand("/work/*.txt", names) == ["/work/a.txt"]
    assert expand("/work/*/*.txt", names) == ["/work/other/d.txt", "/work/sub/b.txt"]
    assert expand("/work/s*/deep/?.txt", names) == ["/work/sub/deep/c.txt"]
    assert expand("/work/.h*/*", names) == ["/work/.hidden/e.txt"]
    assert expand("/work/nothing/*", names) == []
    assert expand("/work/[a/b]*", names) == []


def test_names_are_matched_byte_by_byte(tmp_path: Path) -> None:
    odd = [b"a b", b"quo'te\"", b"new\nline", "ümlaut".encode(), b"\xff\xfe", b"-n", b"*"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).touch()
    found = {os.fsencode(path)[1:] for path in expand("/*", names_in(tmp_path))}
    assert found == set(odd)


def test_pruning_removes_the_prefix() -> None:
    assert pruned("/work/out/a.txt", "/work") == "out/a.txt"
    assert pruned("/work/out/a.txt", "/work/") == "out/a.txt"
    assert pruned("/work/out/a.txt", "/work/out/a") == ".txt"
    assert pruned("/work/out/a.txt", "/other") == "work/out/a.txt"
    assert pruned("/work/a.txt", "/work/a.txt") == "a.txt"
    assert pruned("/work/a.txt", None) == "work/a.txt"


def test_a_long_hostile_pattern_ends_soon() -> None:
    assert not matches("*a" * 12 + "b", "a" * 40)
