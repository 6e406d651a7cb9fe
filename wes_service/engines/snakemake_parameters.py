"""Read the engine parameters of a Snakemake run by an allow-list. Pure: nothing of Snakemake is imported here.

A parameter is named as on Snakemake's command line, with or without the leading dashes. A flag is given by null,
an empty text or "true". A list is given as a JSON list or as words with white space between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import InvalidRequest

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One name of the allow-list."""

    name: str
    #: In service-info: "int", "boolean", "list", "object".
    type: str
    default: str
    read: Reader


def _count(value: Any) -> int:
    if isinstance(value, bool) or (number := int(str(value))) < 1:
        raise ValueError("a whole number of at least 1")
    return number


def _count_or_zero(value: Any) -> int:
    if isinstance(value, bool) or (number := int(str(value))) < 0:
        raise ValueError("a whole number")
    return number


def _cores(value: Any) -> int | None:
    return None if str(value).strip() == "all" else _count(value)


def _flag(value: Any) -> bool:
    words = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return True if value is None else words[str(value).strip().lower()]
    except KeyError:
        raise ValueError("a flag: true, false or nothing") from None


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or not value:
        raise ValueError("a JSON list of texts, or words with white space between them")
    return value


def _pairs(value: Any) -> dict[str, Any]:
    """Read a JSON object, or words ``k=v``; a value that is JSON is taken as such, else it is a text."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = json.loads(value)
        else:
            value = {name: _scalar(text) for name, text in (word.split("=", 1) for word in _list(value))}
    if not isinstance(value, dict) or not value:
        raise ValueError("a JSON object, or words k=v")
    return value


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rule_counts(value: Any) -> dict[str, int]:
    return {rule: _count(number) for rule, number in _pairs(value).items()}


def _rule_resources(value: Any) -> dict[str, dict[str, Any]]:
    """Read ``{"rule": {"mem_mb": 100}}``, or words ``rule:mem_mb=100``."""
    found: dict[str, dict[str, Any]] = {}
    for name, part in _pairs(value).items():
        rule, colon, resource = name.partition(":")
        if isinstance(part, dict):
            found.setdefault(name, {}).update(part)
        elif colon:
            found.setdefault(rule, {})[resource] = part
        else:
            raise ValueError("rule:resource=value")
    return found


def _triggers(value: Any) -> list[str]:
    known = {"code", "input", "mtime", "params", "software-env"}
    if set(words := _list(value)) - known:
        raise ValueError("some of " + ", ".join(sorted(known)))
    return words


def _parameters(*rows: tuple[str, str, str, Reader]) -> dict[str, Parameter]:
    return {name: Parameter(name=name, type=kind, default=default, read=read) for name, kind, default, read in rows}


#: What a run may ask of Snakemake (the names of its command line, https://snakemake.readthedocs.io/en/stable/executing/cli.html).
ALLOWED: Mapping[str, Parameter] = _parameters(
    ("cores", "int", "all", _cores),
    ("jobs", "int", "", _count),
    ("targets", "list", "", _list),
    ("config", "object", "", _pairs),
    ("configfiles", "list", "", _list),
    ("forceall", "boolean", "false", _flag),
    ("force", "boolean", "false", _flag),
    ("forcerun", "list", "", _list),
    ("until", "list", "", _list),
    ("omit-from", "list", "", _list),
    ("keep-going", "boolean", "false", _flag),
    ("rerun-incomplete", "boolean", "true", _flag),
    ("rerun-triggers", "list", "", _triggers),
    ("retries", "int", "0", _count_or_zero),
    ("latency-wait", "int", "1", _count_or_zero),
    ("dry-run", "boolean", "false", _flag),
    ("default-resources", "object", "", _pairs),
    ("resources", "object", "", _pairs),
    ("set-resources", "object", "", _rule_resources),
    ("set-threads", "object", "", _rule_counts),
    ("max-threads", "int", "", _count),
    ("notemp", "boolean", "false", _flag),
    ("printshellcmds", "boolean", "false", _flag),
    ("verbose", "boolean", "false", _flag),
    # Taken, because clients send them by habit, and without effect: every job has a container of its own.
    ("use-conda", "boolean", "false", _flag),
    ("use-singularity", "boolean", "false", _flag),
    ("use-apptainer", "boolean", "false", _flag),
)
WITHOUT_EFFECT = frozenset({"use-conda", "use-singularity", "use-apptainer"})
_SPELLINGS = {
    "c": "cores",
    "j": "jobs",
    "k": "keep-going",
    "n": "dry-run",
    "p": "printshellcmds",
    "F": "forceall",
    "f": "force",
    "R": "forcerun",
    "U": "until",
    "dryrun": "dry-run",
    "target": "targets",
    "configfile": "configfiles",
    "default-resource": "default-resources",
    "no-temp": "notemp",
    "nt": "notemp",
    "ri": "rerun-incomplete",
    "restart-times": "retries",
    "use-envmodules": "use-conda",
}


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their one name, with their values read.

    :raises InvalidRequest: an unknown name (the message lists the known ones), or a value that cannot be read.
    """
    return dict(_read_one(name, value) for name, value in given.items())


def _read_one(name: str, value: Any) -> tuple[str, Any]:
    field = f"workflow_engine_parameters.{name}"
    bare = name.lstrip("-").replace("_", "-")
    known = ALLOWED.get(_SPELLINGS.get(bare, bare))
    if known is None:
        raise InvalidRequest(
            f"unknown engine parameter {name!r} for snakemake",
            field=field,
            remedy="allowed are " + ", ".join(sorted(ALLOWED)),
        )
    try:
        return known.name, known.read(value)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"engine parameter {name!r} cannot be {value!r}: {error}", field=field) from error
