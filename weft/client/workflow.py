"""Tell what a workflow file is: its language, the version to ask for, and the file in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from weft.client.connection import JsonObject
from weft.client.errors import BadRequest

#: The names of each language that servers use, and the version to ask for where a server does not say.
LANGUAGES: dict[str, tuple[frozenset[str], str]] = {
    "SMK": (frozenset({"smk", "snakemake"}), "9"),
    "CWL": (frozenset({"cwl"}), "v1.2"),
    "WDL": (frozenset({"wdl"}), "1.0"),
    "NFL": (frozenset({"nfl", "nextflow"}), "24"),
}
SUFFIXES = {".smk": "SMK", ".cwl": "CWL", ".wdl": "WDL", ".nf": "NFL"}
#: Where a workflow's main file lies in its folder, in the order of looking.
MAIN_FILES = ("Snakefile", "workflow/Snakefile", "main.nf", "main.cwl", "main.wdl", "workflow.cwl", "workflow.wdl")


def main_file(path: Path) -> Path:
    """Return ``path``, or the main file in it when it is a folder.

    :raises BadRequest: nothing there.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise BadRequest(f"{path} does not exist")
    for name in MAIN_FILES:
        if (path / name).is_file():
            return path / name
    raise BadRequest(f"{path} has no workflow in it", remedy=f"name the file itself, or call it {MAIN_FILES[0]}")


def folder_of(file: Path) -> Path:
    """Return the folder that travels with ``file``: Snakemake's layout has it above ``workflow/Snakefile``."""
    parent = file.absolute().parent
    return parent.parent if file.name == "Snakefile" and parent.name == "workflow" else parent


def language_of(name: str) -> str:
    """Guess the language from a file's name or a URL.

    :raises BadRequest: it cannot be told.
    """
    file = Path(urlsplit(name).path or name)
    if file.name == "Snakefile":
        return "SMK"
    try:
        return SUFFIXES[file.suffix.lower()]
    except KeyError:
        raise BadRequest(f"cannot tell the language of {file.name}", remedy="say it with --type") from None


def type_and_version(language: str, wanted_version: str | None, info: JsonObject) -> tuple[str, str]:
    """Choose the type in the server's own spelling, and the version: the one wanted, or its newest."""
    names, fallback = LANGUAGES.get(language.upper(), (frozenset({language.lower()}), "1"))
    for known, (spellings, version) in LANGUAGES.items():
        if language.lower() in spellings | {known.lower()}:
            names, fallback = spellings, version
    offered = info.get("workflow_type_versions")
    for kind, versions in (offered if isinstance(offered, Mapping) else {}).items():
        if kind.lower() in names:
            listed = versions.get("workflow_type_version", []) if isinstance(versions, Mapping) else []
            return kind, wanted_version or max(listed, key=_numbers, default=fallback)
    return language, wanted_version or fallback


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
