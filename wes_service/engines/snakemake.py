"""Snakemake as an engine of WES: what it takes, and the command that runs it. Snakemake is not imported here."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import JsonObject, Run, Step
from weft.ports import Capabilities, EngineInfo
from wes_service.engines.launch import HOST_IMAGE, TIME_LIMIT, defaults, engine_step, read_files
from wes_service.engines.snakemake_parameters import ALLOWED, read_parameters

#: The module that the warm host preloads; see ``executors.engine``.
CHILD = "wes_service.engines.snakemake_child"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnakemakeEngine:
    """The ``weft.ports.Engine`` for Snakefiles."""

    version: str
    default_image: str | None = None
    weft_image: str | None = None
    time_limit_parameter: str | None = None
    #: Tasks do not see the run's folder.
    apart: bool = False
    python: str = sys.executable

    @property
    def info(self) -> EngineInfo:
        """Name, version, workflow types and the parameters with a default of their own."""
        return EngineInfo(
            name="snakemake",
            version=self.version,
            workflow_types={"SMK": ("1.0", *_versions(self.version))},
            aliases={"smk": "SMK", "snakemake": "SMK"},
            parameters=defaults(ALLOWED),
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
        """Write the request beside ``outcome`` and return the command that runs it in ``work``."""
        return engine_step(
            CHILD,
            run,
            work=work,
            outcome=outcome,
            tes_url=tes_url,
            token_file=token_file,
            python=self.python,
            apart=self.apart,
            given={
                "--default-image": self.default_image,
                "--weft-image": self.weft_image,
                "--python": self.python if self.weft_image == HOST_IMAGE else "python3",
                "--time-limit-parameter": self.time_limit_parameter,
            },
        )

    def outputs(self, outcome: Path) -> JsonObject:
        """Read ``{"files": [relative path, …]}``: the files of the workflow's targets."""
        return {"files": read_files(outcome)}


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
        apart=capabilities is not None and not capabilities.shared_filesystem,
    )


def _versions(version: str) -> tuple[str, ...]:
    """Give the spellings by which clients ask for this version: 9.27.1 is also 9.27 and 9."""
    parts = version.split(".")
    return tuple(dict.fromkeys(".".join(parts[:count]) for count in (1, 2, len(parts))))
