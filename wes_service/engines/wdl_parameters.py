"""What a run may ask of miniwdl by its engine parameters. Pure: nothing of miniwdl is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wes_service.engines.parameters import OUTPUT_URL, Parameter, anything, count, flag, parameters, read_by, url

#: The names of miniwdl's command line, https://miniwdl.readthedocs.io/en/latest/runner_cli.html, and of others'.
ALLOWED: Mapping[str, Parameter] = parameters(
    ("jobs", "int", "", count),
    ("task", "string", "", str),
    ("no-quant-check", "boolean", "false", flag),
    ("continue-on-failure", "boolean", "false", flag),
    ("verbose", "boolean", "false", flag),
    ("resume-from", "string", "", str),
    (OUTPUT_URL, "string", "", url),
    # Taken, because clients send them by habit, and without effect: weft decides where files and tasks go.
    ("outdir", "string", "", anything),
    ("quiet", "boolean", "false", anything),
    ("log-level", "string", "", anything),
)
WITHOUT_EFFECT = frozenset({"outdir", "quiet", "log-level"})
_SPELLINGS = {"logLevel": "log-level", "max-tasks": "jobs", "maxJobs": "jobs", "dir": "outdir", "d": "outdir"}


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their one name, with their values read.

    :raises InvalidRequest: an unknown name (the message lists the known ones), or a value that cannot be read.
    """
    return read_by(ALLOWED, _SPELLINGS, given, "miniwdl")
