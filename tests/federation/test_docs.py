"""The commands of docs/federation.md, at a hub and at a site."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.federation.conftest import Federation

PAGE = Path(__file__).parents[2] / "docs" / "federation.md"
BLOCK = re.compile(r"^<!-- test on a hub and a site -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_say_what_it_says(tmp_path: Path) -> None:
    page = PAGE.read_text()
    datasets = tmp_path / "datasets.toml"
    datasets.write_text(TOML.findall(page)[0])
    federation = Federation(tmp_path)
    folders = {"hub$": federation.hub.data, "cz$": tmp_path / "cz"}
    try:
        federation.hub.start()
        token = federation.weft(federation.hub.data, "node", "invite", "cz").strip()
        known = {"https://hub.example.org": federation.hub.url, "datasets.toml": str(datasets), "TOKEN": token}
        for block in BLOCK.findall(page):
            for prompt, command, expected in re.findall(
                r"^(hub\$|cz\$) weft (.*)\n((?:(?!hub\$|cz\$).*\n)*)", block, re.M
            ):
                argv = [known.get(word, word) for word in shlex.split(command)]
                printed = federation.weft(folders[prompt], *argv)
                assert matches(expected, printed), (command, printed)
    finally:
        federation.end()


def matches(expected: str, printed: str) -> bool:
    """Tell whether the lines are the expected ones, where … stands for anything and spaces for any number of them."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    patterns = [
        ".*".join(re.escape(part) for part in " ".join(line.split()).split("…")) for line in expected.splitlines()
    ]
    return len(lines) == len(patterns) and all(map(re.fullmatch, patterns, lines))
