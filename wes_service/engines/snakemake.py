"""Snakemake as an engine of WES: what it takes, and the command that runs it. Snakemake is not imported here."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import JsonObject, Run, Step
from weft.ports import Capabilities, EngineInfo, EngineParameter
from wes_service.engines.snakemake_parameters import ALLOWED, read_parameters

#: Where weft's packages are, before anything else of the same name (PyPI has another ``wes_service``).
PACKAGES = str(Path(__file__).resolve().parents[2])
#: The module that the warm host preloads; see ``executors.engine``.
CHILD = "wes_service.engines.snakemake_child"
#: Stands for an image where tasks run on the host and no image is used.
HOST_IMAGE = "host"
#: The key of ``backend_parameters`` that an executor may understand for a wall time in seconds.
TIME_LIMIT = "time_limit"
#: An outcome that is larger than this was not written by the engine.
_LARGEST_OUTCOME = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SnakemakeEngine:
    """The ``weft.ports.Engine`` for Snakefiles."""

    version: str
    default_image: str | None = None
    weft_image: str | None = None
    time_limit_parameter: str | None = None
    python: str = sys.executable

    @property
    def info(self) -> EngineInfo:
        """Name, version, workflow types and the parameters with a default of their own."""
        return EngineInfo(
            name="snakemake",
            version=self.version,
            workflow_types={"SMK": ("1.0", *_versions(self.version))},
            aliases={"smk": "SMK", "snakemake": "SMK"},
            parameters=tuple(
                EngineParameter(name=known.name, type=known.type, default_value=known.default)
                for known in ALLOWED.values()
                if known.default
            ),
        )

    def validate(self, run: Run) -> None:
        """Refuse engine parameters that are not on the allow-list, and files outside of the run's folder."""
        parameters = read_parameters(run.workflow_engine_parameters)
        for name in parameters.get("configfiles", ()):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise InvalidRequest(
                    f"configfiles: {name!r} is not below the run's folder",
                    field="workflow_engine_parameters.configfiles",
                )

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        """Write the request beside ``outcome`` and return the command that runs it in ``work``.

        The request goes by a file, because parameters may be larger than an argument and may be secret.
        """
        request = outcome.with_name("request.json")
        request.write_text(json.dumps(_document(run)))
        given = {
            "--request": str(request),
            "--outcome": str(outcome),
            "--tes": tes_url,
            "--token-file": str(token_file),
            "--run-id": work.parent.name,
            "--default-image": self.default_image,
            "--weft-image": self.weft_image,
            "--python": self.python if self.weft_image == HOST_IMAGE else "python3",
            "--time-limit-parameter": self.time_limit_parameter,
        }
        options = [word for name, value in given.items() if value is not None for word in (name, value)]
        return Step(
            image=HOST_IMAGE,
            command=(self.python, "-m", CHILD, *options),
            workdir=str(work),
            env={"PYTHONPATH": PACKAGES},
        )

    def outputs(self, outcome: Path) -> JsonObject:
        """Read ``{"files": [relative path, …]}``; what is not of that form was not written by the engine: no files."""
        try:
            if outcome.is_symlink() or outcome.stat().st_size > _LARGEST_OUTCOME:
                return {"files": []}
            document = json.loads(outcome.read_bytes())
        except (OSError, ValueError):
            return {"files": []}
        files = document.get("files") if isinstance(document, dict) else None
        return {"files": [name for name in files if _is_inside(name)] if isinstance(files, list) else []}


def create(settings: Settings, capabilities: Capabilities | None = None) -> SnakemakeEngine:
    """Build the engine for tasks that go to an executor of these ``capabilities`` (one that uses images if absent).

    :raises ModuleNotFoundError: Snakemake is not installed.
    """
    version = importlib.metadata.version("snakemake")
    on_host = capabilities is not None and not capabilities.uses_image
    takes_time = capabilities is not None and TIME_LIMIT in capabilities.backend_parameters
    return SnakemakeEngine(
        version=version,
        default_image=settings.engine.default_image or (HOST_IMAGE if on_host else None),
        weft_image=HOST_IMAGE if on_host else settings.engine.weft_image,
        time_limit_parameter=TIME_LIMIT if takes_time else None,
    )


def _versions(version: str) -> tuple[str, ...]:
    """Give the spellings by which clients ask for this version: 9.27.1 is also 9.27 and 9."""
    parts = version.split(".")
    return tuple(dict.fromkeys(".".join(parts[:count]) for count in (1, 2, len(parts))))


def _document(run: Run) -> dict[str, Any]:
    return {
        "workflow_url": run.workflow_url,
        "workflow_params": run.workflow_params,
        "workflow_engine_parameters": dict(run.workflow_engine_parameters),
    }


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
