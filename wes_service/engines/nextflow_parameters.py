"""What a run may ask of Nextflow by its engine parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from wes_service.engines.parameters import OUTPUT_URL, Parameter, anything, count, flag, parameters, read_by, texts, url


def _name(value: Any) -> str:
    """Read one word that cannot be taken for an option."""
    text = str(value)
    if not text or text.startswith("-") or text.split() != [text]:
        raise ValueError("one word")
    return text


def _files(value: Any) -> list[str]:
    """Read names of files below the run's folder."""
    names = texts(value)
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name.startswith("-"):
            raise ValueError(f"files below the run's folder, which {name!r} is not")
    return names


#: The names of Nextflow's command line, https://www.nextflow.io/docs/latest/reference/cli.html, and of others'.
ALLOWED: Mapping[str, Parameter] = parameters(
    ("jobs", "int", "", count),
    ("profile", "string", "", _name),
    ("entry", "string", "", _name),
    ("config", "list", "", _files),
    ("stub-run", "boolean", "false", flag),
    (OUTPUT_URL, "string", "", url),
    # Taken, because clients send them by habit, and without effect: weft decides where files and tasks go.
    ("ansi-log", "boolean", "false", anything),
    ("executor", "string", "", anything),
    ("offline", "boolean", "true", anything),
    ("work-dir", "string", "", anything),
)
WITHOUT_EFFECT = frozenset({"ansi-log", "executor", "offline", "work-dir"})
_SPELLINGS = {"queue-size": "jobs", "qs": "jobs", "stub": "stub-run", "c": "config", "w": "work-dir"}


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their one name, with their values read.

    :raises InvalidRequest: an unknown name (the message lists the known ones), or a value that cannot be read.
    """
    return read_by(ALLOWED, _SPELLINGS, given, "Nextflow")
