"""What the composition root refuses and says."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft import backends, checkup
from weft.config import Settings
from weft.errors import InvalidRequest


def test_the_engines_executor_takes_no_tasks(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, executor="engine")
    with pytest.raises(InvalidRequest, match="runs workflow engines, no tasks") as caught:
        backends.choose_executor(settings)
    assert caught.value.field == "executor"
    assert caught.value.remedy is not None
    offered = caught.value.remedy.removeprefix("one of: ").split(", ")
    assert "process" in offered
    assert "engine" not in offered


def test_check_does_not_offer_it(tmp_path: Path) -> None:
    lines = list(checkup.describe(Settings(data=tmp_path, executor="engine")))
    assert not [line for line in lines if "executor engine:" in line]
    assert [line for line in lines if "tasks go to: none (executor engine runs workflow engines, no tasks)" in line]
