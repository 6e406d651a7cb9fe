"""The files that one Snakemake job needs and makes, as TES inputs and outputs, where tasks share no folder.

Snakemake makes what ``touch()`` asks for by itself, and a benchmark is written by the engine; neither is an output.
A log may be missing, so it is named by a pattern that only it matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wes_service.engines.snakemake_job import CannotRun
from wes_service.engines.tes_client import JsonObject


def files_of(job: Any, work: Path, here: Path, script: Path) -> JsonObject:
    """Return ``inputs``, ``outputs`` and ``volumes`` of a job's task.

    :param here: what the job's paths are relative to, at or below the run's folder ``work``.
    :param script: the file of a command that is too long for an argument, if there is one.
    :raises CannotRun: a file outside of the run's folder, or a job in a shadow folder.
    """
    if job.shadow_dir:
        raise CannotRun(f"rule {job.rule.name}: shadow folders need a file system that is shared with the executor")
    needed = [here / str(path) for path in job.input]
    if script.exists():
        needed.append(script)
    made = [(here / str(path), bool(path.is_directory)) for path in job.output if not _is_flagged(path, "touch")]
    logs = [here / str(path) for path in job.log]
    for path in (*needed, *(path for path, _ in made), *logs):
        if not path.is_relative_to(work):
            raise CannotRun(f"rule {job.rule.name}: {path} is outside of the run's folder, which its task cannot see")
    return {
        "inputs": [_described(path, path.is_dir()) for path in _once(needed)],
        "outputs": [*(_described(path, is_folder) for path, is_folder in made), *map(_if_there, logs)],
        "volumes": [str(work)],
    }


def _is_flagged(path: Any, flag: str) -> bool:
    return flag in (getattr(path, "flags", None) or {})


def _once(paths: Iterable[Path]) -> list[Path]:
    return list(dict.fromkeys(paths))


def _described(path: Path, is_folder: bool) -> JsonObject:
    return {"type": "DIRECTORY" if is_folder else "FILE", "url": path.as_uri(), "path": str(path)}


def _if_there(path: Path) -> JsonObject:
    folder = str(path.parent)
    first, rest = path.name[0], path.name[1:]
    pattern = f"{_escaped(folder)}/[{first}]{_escaped(rest)}" if first.isalnum() else f"{_escaped(str(path))}*"
    return {"type": "FILE", "url": path.parent.as_uri(), "path": pattern, "path_prefix": folder}


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
