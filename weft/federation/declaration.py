"""What a site declares to its hub: its services, its size, its data sets. Read from ``datasets.toml`` and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weft.errors import InvalidRequest
from weft.model import JsonObject

#: Members of a data set: name -> whether it must be there, and its type.
_DATASET: Mapping[str, tuple[bool, type]] = {
    "id": (True, str),
    "name": (False, str),
    "description": (False, str),
    "urls": (False, list),
    "size_bytes": (False, int),
    "build": (False, str),
    "actions": (False, list),
    "groups": (False, list),
}
_SITE: Mapping[str, type] = {"jurisdiction": str, "description": str, "images": str, "groups": list, "datasets": list}
_LARGEST = 1 << 20


def read(path: Path) -> JsonObject:
    """Read ``datasets.toml``: the site's own members, and a ``[[datasets]]`` table for each data set.

    :raises InvalidRequest: names the file and what is wrong in it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", field="datasets") from error
    unknown = sorted(document.keys() - _SITE.keys())
    if unknown:
        raise InvalidRequest(
            f"{path}: {unknown[0]!r} is not known", field="datasets", remedy=f"known: {', '.join(_SITE)}"
        )
    return checked(document)


def checked(document: Mapping[str, Any]) -> JsonObject:
    """Return a declaration if it is one.

    :raises InvalidRequest: names the member.
    """
    for name, kind in _SITE.items():
        if name in document and not isinstance(document[name], kind):
            raise InvalidRequest(f"{name} is not a {kind.__name__}", field=name)
    seen: set[str] = set()
    for dataset in document.get("datasets", ()):
        _check_dataset(dataset)
        if dataset["id"] in seen:
            raise InvalidRequest(f"the data set {dataset['id']!r} is declared twice", field="datasets")
        seen.add(dataset["id"])
    if len(str(document)) > _LARGEST:
        raise InvalidRequest(f"the declaration is larger than {_LARGEST} characters", field="declared")
    return dict(document)


def datasets_for(declared: Mapping[str, Any], groups: frozenset[str]) -> list[JsonObject]:
    """Return the data sets that a caller may know of: those without groups, and those of the caller's own."""
    return [dict(item) for item in declared.get("datasets", ()) if is_for(item, groups)]


def is_for(item: Mapping[str, Any], groups: frozenset[str]) -> bool:
    """Tell whether a caller of these groups may know of a site or of a data set."""
    named: Sequence[str] = item.get("groups", ())
    return not named or not groups.isdisjoint(named)


def _check_dataset(dataset: object) -> None:
    if not isinstance(dataset, Mapping):
        raise InvalidRequest("a data set is a table", field="datasets", remedy="write [[datasets]]")
    for name, (needed, kind) in _DATASET.items():
        if needed and not dataset.get(name):
            raise InvalidRequest(f"a data set has no {name}", field=f"datasets.{name}")
        if name in dataset and (not isinstance(dataset[name], kind) or isinstance(dataset[name], bool)):
            raise InvalidRequest(f"{name} of a data set is not a {kind.__name__}", field=f"datasets.{name}")
        if isinstance(dataset.get(name), list) and not all(isinstance(item, str) for item in dataset[name]):
            raise InvalidRequest(f"{name} of a data set holds what is no text", field=f"datasets.{name}")
    unknown = sorted(dataset.keys() - _DATASET.keys())
    if unknown:
        remedy = f"known: {', '.join(_DATASET)}"
        raise InvalidRequest(f"{unknown[0]!r} of a data set is not known", field="datasets", remedy=remedy)
