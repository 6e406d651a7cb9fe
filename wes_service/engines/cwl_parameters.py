"""What a run may ask of cwltool by its engine parameters. Pure: nothing of cwltool is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wes_service.engines.parameters import (
    OUTPUT_URL,
    Parameter,
    anything,
    choice,
    count,
    flag,
    parameters,
    read_by,
    texts,
    url,
)

#: The names of cwltool's command line, https://cwltool.readthedocs.io/en/latest/cli.html, and of Toil's.
ALLOWED: Mapping[str, Parameter] = parameters(
    ("jobs", "int", "", count),
    ("on-error", "string", "stop", choice("stop", "continue")),
    ("target", "list", "", texts),
    ("eval-timeout", "int", "60", count),
    ("non-strict", "boolean", "false", flag),
    ("enable-ext", "boolean", "false", flag),
    ("relax-path-checks", "boolean", "false", flag),
    ("no-compute-checksum", "boolean", "false", flag),
    ("debug", "boolean", "false", flag),
    ("quiet", "boolean", "false", flag),
    ("resume-from", "string", "", str),
    (OUTPUT_URL, "string", "", url),
    # Taken, because clients send them by habit, and without effect: weft decides where files and tasks go.
    ("outdir", "string", "", anything),
    ("parallel", "boolean", "false", anything),
    ("log-level", "string", "", anything),
)
WITHOUT_EFFECT = frozenset({"outdir", "parallel", "log-level"})
_SPELLINGS = {"logLevel": "log-level", "log-Level": "log-level", "max-jobs": "jobs", "maxJobs": "jobs", "t": "target"}


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their one name, with their values read.

    :raises InvalidRequest: an unknown name (the message lists the known ones), or a value that cannot be read.
    """
    return read_by(ALLOWED, _SPELLINGS, given, "cwltool")


def command_line(read: Mapping[str, Any]) -> list[str]:
    """Translate parameters that were read to cwltool's arguments."""
    words = []
    for name in ("on-error", "eval-timeout"):
        if name in read:
            words += [f"--{name}", str(read[name])]
    for target in read.get("target", ()):
        words += ["--target", target]
    flags = ("non-strict", "enable-ext", "relax-path-checks", "no-compute-checksum", "debug", "quiet")
    return words + [f"--{name}" for name in flags if read.get(name)]
