"""Compare two OpenAPI documents by structure: everything but words for people and examples."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("WEFT_SHARED") or REPOSITORY.parent / "shared")

#: Members that say something to people only. ``properties`` may well have members of these names; see ``_walk``.
_WORDS = frozenset({"description", "summary", "example", "examples", "title", "license", "contact", "x-logo"})
#: Below these, keys are names of things and not words of OpenAPI.
_NAMES = frozenset({"properties", "paths", "schemas", "parameters", "responses", "securitySchemes", "variables"})
#: Lists whose order means nothing.
_SETS = frozenset({"required", "enum"})
_MISSING = object()


@dataclass(frozen=True, order=True)
class Difference:
    """One place where two documents differ; ``official`` or ``ours`` is None where the place is missing there."""

    path: str
    official: str | None
    ours: str | None


def load(path: Path) -> dict[str, Any]:
    """Read a YAML document."""
    with path.open(encoding="utf-8") as stream:
        document: dict[str, Any] = yaml.safe_load(stream)
    return document


def official(name: str) -> dict[str, Any]:
    """Read an official document from the shared folder."""
    return load(SHARED / "specs" / name)


def ours(name: str) -> dict[str, Any]:
    """Read a document of this repository."""
    return load(REPOSITORY / "openapi" / name)


def differences(official: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Difference]:
    """List every structural difference, sorted by path. A missing branch is one difference, at its root."""
    return sorted(_compare("", official, ours, named=False))


def sentences(document: Any) -> set[str]:
    """Return all sentences of all descriptions and summaries, in lower case and with single spaces."""
    return {sentence for text in _texts(document) for sentence in _split(text)}


def copied(official: Mapping[str, Any], ours: Mapping[str, Any], words: int = 6) -> set[str]:
    """Return the sentences of more than ``words`` words that both documents have."""
    return {sentence for sentence in sentences(official) & sentences(ours) if len(sentence.split()) > words}


def _compare(path: str, one: Any, two: Any, *, named: bool) -> Iterator[Difference]:
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two}, key=str):
            if not named and key in _WORDS:
                continue
            inner = f"{path}/{str(key).replace('/', '~1')}"
            below = not named and key in _NAMES
            yield from _compare(inner, one.get(key, _MISSING), two.get(key, _MISSING), named=below)
    elif isinstance(one, list) and isinstance(two, list):
        yield from _compare_lists(path, one, two)
    elif one != two:
        yield Difference(path, _shown(one), _shown(two))


def _compare_lists(path: str, one: list[Any], two: list[Any]) -> Iterator[Difference]:
    if path.rpartition("/")[2] in _SETS:
        if sorted(map(str, one)) != sorted(map(str, two)):
            yield Difference(path, _shown(sorted(map(str, one))), _shown(sorted(map(str, two))))
        return
    left, right = _by_name(one), _by_name(two)
    for key in [*left, *(key for key in right if key not in left)]:
        yield from _compare(f"{path}/{key}", left.get(key, _MISSING), right.get(key, _MISSING), named=False)


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Index a list by the names of its items where they have one (parameters), else by place."""
    return {
        str(item["name"]) if isinstance(item, dict) and "name" in item and "in" in item else str(place): item
        for place, item in enumerate(items)
    }


def _shown(value: Any) -> str | None:
    if value is _MISSING:
        return None
    return "{…}" if isinstance(value, dict) else str(value)


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("description", "summary") and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(document, list):
        for item in document:
            yield from _texts(item)


def _split(text: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*-\s", text):
        plain = " ".join(re.sub(r"[`*#.,:;!?()\"']", " ", sentence).lower().split())
        if plain:
            yield plain
