"""docs/database.md: every command on the page is run, in its order, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.live import LiveWeft
from tests.testbeds import postgres

PAGE = Path(__file__).resolve().parents[2] / "docs" / "database.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER = "db.example:5432"


def commands(section: str, *, of: tuple[str, ...] = ("",)) -> list[str]:
    """Return the lines of a section that are typed, those that begin with one of the words in ``of``."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    found = [line[2:] for line in lines if line[2:].startswith(of)]
    assert found, f"nothing to type in {section}"
    return found


@pytest.fixture
def server() -> Iterator[postgres.PrivateServer]:
    missing = postgres.missing_tools()
    if missing:
        pytest.skip(missing)
    with postgres.private_server() as server:
        yield server


@pytest.fixture
def type_in(tmp_path: Path) -> Callable[..., str]:
    """Type lines into one shell, with the page's places and addresses replaced by the test's."""
    (tmp_path / "backups").mkdir()

    def run(lines: list[str], server: postgres.PrivateServer | None = None) -> str:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("WEFT_", "PG"))}
        places = [str(Path(sys.executable).parent), env["PATH"]]
        if server is not None:
            places.insert(0, str(Path(str(postgres.program("pg_dump"))).parent))
            env |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        env |= {"PATH": ":".join(places), "WEFT_DATA": str(tmp_path / "data")}
        script = "set -e\n" + "\n".join(lines).replace("/backups", str(tmp_path / "backups"))
        if server is not None:
            script = script.replace(SERVER, f"127.0.0.1:{server.port}")
        done = subprocess.run(
            ["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def a_task(number: int) -> dict[str, object]:
    return {"executors": [{"image": "busybox", "command": ["echo", str(number)]}]}


def test_the_commands_for_sqlite_do_what_the_page_says(
    start_weft: Callable[..., LiveWeft], type_in: Callable[..., str]
) -> None:
    weft = start_weft("--executor", "process")
    weft.wait(kept := weft.create(a_task(1)))
    backup, *restore = commands("Back up and restore", of=("weft ",))
    type_in([backup, *commands("Check")])
    lost = weft.create(a_task(2))
    weft.stop()
    said = type_in([*restore, *commands("Check"), *commands("Migrate")])
    assert "what was there is" in said
    assert "law: 1 jobs" in said
    weft.start()
    assert weft.task(kept)["state"] == "COMPLETE"
    assert requests.get(f"{weft.tes}/tasks/{lost}", timeout=30).status_code == 404


def test_the_commands_for_postgresql_do_what_the_page_says(
    start_weft: Callable[..., LiveWeft], type_in: Callable[..., str], server: postgres.PrivateServer
) -> None:
    up = "Set PostgreSQL up"
    assert "made the schema" in type_in(commands(up, of=("psql ", "createdb ", "export ", "weft db ")), server)
    environment = commands(up, of=("export ",))
    address = environment[0].partition("=")[2].replace(SERVER, f"127.0.0.1:{server.port}")
    processes = {
        command: start_weft("--executor", "process", name=command, command=command, env={"WEFT_DATABASE": address})
        for line in commands(up, of=("weft api ", "weft work "))
        for command in [line.split()[1]]
    }
    api = processes["api"]
    api.wait(kept := api.create(a_task(1)))
    dump, restore = commands("Back up and restore", of=("pg_",))
    type_in([*environment, dump], server)
    api.wait(api.create(a_task(2)))
    for process in processes.values():
        process.stop()
    assert "change-me" not in processes["work"].log()
    type_in([*environment, restore], server)
    api.start()
    assert api.task(kept)["state"] == "COMPLETE"
    assert len(server.execute("SELECT id FROM jobs", "weft")) == 1


def test_no_command_of_the_page_is_left_out() -> None:
    run = [
        *commands("Set PostgreSQL up", of=("psql ", "createdb ", "export ", "weft db ", "weft api ", "weft work ")),
        *commands("Back up and restore", of=("weft ", "pg_")),
        *commands("Check"),
        *commands("Migrate"),
    ]
    assert re.findall(r"^\$ (.*)$", PAGE.read_text(), re.MULTILINE) == run
