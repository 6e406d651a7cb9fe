"""``kill -9`` at random moments under load, on this host and on a real Docker Engine: the promise holds.

``WEFT_CRASH_ROUNDS`` and ``WEFT_CRASH_SEED`` say how many deaths, and which; ``make crash`` asks for 200.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.crash.conftest import SEED
from tests.crash.fire import Fire

ROUNDS = int(os.environ.get("WEFT_CRASH_ROUNDS", "25"))


@pytest.mark.timeout(60 + 10 * ROUNDS)
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
