"""What the documentation shows is true: its code runs, its generated pages are current, its links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.live import LiveWeft
from weft.client.watch import EXIT_CODES
from weft.commands.run import run
from weft.commands.task import task
from weft.config import Settings
from weft.sections.section import Section

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Where the documentation's file:// examples lie; the test puts its own folder there.
PLACE = "/tmp/weft-example"
BLOCK = re.compile(r"^<!-- test -->\n```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, code) of the blocks that are marked to be run."""
    return BLOCK.findall(page.read_text())


def commands(console: str) -> list[tuple[str, list[str]]]:
    """Split a console block into commands and the lines that each is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def matches(expected: str, line: str) -> bool:
    """Tell whether a printed line is the expected one, where … stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in expected.split("…")), line.strip("\r\n")) is not None


@pytest.fixture
def example_server(start_weft: Callable[..., LiveWeft], tmp_path: Path) -> LiveWeft:
    (tmp_path / "files").mkdir()
    return start_weft("--executor", "process", "--file-root", str(tmp_path / "files"))


@pytest.fixture
def shell(example_server: LiveWeft, tmp_path: Path) -> Callable[[list[str]], str]:
    """Run a command line as a reader would: in a folder with the examples, against the server."""
    folder = tmp_path / "reader"
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in folder.rglob("*.json"):
        file.write_text(file.read_text().replace(PLACE, str(tmp_path / "files")))
    env = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
    env |= {
        "WEFT_SERVER": example_server.url,
        "WEFT_DATA": str(tmp_path / "other-data"),
        "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
    }

    def call(argv: list[str]) -> str:
        argv = [word.replace(PLACE, str(tmp_path / "files")) for word in argv]
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return call


@pytest.mark.slow
def test_the_readme_runs_and_prints_what_it_says(shell: Callable[[list[str]], str]) -> None:
    assert len(blocks(ROOT / "README.md")) >= 5
    for language, code in blocks(ROOT / "README.md"):
        if language == "python":
            assert "hello from py-tes" in shell([sys.executable, "-c", code])
            continue
        listed = commands(code)
        script = "set -euo pipefail\n" + "\n".join(f"{command}\necho '--end--'" for command, _ in listed)
        printed = shell(["bash", "-c", script]).split("--end--\n")
        for (command, expected), text in zip(listed, printed, strict=False):
            lines = [line.rstrip() for line in text.splitlines()]
            assert len(lines) >= len(expected), f"{command} printed {lines}"
            for line, wanted in zip(lines, expected, strict=False):
                assert matches(wanted, line), f"{command} printed {line!r}, the README says {wanted!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", ["settings.md", "states.md"])
def test_a_generated_page_is_current(name: str) -> None:
    pages = runpy.run_path(str(ROOT / "scripts" / "generate_docs.py"))["PAGES"]
    assert (ROOT / "docs" / name).read_text() == pages[name](), "run: make docs"


def test_every_setting_is_explained() -> None:
    for model in (Settings, *(item for item in Section.__subclasses__())):
        for name, field in model.model_fields.items():
            section = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
            assert section or field.description, f"{model.__name__}.{name} has no docstring"


@pytest.mark.parametrize("group", [task, run], ids=lambda group: group.name)
def test_every_command_is_documented_and_every_option_has_help(group: click.Group) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for name, command in group.commands.items():
        assert f"weft {group.name} {name}" in page
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "view":
                assert parameter.help, f"{group.name} {name} {parameter.opts}"


def test_the_exit_codes_on_the_page_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for state, code in EXIT_CODES.items():
        if state != "PREEMPTED":
            assert re.search(rf"^\| {code} \|.*{state if state != 'CANCELED' else 'canceled'}", page, re.MULTILINE), (
                state
            )
