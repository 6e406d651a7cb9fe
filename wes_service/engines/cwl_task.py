"""Translate one CWL CommandLineTool job into the words of a TES task. Pure.

Sizes in CWL are MiB (2**20 bytes), in TES GB (10**9 bytes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wes_service.engines.fetch import is_remote
from wes_service.engines.tes_client import JsonObject

_MIB_IN_GB = 2**20 / 10**9


class CannotRun(Exception):
    """A tool that can never become a task; the text says why."""


def image_of(requirement: Mapping[str, Any] | None, default: str | None, tool: str) -> str:
    """Return the image that a ``DockerRequirement`` names, else the site's default one.

    :raises CannotRun: there is none, or it would have to be built or loaded.
    """
    if requirement is not None:
        image = requirement.get("dockerPull") or requirement.get("dockerImageId")
        if image:
            return str(image)
        ways = ", ".join(name for name in ("dockerFile", "dockerLoad", "dockerImport") if name in requirement)
        raise CannotRun(
            f"{tool}: DockerRequirement: {ways or 'an empty one'} is not supported; name a dockerPull image"
        )
    if default is None:
        raise CannotRun(f"{tool} has no DockerRequirement, and this site sets no default image (engine.default_image)")
    return default


def resources_of(asked: Mapping[str, Any] | None, found: Mapping[str, float], most_ram: float | None) -> JsonObject:
    """Translate ``ResourceRequirement``: cores always, memory and disk where the tool says something of them.

    :param asked: the requirement as it stands in the tool.
    :param found: its values for this job, as cwltool evaluated them.
    :param most_ram: ``ramMax`` for this job, in MiB: what weft limits a task to.
    """
    resources: JsonObject = {"cpu_cores": max(1, math.ceil(found["cores"]))}
    names = set(asked or ())
    if names & {"ramMin", "ramMax"}:
        resources["ram_gb"] = max(found["ram"], most_ram or 0) * _MIB_IN_GB
    if names & {"tmpdirMin", "tmpdirMax", "outdirMin", "outdirMax"}:
        resources["disk_gb"] = (found["tmpdirSize"] + found["outdirSize"]) * _MIB_IN_GB
    return resources


def status_of(code: int, success: Sequence[int], temporary: Sequence[int], permanent: Sequence[int]) -> str:
    """Return what an exit code means to a tool (``successCodes`` and the like)."""
    for status, codes in (("success", success), ("temporaryFail", temporary), ("permanentFail", permanent)):
        if code in codes:
            return status
    return "permanentFail" if code else "success"


def with_relative_paths(value: Any, work: str) -> Any:
    """Copy an output object with the files' locations relative to ``work``, and nothing else that is a path."""
    if isinstance(value, list):
        return [with_relative_paths(item, work) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class") not in ("File", "Directory"):
        return {key: with_relative_paths(item, work) for key, item in value.items()}
    kept = {
        key: with_relative_paths(item, work)
        for key, item in value.items()
        if key not in ("location", "path", "dirname") and ":" not in key
    }
    path = value.get("path")
    return {**kept, "location": str(path).removeprefix(f"{work}/")} if path else kept


def locations(value: Any) -> list[str]:
    """Return the locations of all files and folders in an output object; a folder stands for what is in it."""
    if isinstance(value, list):
        return [name for item in value for name in locations(item)]
    if not isinstance(value, dict):
        return []
    if value.get("class") in ("File", "Directory") and "location" in value:
        return [str(value["location"]), *locations(value.get("secondaryFiles"))]
    return [name for item in value.values() for name in locations(item)]


def remote_locations(value: Any) -> list[str]:
    """Return the locations of the files in a job object that are URLs of other places, in order, once each."""
    if isinstance(value, list):
        found = [url for item in value for url in remote_locations(item)]
    elif isinstance(value, dict):
        found = [url for item in value.values() for url in remote_locations(item)]
        location = value.get("location") or value.get("path")
        if value.get("class") in ("File", "Directory") and is_remote(location):
            found.insert(0, str(location))
    else:
        found = []
    return list(dict.fromkeys(found))


def with_fetched(value: Any, places: Mapping[str, str]) -> Any:
    """Copy a job object with the remote locations of ``places`` replaced by the paths where the files are now."""
    if isinstance(value, list):
        return [with_fetched(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {key: with_fetched(item, places) for key, item in value.items()}
    location = str(value.get("location") or value.get("path"))
    if value.get("class") in ("File", "Directory") and location in places:
        copy.pop("path", None)
        copy["location"] = places[location]
    return copy
