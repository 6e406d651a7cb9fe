"""Read a run's engine parameters by an allow-list: what the engines have in common. Pure.

A parameter is named as on the engine's command line, with or without the leading dashes. A flag is given by null,
an empty text or "true". A list is given as a JSON list or as words with white space between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import InvalidRequest

Reader = Callable[[Any], Any]
#: Where the outputs of a run are to be stored; of every engine.
OUTPUT_URL = "output-url"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One name of an allow-list."""

    name: str
    #: In service-info: "int", "boolean", "list", "object", "string".
    type: str
    default: str
    read: Reader


def parameters(*rows: tuple[str, str, str, Reader]) -> dict[str, Parameter]:
    """Make an allow-list of rows of name, type, default and reader."""
    return {name: Parameter(name=name, type=kind, default=default, read=read) for name, kind, default, read in rows}


def count(value: Any) -> int:
    """Read a whole number of at least 1."""
    if isinstance(value, bool) or (number := int(str(value))) < 1:
        raise ValueError("a whole number of at least 1")
    return number


def flag(value: Any) -> bool:
    """Read a flag; one that is given without a value is set."""
    words = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return True if value is None else words[str(value).strip().lower()]
    except KeyError:
        raise ValueError("a flag: true, false or nothing") from None


def texts(value: Any) -> list[str]:
    """Read a list of texts."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or not value:
        raise ValueError("a JSON list of texts, or words with white space between them")
    return value


def anything(value: Any) -> Any:
    """Take a value that has no effect."""
    return value


def url(value: Any) -> str:
    """Read an absolute URL."""
    scheme, separator, rest = str(value).partition("://")
    if not separator or not scheme or not rest:
        raise ValueError("an absolute URL, such as s3://bucket/folder or file:///folder")
    return str(value)


def choice(*words: str) -> Reader:
    """Return a reader of one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError("one of " + ", ".join(words))
        return str(value)

    return read


def read_by(
    allowed: Mapping[str, Parameter], spellings: Mapping[str, str], given: Mapping[str, Any], engine: str
) -> dict[str, Any]:
    """Return the parameters by their one name, with their values read.

    :raises InvalidRequest: an unknown name (the message lists the known ones), or a value that cannot be read.
    """
    return dict(_read_one(allowed, spellings, name, value, engine) for name, value in given.items())


def _read_one(
    allowed: Mapping[str, Parameter], spellings: Mapping[str, str], name: str, value: Any, engine: str
) -> tuple[str, Any]:
    field = f"workflow_engine_parameters.{name}"
    bare = name.lstrip("-").replace("_", "-")
    known = allowed.get(spellings.get(bare, bare))
    if known is None:
        raise InvalidRequest(
            f"unknown engine parameter {name!r} for {engine}",
            field=field,
            remedy="allowed are " + ", ".join(sorted(allowed)),
        )
    try:
        return known.name, known.read(value)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"engine parameter {name!r} cannot be {value!r}: {error}", field=field) from error
