"""Check JSON that strangers sent, so that whatever is accepted can be stored and shown again."""

from __future__ import annotations

import json
from typing import Any

from weft.errors import InvalidRequest
from weft.model import JsonObject

_DEEPEST = 100  # levels of nesting; JSON libraries stop somewhat deeper
_LARGEST = 1 << 63


def decode_json(text: str | bytes, field: str) -> Any:
    """Decode JSON (UTF-8).

    :raises InvalidRequest: it is not JSON, or holds what ``check`` refuses.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise InvalidRequest(f"{field} is nested too deep", field=field) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidRequest(f"{field} is not JSON: {error}", field=field, remedy="send valid JSON in UTF-8") from error
    check(value, field)
    return value


def decode_object(value: Any, field: str) -> JsonObject:
    """Return the object that ``value`` is, or that its text decodes to.

    :raises InvalidRequest: it is anything else.
    """
    decoded = decode_json(value, field) if isinstance(value, str) else value
    if not isinstance(decoded, dict):
        raise InvalidRequest(
            f"{field} must be a JSON object, not {name_of(decoded)}",
            field=field,
            remedy=f'send {{"name": "value"}}, or leave {field} out',
        )
    return decoded


def check(value: Any, field: str) -> None:
    """Refuse what no database and no JSON library agrees on.

    :raises InvalidRequest: NUL or half of a surrogate pair in a string, an integer beyond 64 bits, nesting too deep.
    """
    level = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            else:
                _check_scalar(item, field)
        if not below:
            return
        level = below
    raise InvalidRequest(f"{field} is nested too deep", field=field, remedy=f"use at most {_DEEPEST} levels")


def _check_scalar(value: Any, field: str) -> None:
    if isinstance(value, str):
        check_text(value, field)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise InvalidRequest(f"{field} has an integer beyond 64 bits", field=field, remedy="send it as a string")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise InvalidRequest(f"{field} has a number that is too large", field=field, remedy="send it as a string")


def check_text(value: str, field: str) -> None:
    """Refuse text that cannot be stored.

    :raises InvalidRequest: it has a NUL or half of a surrogate pair.
    """
    if "\0" in value:
        raise InvalidRequest(f"{field} has a NUL character", field=field, remedy="leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{field} is not valid Unicode", field=field, remedy="send text in UTF-8") from error


def name_of(value: Any) -> str:
    """Name the JSON type of ``value`` for people."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
