"""What a run may ask of Snakemake by its engine parameters. Pure: nothing of Snakemake is imported here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wes_service.engines.parameters import OUTPUT_URL, Parameter, count, flag, parameters, read_by, texts, url


def _count_or_zero(value: Any) -> int:
    if isinstance(value, bool) or (number := int(str(value))) < 0:
        raise ValueError("a whole number")
    return number


def _cores(value: Any) -> int | None:
    return None if str(value).strip() == "all" else count(value)


def _pairs(value: Any) -> dict[str, Any]:
    """Read a JSON object, or words ``k=v``; a value that is JSON is taken as such, else it is a text."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = json.loads(value)
        else:
            value = {name: _scalar(text) for name, text in (word.split("=", 1) for word in texts(value))}
    if not isinstance(value, dict) or not value:
        raise ValueError("a JSON object, or words k=v")
    return value


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rule_counts(value: Any) -> dict[str, int]:
    return {rule: count(number) for rule, number in _pairs(value).items()}


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
    if set(words := texts(value)) - known:
        raise ValueError("some of " + ", ".join(sorted(known)))
    return words


#: What a run may ask of Snakemake (the names of its command line, https://snakemake.readthedocs.io/en/stable/executing/cli.html).
ALLOWED: Mapping[str, Parameter] = parameters(
    ("cores", "int", "all", _cores),
    ("jobs", "int", "", count),
    ("targets", "list", "", texts),
    ("config", "object", "", _pairs),
    ("configfiles", "list", "", texts),
    ("forceall", "boolean", "false", flag),
    ("force", "boolean", "false", flag),
    ("forcerun", "list", "", texts),
    ("until", "list", "", texts),
    ("omit-from", "list", "", texts),
    ("keep-going", "boolean", "false", flag),
    ("rerun-incomplete", "boolean", "true", flag),
    ("rerun-triggers", "list", "", _triggers),
    ("retries", "int", "0", _count_or_zero),
    ("latency-wait", "int", "1", _count_or_zero),
    ("dry-run", "boolean", "false", flag),
    ("default-resources", "object", "", _pairs),
    ("resources", "object", "", _pairs),
    ("set-resources", "object", "", _rule_resources),
    ("set-threads", "object", "", _rule_counts),
    ("max-threads", "int", "", count),
    ("notemp", "boolean", "false", flag),
    ("printshellcmds", "boolean", "false", flag),
    ("verbose", "boolean", "false", flag),
    ("resume-from", "string", "", str),
    (OUTPUT_URL, "string", "", url),
    # Taken, because clients send them by habit, and without effect: every job has a container of its own.
    ("use-conda", "boolean", "false", flag),
    ("use-singularity", "boolean", "false", flag),
    ("use-apptainer", "boolean", "false", flag),
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
    return read_by(ALLOWED, _SPELLINGS, given, "snakemake")
