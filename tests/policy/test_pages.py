"""docs/policy.md, docs/audit.md and the example: each command is run, and says what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.builders import NOW
from weft.audit import place
from weft.audit.entry import Entry
from weft.cli import main
from weft.config import Settings

ROOT = Path(__file__).parents[2]


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    found = [shlex.split(line.removeprefix("$ weft ")) for block in blocks for line in block.splitlines()]
    assert found
    return found


def test_the_policys_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check, explain = commands("policy.md")
    checked = CliRunner().invoke(main, check)
    assert (checked.exit_code, "is good: version" in checked.stdout) == (0, True), checked.output
    refused = CliRunner().invoke(main, explain)
    assert (refused.exit_code, "refused by dataset.visa" in refused.stdout) == (1, True), refused.output


def test_a_visa_on_the_command_line_and_another_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "visas.yaml").write_text(
        "visas: [{type: ControlledAccessGrants, value: 'https://data.example.org/datasets/rare-diseases', by: dac,"
        " exp: 1800000000}]"
    )
    explain = [*commands("policy.md")[1], "--visas", str(tmp_path / "visas.yaml")]
    allowed = CliRunner().invoke(main, [*explain, "--at", "2026-12-01"])
    assert (allowed.exit_code, "allowed, project heart" in allowed.stdout) == (0, True), allowed.output
    late = CliRunner().invoke(main, [*explain, "--at", "2027-02-01", "--start"])
    assert (late.exit_code, "has expired" in late.stdout) == (1, True), late.output
    wrong = CliRunner().invoke(main, ["policy", "explain", "anna", *explain[3:]])
    assert (wrong.exit_code, "is not ISSUER|SUBJECT" in wrong.stderr) == (2, True), wrong.output


def test_the_records_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "data"))
    entry = Entry(at=NOW, action="task.create", actor="local|anna", job="01abc")
    place.record_once(Settings(audit=True), entry)
    for words in commands("audit.md"):
        if ">" in words:
            words, file = words[: words.index(">")], words[-1]
            (tmp_path / file).write_text(CliRunner().invoke(main, words).stdout)
            continue
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (words, done.output)
    assert "local|anna" not in CliRunner().invoke(main, ["audit", "list", "--names"]).stdout
    nowhere = CliRunner().invoke(main, ["audit", "list", "--data", str(tmp_path / "elsewhere")])
    assert (nowhere.exit_code, "there is no audit record" in nowhere.stderr) == (2, True)
