"""Translate what Nextflow hands to a cluster into the words of a TES task. Pure.

Nextflow writes one wrapper script a task, ``.command.run``, with the options for ``sbatch`` in its head
(https://www.nextflow.io/docs/latest/executor.html#slurm). What those options have no word for (the container, the
disk, the accelerators) weft's own configuration puts into one more option, ``--weft``, as base64 of JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wes_service.engines.tes_client import JsonObject

WRAPPER = ".command.run"
#: The wrapper gives a process's stderr on its stdout, and its stdout on its stderr.
LAUNCHER = 'exec bash "$0" 3>&1 1>&2 2>&3'
#: Every directive that is TES's business and not Slurm's.
CONFIG = """\
process.executor = 'slurm'
process.clusterOptions = {
    def asked = [
        name: task.process, tag: task.tag?.toString(), image: task.container?.toString(),
        disk: task.disk?.toBytes(), gpus: task.accelerator?.request
    ]
    '--weft=' + groovy.json.JsonOutput.toJson(asked).bytes.encodeBase64().toString()
}
process.stageInMode = 'symlink'
executor.name = 'slurm'
executor.queueSize = %(jobs)d
executor.pollInterval = '100 ms'
executor.queueStatInterval = '1 sec'
executor.exitReadTimeout = '10 sec'
docker.enabled = false
podman.enabled = false
singularity.enabled = false
apptainer.enabled = false
charliecloud.enabled = false
shifter.enabled = false
sarus.enabled = false
conda.enabled = false
"""
_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class CannotRun(Exception):
    """A task that can never be sent; the text says why."""


def options_of(wrapper: Iterable[str]) -> dict[str, str]:
    """Read the ``#SBATCH`` lines at the head of a wrapper script: option without its dashes -> value."""
    found: dict[str, str] = {}
    for line in wrapper:
        if line.startswith("#SBATCH "):
            name, _, value = line.removeprefix("#SBATCH ").strip().replace("=", " ", 1).partition(" ")
            found[name.lstrip("-")] = value.strip()
        elif not line.startswith("#"):
            break
    return found


def task_of(
    options: Mapping[str, str],
    folder: Path,
    work: Path,
    *,
    default_image: str | None,
    tags: Mapping[str, str],
    time_limit_parameter: str | None = None,
) -> JsonObject:
    """Give the TES task that runs the wrapper in ``folder``, which lies below the run's folder ``work``.

    :raises CannotRun: no image, or a process that replaces the option ``--weft``.
    """
    asked = _asked(options)
    name = f"{asked.get('name') or 'task'}" + (f" ({asked['tag']})" if asked.get("tag") else "")
    image = asked.get("image") or default_image
    if not image:
        raise CannotRun(
            f"process {name} names no container, and this site sets no default image (engine.default_image)"
        )
    return {
        "name": name,
        "tags": {**tags, "process": str(asked.get("name") or "")},
        "resources": _resources(options, asked, time_limit_parameter),
        "inputs": [{"type": "DIRECTORY", "url": work.as_uri(), "path": str(work)}],
        "executors": [
            {
                "image": str(image).removeprefix("docker://"),
                "command": ["bash", "-c", LAUNCHER, str(folder / WRAPPER)],
                "workdir": str(folder),
                "stdout": str(folder / ".command.log"),
            }
        ],
    }


def _asked(options: Mapping[str, str]) -> dict[str, Any]:
    try:
        asked = json.loads(base64.b64decode(options["weft"], validate=True))
    except (KeyError, ValueError):
        process = options.get("J", "task").removeprefix("nf-")
        raise CannotRun(f"process {process} sets clusterOptions, which weft needs to learn its container") from None
    return asked if isinstance(asked, dict) else {}


def _resources(options: Mapping[str, str], asked: Mapping[str, Any], time_limit_parameter: str | None) -> JsonObject:
    resources: JsonObject = {"cpu_cores": int(options.get("c", "1"))}
    if "mem" in options:
        resources["ram_gb"] = bytes_of(options["mem"]) / 10**9
    if asked.get("disk"):
        resources["disk_gb"] = int(asked["disk"]) / 10**9
    backend: dict[str, str] = {}
    if time_limit_parameter and "t" in options:
        backend[time_limit_parameter] = str(seconds_of(options["t"]))
    if asked.get("gpus"):
        backend["gpus"] = str(asked["gpus"])
    return {**resources, "backend_parameters": backend} if backend else resources


def bytes_of(memory: str) -> int:
    """Read ``--mem`` (sbatch(1): a number of MiB, or with the suffix K, M, G or T)."""
    unit = memory[-1:].upper()
    return int(memory[:-1]) * _SIZES[unit] if unit in _SIZES else int(memory) * _SIZES["M"]


def seconds_of(time: str) -> int:
    """Read ``--time`` as Nextflow writes it: ``[days-]hours:minutes:seconds``."""
    days, _, clock = time.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
