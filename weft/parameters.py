"""What weft itself understands of ``backend_parameters``, whatever the executor: a time limit, and retries. Pure.

``PARAMETERS`` is announced beside what the executor declares, so service-info lists it and tasks may name it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from weft.errors import InvalidRequest

TIME_LIMIT = "time_limit"
MAX_RETRIES = "max_retries"
PARAMETERS = frozenset({TIME_LIMIT, MAX_RETRIES})


def check(name: str, value: str, *, most_retries: int) -> None:
    """Refuse a value that means nothing; names that are the executor's are not looked at.

    :param name: in lower case.
    :raises InvalidRequest: says what the value may be.
    """
    if name == TIME_LIMIT and _seconds(value) is None:
        raise InvalidRequest(f"{value!r} is not a number of seconds", remedy="a number above 0, such as 3600")
    if name == MAX_RETRIES and not (re.fullmatch("[0-9]{1,9}", value) and int(value) <= most_retries):
        raise InvalidRequest(
            f"{value!r} is not a number of retries that this site allows",
            remedy=f"a whole number from 0 to {most_retries}",
        )


def time_limit(document: Mapping[str, Any]) -> float | None:
    """Return the wall time in seconds that a stored task allows to each of its attempts; None for no limit."""
    return _seconds(_given(document).get(TIME_LIMIT, ""))


def attempts(parameters: Mapping[str, str]) -> int:
    """Return how often a task with these parameters may be tried: once, and each retry that it asks for."""
    return 1 + int(parameters.get(MAX_RETRIES, "0"))


def _given(document: Mapping[str, Any]) -> Mapping[str, str]:
    parameters: Mapping[str, str] = document.get("resources", {}).get("backend_parameters", {})
    return parameters


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
