"""miniwdl as an engine of WES: what it takes, and the command that runs it. miniwdl is not imported here."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from weft.config import Settings
from weft.model import JsonObject, Run, Step
from weft.ports import Capabilities, EngineInfo
from wes_service.engines.launch import HOST_IMAGE, NETWORK, defaults, engine_step, read_outcome, refuse_apart
from wes_service.engines.wdl_parameters import ALLOWED, read_parameters

#: The module that the warm host preloads; see ``executors.engine``.
CHILD = "wes_service.engines.wdl_child"


@dataclass(frozen=True, slots=True, kw_only=True)
class WdlEngine:
    """The ``weft.ports.Engine`` for WDL documents."""

    version: str
    default_image: str | None = None
    #: Tasks do not see the run\'s folder.
    apart: bool = False
    network_parameter: str | None = None
    python: str = sys.executable

    @property
    def info(self) -> EngineInfo:
        """Name, version, workflow types and the parameters with a default of their own."""
        return EngineInfo(
            name="miniwdl",
            version=self.version,
            workflow_types={"WDL": ("1.0", "1.1", "draft-2")},
            aliases={"wdl": "WDL"},
            parameters=defaults(ALLOWED),
        )

    def validate(self, run: Run) -> None:
        """Refuse engine parameters that are not on the allow-list."""
        read_parameters(run.workflow_engine_parameters)

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        """Write the request beside ``outcome`` and return the command that runs it in ``work``.

        :raises InvalidRequest: tasks do not see the run's folder.
        """
        refuse_apart("miniwdl", self.apart)
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
                "--network-parameter": self.network_parameter,
            },
        )

    def outputs(self, outcome: Path) -> JsonObject:
        """Read WDL's output object; files are texts in it, so only what is a file of the run gets a URL."""
        document = read_outcome(outcome)
        return document if isinstance(document, dict) else {}


def create(settings: Settings, capabilities: Capabilities | None = None) -> WdlEngine:
    """Build the engine for tasks that go to an executor of these ``capabilities`` (one that uses images if absent).

    :raises ModuleNotFoundError: miniwdl is not installed.
    """
    version = importlib.metadata.version("miniwdl")
    on_host = capabilities is not None and not capabilities.uses_image
    understood = frozenset() if capabilities is None else capabilities.backend_parameters
    return WdlEngine(
        version=version,
        default_image=settings.engine.default_image or (HOST_IMAGE if on_host else None),
        apart=capabilities is not None and not capabilities.shared_filesystem,
        network_parameter=NETWORK if NETWORK in understood else None,
    )
