"""Turn what a task asks for into options of ``sbatch``, within what the site allows. Pure.

Every value becomes one word of an argv list (https://slurm.schedmd.com/sbatch.html).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from weft.errors import ExecutorRefused
from weft.model import Resources
from weft.sections.backends import SlurmSettings

#: ``backend_parameters`` that a site may let tasks choose, and the option of sbatch that each becomes.
CHOICES: Mapping[str, str] = {
    "account": "account",
    "constraint": "constraint",
    "exclusive": "exclusive",
    "licenses": "licenses",
    "nice": "nice",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
}
ANY = "*"
TIME, GPUS, TIME_LIMIT = "time", "gpus", "time_limit"
_MINUTE, _MIB = 60, 1 << 20
_VALUE = re.compile(r"[\w.,:&|@*+=/()\[\]-]{1,200}", re.ASCII)
_GPUS = re.compile(r"(?:(?P<type>[A-Za-z][\w.-]*):)?(?P<count>[1-9]\d{0,3})", re.ASCII)


def known_parameters(settings: SlurmSettings) -> frozenset[str]:
    """Return the keys of ``backend_parameters`` that tasks may use here."""
    gpus = {GPUS} if settings.max_gpus else set()
    return frozenset({TIME, *gpus, *(name.lower() for name in settings.allow if name.lower() in CHOICES)})


def options(resources: Resources, settings: SlurmSettings) -> list[str]:
    """Return the options that a task with these resources gets, the site's own first.

    :raises ExecutorRefused: more than the site allows, or a value that it does not list.
    """
    parameters = {name.lower(): value for name, value in resources.backend_parameters.items()}
    return [
        *settings.options,
        *("--nodes=1", "--ntasks=1", f"--cpus-per-task={_cpus(resources, settings)}"),
        *_memory(resources, settings),
        *_time(parameters, settings),
        *_tmp(resources, settings),
        *_gpus(parameters, settings),
        *_chosen(parameters, settings),
    ]


def minutes_of(text: str) -> int:
    """Read a time limit as Slurm writes it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S; rounded up to minutes.

    :raises ExecutorRefused: it is none of these.
    """
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isascii() and part.isdigit() for part in (*parts, days if dash else "0")) or len(parts) > 3:
        raise ExecutorRefused(f"backend_parameters.time: {text!r} is not a time limit", remedy="minutes, or D-H:M:S")
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise ExecutorRefused(f"backend_parameters.time: {text!r} is no time at all")
    return -(-total // _MINUTE)


def _cpus(resources: Resources, settings: SlurmSettings) -> int:
    cpus = resources.cpu_cores or 1
    if settings.max_cpus is not None and cpus > settings.max_cpus:
        raise ExecutorRefused(f"cpu_cores: {cpus} asked for, but this site allows {settings.max_cpus}")
    return cpus


def _memory(resources: Resources, settings: SlurmSettings) -> list[str]:
    wanted = resources.ram_gb or settings.default_ram_gb
    if wanted is None:
        return []
    if settings.max_ram_gb is not None and wanted > settings.max_ram_gb:
        raise ExecutorRefused(f"ram_gb: {wanted:g} asked for, but this site allows {settings.max_ram_gb:g}")
    return [f"--mem={max(1, -int(-wanted * 10**9 // _MIB))}M"]


def _time(parameters: Mapping[str, str], settings: SlurmSettings) -> list[str]:
    """Give Slurm the time limit, so that its backfill can use it; weft's own comes first, being counted in seconds."""
    if TIME in parameters:
        minutes: int | None = minutes_of(parameters[TIME])
    elif TIME_LIMIT in parameters:
        minutes = -int(-float(parameters[TIME_LIMIT]) // _MINUTE) + 1
    else:
        minutes = settings.default_minutes or settings.max_minutes
    if minutes is None:
        return []
    if settings.max_minutes is not None and minutes > settings.max_minutes:
        raise ExecutorRefused(f"time: {minutes} minutes asked for, but this site allows {settings.max_minutes}")
    return [f"--time={minutes}"]


def _tmp(resources: Resources, settings: SlurmSettings) -> list[str]:
    if not settings.request_tmp or resources.disk_bytes is None:
        return []
    return [f"--tmp={-(-resources.disk_bytes // _MIB)}M"]


def _gpus(parameters: Mapping[str, str], settings: SlurmSettings) -> list[str]:
    asked = parameters.get(GPUS)
    if asked is None:
        return []
    found = _GPUS.fullmatch(asked)
    if found is None:
        raise ExecutorRefused(f"backend_parameters.gpus: {asked!r} is neither a number nor TYPE:NUMBER")
    if int(found["count"]) > settings.max_gpus:
        raise ExecutorRefused(f"gpus: {found['count']} asked for, but this site allows {settings.max_gpus}")
    kind = f"{found['type']}:" if found["type"] else ""
    return [f"--gres=gpu:{kind}{found['count']}"]


def _chosen(parameters: Mapping[str, str], settings: SlurmSettings) -> list[str]:
    words = []
    allowed = {name.lower(): values for name, values in settings.allow.items()}
    for name, option in CHOICES.items():
        if name not in parameters or name not in allowed:
            continue
        value = parameters[name]
        if value not in allowed[name] and (ANY not in allowed[name] or not _VALUE.fullmatch(value)):
            listed = ", ".join(allowed[name])
            raise ExecutorRefused(f"backend_parameters.{name}: {value!r} is not allowed here; allowed: {listed}")
        words.append(f"--{option}={value}")
    return words


def limits(asked: list[str]) -> dict[str, str]:
    """Say in words which limits these options set, for the day that a job exceeds them."""
    found = dict(word.removeprefix("--").partition("=")[::2] for word in asked)
    words = {}
    if "mem" in found:
        words["memory"] = found["mem"].replace("M", " MiB")
    if "time" in found:
        words["time"] = f"{found['time']} min"
    return words


def identity(uid: int, gid: int) -> list[str]:
    """Return the options by which root submits for an account; nothing for one's own jobs."""
    return [f"--uid={uid}", f"--gid={gid}"] if os.geteuid() == 0 else []


def python(settings: SlurmSettings) -> str:
    """Return the Python that the nodes start."""
    return sys.executable if settings.python is None else str(settings.python)
