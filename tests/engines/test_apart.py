"""Engines whose tasks must see the run's folder say so where they would not."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import Run
from weft.ports import Capabilities
from weft.sections.backends import EngineSettings
from wes_service.engines import cwl, nextflow, wdl

RUN = Run(
    workflow_type="X",
    workflow_type_version="1",
    workflow_url="main",
    workflow_engine="x",
    workflow_engine_version="1",
)


@pytest.mark.parametrize("engine", [cwl, wdl, nextflow])
def test_an_executor_that_shares_no_folder_is_refused_in_words(engine: object, tmp_path: Path) -> None:
    launcher = tmp_path / "nextflow"
    launcher.write_text("NXF_VER=${NXF_VER:-'23.10.1'}\n")
    settings = Settings(engine=EngineSettings(nextflow=launcher))
    made = engine.create(settings, Capabilities(name="far", shared_filesystem=False))  # type: ignore[attr-defined]
    with pytest.raises(InvalidRequest, match="see the run's folder") as refused:
        made.step(RUN, tmp_path / "work", tmp_path / "outcome.json", "unix:///x", tmp_path / "token")
    assert refused.value.field == "workflow_type"
