"""``kill -9`` at random moments under load, on this host and on a real Docker Engine: the promise holds.

``WEFT_CRASH_ROUNDS`` and ``WEFT_CRASH_SEED`` say how many deaths, and which; ``make crash`` asks for 200.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.crash.conftest import SEED
from tests.crash.fire import Fire
from tests.testbeds import postgres

ROUNDS = int(os.environ.get("WEFT_CRASH_ROUNDS", "25"))


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize(("executor", "rounds"), [("process", ROUNDS - ROUNDS // 2), ("docker", ROUNDS // 2)])
def test_the_promise_holds_after_deaths_at_random_moments(
    kindle: Callable[..., Fire], request: pytest.FixtureRequest, executor: str, rounds: int
) -> None:
    host = request.getfixturevalue("docker_engine") if executor == "docker" else None
    fire = kindle(executor, host, seed=os.environ.get("WEFT_CRASH_SEED", SEED))
    fire.light()
    for _ in range(rounds):
        time.sleep(fire.dice.random())  # the random moment; nothing waits for anything here
        fire.server.kill()
        fire.server.start()
    fire.end()
    fire.settle()
    fire.assert_the_promise()


@pytest.fixture
def database() -> Iterator[str]:
    missing = postgres.missing_tools()
    if missing:
        pytest.skip(missing)
    with postgres.private_server(fsync="on", full_page_writes="on") as server:
        yield server.url(server.create_database())


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_the_promise_holds_when_any_of_several_processes_on_postgresql_dies(
    kindle: Callable[..., Fire], database: str
) -> None:
    seed = os.environ.get("WEFT_CRASH_SEED", SEED)
    fire = kindle("process", workers=2, seed=seed, database=database)
    fire.light()
    for _ in range(max(6, ROUNDS // 4)):
        time.sleep(fire.dice.random())
        victim = fire.dice.choice([fire.server, *fire.workers])
        victim.kill()
        time.sleep(fire.dice.random())  # the others go on
        victim.start()
    fire.end()
    fire.settle()
    fire.assert_the_promise()
