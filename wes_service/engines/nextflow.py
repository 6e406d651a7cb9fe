"""Nextflow as an engine of WES: what it takes, and the command that runs it. Nextflow is a program of its own."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from weft.config import Settings
from weft.model import JsonObject, Run, Step
from weft.ports import Capabilities, EngineInfo
from wes_service.engines.launch import HOST_IMAGE, TIME_LIMIT, defaults, engine_step, read_files, refuse_apart
from wes_service.engines.nextflow_parameters import ALLOWED, read_parameters

#: The module that the warm host preloads; see ``executors.engine``.
CHILD = "wes_service.engines.nextflow_child"
#: How the launcher names its own version: ``NXF_VER=${NXF_VER:-'23.10.1'}``.
_VERSION = re.compile(rb"NXF_VER=[\"']?\$\{NXF_VER:-[\"']?([0-9][0-9A-Za-z.-]*)")
_LAUNCHER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NextflowEngine:
    """The ``weft.ports.Engine`` for Nextflow scripts."""

    version: str
    program: Path
    home: Path | None = None
    default_image: str | None = None
    #: Tasks do not see the run\'s folder.
    apart: bool = False
    time_limit_parameter: str | None = None
    python: str = sys.executable

    @property
    def info(self) -> EngineInfo:
        """Name, version, workflow types and the parameters with a default of their own."""
        return EngineInfo(
            name="nextflow",
            version=self.version,
            workflow_types={"NFL": ("DSL2", self.version)},
            aliases={"nfl": "NFL", "nextflow": "NFL"},
            parameters=defaults(ALLOWED),
        )

    def validate(self, run: Run) -> None:
        """Refuse engine parameters that are not on the allow-list."""
        read_parameters(run.workflow_engine_parameters)

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        """Write the request beside ``outcome`` and return the command that runs it in ``work``.

        :raises InvalidRequest: tasks do not see the run's folder.
        """
        refuse_apart("Nextflow", self.apart)
        return engine_step(
            CHILD,
            run,
            work=work,
            outcome=outcome,
            tes_url=tes_url,
            token_file=token_file,
            python=self.python,
            given={
                "--program": str(self.program),
                "--home": None if self.home is None else str(self.home),
                "--default-image": self.default_image,
                "--time-limit-parameter": self.time_limit_parameter,
            },
        )

    def outputs(self, outcome: Path) -> JsonObject:
        """Read ``{"files": [relative path, …]}``: what the run published."""
        return {"files": read_files(outcome)}


def create(settings: Settings, capabilities: Capabilities | None = None) -> NextflowEngine:
    """Build the engine for tasks that go to an executor of these ``capabilities`` (one that uses images if absent).

    :raises ModuleNotFoundError: there is no ``nextflow`` on the PATH, or none whose version can be told.
    """
    found = settings.engine.nextflow or shutil.which("nextflow")
    if not found:
        raise ModuleNotFoundError("nextflow is not on the PATH; name it by engine.nextflow", name="nextflow")
    program = Path(found).resolve()
    if settings.engine.nextflow is None and not program.is_relative_to("/usr"):
        raise ModuleNotFoundError(f"engines do not see {program}; name it by engine.nextflow", name="nextflow")
    on_host = capabilities is not None and not capabilities.uses_image
    takes_time = capabilities is not None and TIME_LIMIT in capabilities.backend_parameters
    return NextflowEngine(
        version=version_of(program),
        program=program,
        home=settings.engine.nextflow_home,
        default_image=settings.engine.default_image or (HOST_IMAGE if on_host else None),
        apart=capabilities is not None and not capabilities.shared_filesystem,
        time_limit_parameter=TIME_LIMIT if takes_time else None,
    )


def version_of(program: Path) -> str:
    """Read which version a launcher starts, without starting it.

    :raises ModuleNotFoundError: the file cannot be read, or does not say.
    """
    try:
        with program.open("rb") as stream:
            named = _VERSION.search(stream.read(_LAUNCHER_BYTES))
    except OSError as error:
        raise ModuleNotFoundError(f"{program} cannot be read: {error.strerror}", name="nextflow") from error
    if named is None:
        raise ModuleNotFoundError(f"{program} does not say which version it starts", name="nextflow")
    return named[1].decode()
