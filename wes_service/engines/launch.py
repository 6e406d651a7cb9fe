"""What the engines' ports share: the command that runs an engine's program, and how its outcome is read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from weft.errors import InvalidRequest
from weft.model import JsonObject, Run, Step
from weft.ports import EngineParameter
from wes_service.engines.parameters import Parameter

#: Where weft's packages are, before anything else of the same name (PyPI has another ``wes_service``).
PACKAGES = str(Path(__file__).resolve().parents[2])
#: Stands for an image where tasks run on the host and no image is used.
HOST_IMAGE = "host"
#: The key of ``backend_parameters`` that an executor may understand for a wall time in seconds.
TIME_LIMIT = "time_limit"
#: The key of ``backend_parameters`` that an executor may understand for a network.
NETWORK = "network"
#: An outcome that is larger than this was not written by the engine.
_LARGEST_OUTCOME = 64 << 20


def engine_step(
    child: str,
    run: Run,
    *,
    work: Path,
    outcome: Path,
    tes_url: str,
    token_file: Path,
    python: str = sys.executable,
    given: Mapping[str, str | None],
    apart: bool = False,
) -> Step:
    """Write the request beside ``outcome`` and return the command that runs it in ``work``.

    The request goes by a file, because parameters may be larger than an argument and may be secret.

    :param child: the module of the engine's program (``wes_service.engines.program.read_options``).
    :param given: more options of that program.
    :param apart: tasks do not see the run's folder, so each must name the files that it needs and makes.
    """
    request = outcome.with_name("request.json")
    request.write_text(json.dumps(_document(run)))
    all_given = {
        "--request": str(request),
        "--outcome": str(outcome),
        "--tes": tes_url,
        "--token-file": str(token_file),
        "--run-id": work.parent.name,
        **given,
    }
    options = [word for name, value in all_given.items() if value is not None for word in (name, value)]
    options += ["--apart"] if apart else []
    return Step(
        image=HOST_IMAGE,
        command=(python, "-m", child, *options),
        workdir=str(work),
        env={"PYTHONPATH": PACKAGES},
    )


def defaults(allowed: Mapping[str, Parameter]) -> tuple[EngineParameter, ...]:
    """Return what service-info says of the parameters that have a default of their own."""
    known = (parameter for parameter in allowed.values() if parameter.default)
    return tuple(EngineParameter(name=one.name, type=one.type, default_value=one.default) for one in known)


def refuse_apart(engine: str, apart: bool) -> None:
    """Refuse a run whose tasks would not see its folder, where the engine knows no other way for files.

    :raises InvalidRequest: ``apart``, the executor of tasks shares no file system with weft.
    """
    if apart:
        raise InvalidRequest(
            f"{engine} needs tasks that see the run's folder, and this executor shares no folder with weft",
            field="workflow_type",
            remedy="run Snakemake here, or send the run to a weft whose executor shares a file system",
        )


def read_outcome(outcome: Path) -> Any:
    """Return the document of an outcome; None where it cannot be what the engine wrote."""
    try:
        if outcome.is_symlink() or outcome.stat().st_size > _LARGEST_OUTCOME:
            return None
        return json.loads(outcome.read_bytes())
    except (OSError, ValueError):
        return None


def read_files(outcome: Path) -> list[str]:
    """Read ``{"files": [relative path, …]}``; what is not of that form was not written by the engine: no files."""
    document = read_outcome(outcome)
    files = document.get("files") if isinstance(document, dict) else None
    return [name for name in files if is_inside(name)] if isinstance(files, list) else []


def is_inside(name: object) -> bool:
    """Tell whether a name in an outcome stays below the run's folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _document(run: Run) -> JsonObject:
    return {
        "workflow_url": run.workflow_url,
        "workflow_params": run.workflow_params,
        "workflow_engine_parameters": dict(run.workflow_engine_parameters),
    }
