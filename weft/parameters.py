"""What weft itself understands of ``backend_parameters``, whatever the executor: times, tries, a rank. Pure.

``PARAMETERS`` is announced beside what the executor declares, so service-info lists it and tasks may name it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import InvalidRequest

TIME_LIMIT = "time_limit"
MAX_RETRIES = "max_retries"
PRIORITY = "priority"
PARAMETERS = frozenset({TIME_LIMIT, MAX_RETRIES, PRIORITY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a task may ask for."""

    retries: int = 0
    #: Negated it is the least.
    priority: int = 0


def check(name: str, value: str, bounds: Bounds) -> None:
    """Refuse a value that means nothing; names that are the executor's are not looked at.

    :param name: in lower case.
    :raises InvalidRequest: says what the value may be.
    """
    if name == TIME_LIMIT and _seconds(value) is None:
        raise InvalidRequest(f"{value!r} is not a number of seconds", remedy="a number above 0, such as 3600")
    if name == MAX_RETRIES and not (re.fullmatch("[0-9]{1,9}", value) and int(value) <= bounds.retries):
        raise InvalidRequest(
            f"{value!r} is not a number of retries that this site allows",
            remedy=f"a whole number from 0 to {bounds.retries}",
        )
    if name == PRIORITY and not (re.fullmatch("-?[0-9]{1,9}", value) and abs(int(value)) <= bounds.priority):
        raise InvalidRequest(
            f"{value!r} is not a priority that you may give here",
            remedy=f"a whole number from {-bounds.priority} to {bounds.priority}; 0 is usual, the highest goes first",
        )


def time_limit(document: Mapping[str, Any]) -> float | None:
    """Return the wall time in seconds that a stored task allows to each of its attempts; None for no limit."""
    return _seconds(_given(document).get(TIME_LIMIT, ""))


def attempts(parameters: Mapping[str, str]) -> int:
    """Return how often a task with these parameters may be tried: once, and each retry that it asks for."""
    return 1 + int(parameters.get(MAX_RETRIES, "0"))


def priority(parameters: Mapping[str, str]) -> int:
    """Return the rank of a task with these parameters among those of its owner; the highest goes first."""
    return int(parameters.get(PRIORITY, "0"))


def _given(document: Mapping[str, Any]) -> Mapping[str, str]:
    parameters: Mapping[str, str] = document.get("resources", {}).get("backend_parameters", {})
    return parameters


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def engine_parameter(given: Mapping[str, str], name: str) -> str | None:
    """Return the value of one of ``workflow_engine_parameters``, in whichever spelling it comes; None without it.

    :param name: in words with dashes.
    """
    for spelled, value in given.items():
        if spelled.lstrip("-").replace("_", "-") == name:
            return value
    return None
