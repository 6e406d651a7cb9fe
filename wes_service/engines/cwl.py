"""cwltool as an engine of WES: what it takes, and the command that runs it. cwltool is not imported here."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.config import Settings
from weft.model import JsonObject, Run, Step
from weft.ports import Capabilities, EngineInfo
from wes_service.engines.cwl_parameters import ALLOWED, read_parameters
from wes_service.engines.launch import (
    HOST_IMAGE,
    NETWORK,
    TIME_LIMIT,
    defaults,
    engine_step,
    is_inside,
    read_outcome,
    refuse_apart,
)

#: The module that the warm host preloads; see ``executors.engine``.
CHILD = "wes_service.engines.cwl_child"
_FILES = ("File", "Directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class CwlEngine:
    """The ``weft.ports.Engine`` for CWL documents."""

    version: str
    default_image: str | None = None
    #: Tasks do not see the run\'s folder.
    apart: bool = False
    time_limit_parameter: str | None = None
    network_parameter: str | None = None
    python: str = sys.executable

    @property
    def info(self) -> EngineInfo:
        """Name, version, workflow types and the parameters with a default of their own."""
        return EngineInfo(
            name="cwltool",
            version=self.version,
            workflow_types={"CWL": ("v1.0", "v1.1", "v1.2")},
            aliases={"cwl": "CWL"},
            parameters=defaults(ALLOWED),
        )

    def validate(self, run: Run) -> None:
        """Refuse engine parameters that are not on the allow-list."""
        read_parameters(run.workflow_engine_parameters)

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        """Write the request beside ``outcome`` and return the command that runs it in ``work``.

        :raises InvalidRequest: tasks do not see the run's folder.
        """
        refuse_apart("cwltool", self.apart)
        return engine_step(
            CHILD,
            run,
            work=work,
            outcome=outcome,
            tes_url=tes_url,
            token_file=token_file,
            python=self.python,
            given={
                "--default-image": self.default_image,
                "--time-limit-parameter": self.time_limit_parameter,
                "--network-parameter": self.network_parameter,
            },
        )

    def outputs(self, outcome: Path) -> JsonObject:
        """Read the CWL output object; what names a file outside of the run's folder was not written by the engine."""
        document = read_outcome(outcome)
        return document if isinstance(document, dict) and _stays_inside(document) else {}


def create(settings: Settings, capabilities: Capabilities | None = None) -> CwlEngine:
    """Build the engine for tasks that go to an executor of these ``capabilities`` (one that uses images if absent).

    :raises ModuleNotFoundError: cwltool is not installed.
    """
    version = importlib.metadata.version("cwltool")
    on_host = capabilities is not None and not capabilities.uses_image
    understood = frozenset() if capabilities is None else capabilities.backend_parameters
    return CwlEngine(
        version=version,
        default_image=settings.engine.default_image or (HOST_IMAGE if on_host else None),
        apart=capabilities is not None and not capabilities.shared_filesystem,
        time_limit_parameter=TIME_LIMIT if TIME_LIMIT in understood else None,
        network_parameter=NETWORK if NETWORK in understood else None,
    )


def _stays_inside(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_stays_inside, value))
    if not isinstance(value, dict):
        return True
    located = value.get("location") if value.get("class") in _FILES else None
    return (located is None or is_inside(located)) and all(map(_stays_inside, value.values()))
