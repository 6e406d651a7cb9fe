"""The wildcards of output paths, expanded by weft and never by a shell.

POSIX.1-2017, Shell and Utilities 2.13 (Pattern Matching Notation): ``*``, ``?``, ``[...]``, a backslash takes the
meaning from the character after it, no pattern crosses ``/``, and a leading period must be written. Classes and
ranges are those of the POSIX locale. A bracket that is not closed within its path component is an ordinary ``[``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import PurePosixPath

#: Gives the names in a folder; nothing where there is no such folder.
Names = Callable[[str], list[str]]

_STAR = ".*"
_UNESCAPED = re.compile(r"\\.|([*?\[])", re.DOTALL)
_ESCAPED = re.compile(r"\\([*?\[\]\\])")
_CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, (*range(32), 127))),
    "digit": string.digits,
    "graph": "".join(map(chr, range(33, 127))),
    "lower": string.ascii_lowercase,
    "print": "".join(map(chr, range(32, 127))),
    "punct": string.punctuation,
    "space": " \t\n\v\f\r",
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}


def has_wildcards(path: str) -> bool:
    """Tell whether ``path`` holds ``*``, ``?`` or ``[`` without a backslash before it."""
    return any(match.group(1) for match in _UNESCAPED.finditer(path))


def literal(path: str) -> str:
    r"""Return the path that a text without wildcards means: ``\*`` stands for ``*``."""
    return _ESCAPED.sub(r"\1", path)


def literal_folder(pattern: str) -> str:
    """Return the deepest folder above the first component that holds a wildcard."""
    folder = PurePosixPath("/")
    for part in PurePosixPath(pattern).parts[1:-1]:
        if has_wildcards(part):
            break
        folder /= literal(part)
    return str(folder)


def expand(pattern: str, names: Names) -> list[str]:
    """Return the sorted paths that match the absolute ``pattern`` in the tree that ``names`` shows."""
    parts = PurePosixPath(pattern).parts[1:]
    depth = len(PurePosixPath(literal_folder(pattern)).parts) - 1
    return sorted(_expand(literal_folder(pattern), list(parts[depth:]), names))


def matches(pattern: str, name: str) -> bool:
    """Tell whether one path component matches."""
    return _compiled(pattern).fullmatch(name) is not None


def pruned(path: str, prefix: str | None) -> str:
    """Return ``path`` without ``prefix`` and without a leading slash (``tesOutput.path_prefix``)."""
    folder = PurePosixPath(prefix or "/")
    if PurePosixPath(path) == folder:
        return folder.name
    if PurePosixPath(path).is_relative_to(folder):
        return str(PurePosixPath(path).relative_to(folder))
    return path.removeprefix(prefix or "").lstrip("/")


def _expand(folder: str, parts: list[str], names: Names) -> Iterator[str]:
    for name in names(folder):
        if not matches(parts[0], name):
            continue
        path = f"{folder.rstrip('/')}/{name}"
        if len(parts) == 1:
            yield path
        else:
            yield from _expand(path, parts[1:], names)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate, so that time stays linear: what follows a star is taken at its first place, and never given back."""
    runs = [""]
    at = 0
    while at < len(pattern):
        piece, at = _piece(pattern, at)
        if piece == _STAR:
            runs.append("")
        else:
            runs[-1] += piece
    hidden = "" if pattern.startswith((".", "\\.")) else r"(?!\.)"
    first, *others = runs
    if not others:
        return re.compile(hidden + first, re.DOTALL)
    middle = "".join(f"(?>.*?{run})" for run in others[:-1] if run)
    return re.compile(f"{hidden}{first}{middle}.*{others[-1]}", re.DOTALL)


def _piece(pattern: str, at: int) -> tuple[str, int]:
    """Translate what begins at ``at``, and say where the next piece begins."""
    char = pattern[at]
    if char == "*":
        return _STAR, at + 1
    if char == "?":
        return ".", at + 1
    if char == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), at + 2
    if char == "[":
        return _bracket(pattern, at) or (r"\[", at + 1)
    return re.escape(char), at + 1


def _bracket(pattern: str, start: int) -> tuple[str, int] | None:
    """Translate a bracket expression (XBD 9.3.5, with ``!`` for ``^``); None if it is not closed."""
    at = start + 1
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    first = at
    members: list[str] = []
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        low, at = _member(pattern, at)
        if len(low) == 1 and pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(pattern, at + 1)
            low = _span(low, high)
        members.append(low)
    if at >= len(pattern):
        return None
    chars = "".join(members)
    if not chars:  # an unknown class, or a range that runs backwards
        return ("." if negated else r"(?!)"), at + 1
    return f"[{'^' if negated else ''}{_set(chars)}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Read one member of a bracket: a class, a collating symbol, an escaped or a plain character."""
    opening = pattern[at : at + 2]
    if opening in ("[:", "[=", "[."):
        end = pattern.find(opening[1] + "]", at + 2)
        if end != -1:
            word = pattern[at + 2 : end]
            return (_CLASSES.get(word, "") if opening == "[:" else word), end + 2
    if pattern[at] == "\\" and at + 1 < len(pattern):
        return pattern[at + 1], at + 2
    return pattern[at], at + 1


def _span(low: str, high: str) -> str:
    """Keep a range small: as (first, NUL, last), which no file name can hold."""
    if len(high) != 1 or high < low:
        return ""
    return f"{low}\0{high}"


def _set(chars: str) -> str:
    """Write characters, and the spans among them, as the inside of a regular expression's set."""
    return "".join("-" if char == "\0" else re.escape(char) for char in chars)
