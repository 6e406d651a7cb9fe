"""docs/security.md: its settings are settings, and its commands run against a server that was set up so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.live import LiveWeft
from weft.config import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
BLOCKS = re.findall(r"```(toml|console)\n(.*?)```", PAGE, re.DOTALL)
SETTINGS = [text for language, text in BLOCKS if language == "toml"]
COMMANDS = [line[2:] for language, text in BLOCKS if language == "console" for line in text.splitlines()]


@pytest.mark.parametrize("text", SETTINGS, ids=["tokens", "keycloak", "ls aai", "storage"])
def test_the_settings_on_the_page_are_accepted(text: str) -> None:
    settings = Settings(**tomllib.loads(text))
    assert settings.auth.mode != "off" or settings.storage


def test_the_commands_on_the_page_run(tmp_path: Path) -> None:
    settings = tmp_path / "weft.toml"
    settings.write_text(SETTINGS[0])
    weft = LiveWeft(tmp_path / "data", command="api", env={"WEFT_CONFIG": str(settings)}).start()
    try:
        env = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
        env |= {"WEFT_DATA": str(weft.data), "WEFT_SERVER": weft.url}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        script = "\n".join(["set -euo pipefail", *COMMANDS])
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False)
    finally:
        weft.end()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ada" in done.stdout
    assert '"runs":[]' in done.stdout
    assert len(COMMANDS) >= 4
