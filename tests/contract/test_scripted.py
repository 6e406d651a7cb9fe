"""The scripted executor keeps the law of the port, and fails where it is told to."""

from __future__ import annotations

import pytest

from executors.scripted import ScriptedBackend, ScriptedExecutor
from tests.contract.suite import Bench, PortContract, exit_codes
from weft.config import Settings
from weft.errors import Unavailable
from weft.ports import Executor, Failure, Phase


class TestScripted(PortContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> None:
        self.backend = ScriptedBackend()

    def make_executor(self, settings: Settings) -> Executor:
        return ScriptedExecutor(self.backend)


def test_a_fault_before_a_call_leaves_the_world_as_it_was(bench: Bench) -> None:
    executor = ScriptedExecutor(ScriptedBackend())
    executor.fail_at("submit", Unavailable("down"))
    work = bench.submission(bench.step("echo"))
    with pytest.raises(Unavailable, match="down"):
        executor.submit(work)
    assert executor.find(work.key) is None


def test_a_fault_after_a_call_hides_that_it_was_done(bench: Bench) -> None:
    executor = ScriptedExecutor(ScriptedBackend())
    executor.fail_at("submit", Unavailable("lost"), after=True)
    work = bench.submission(bench.step("echo"))
    with pytest.raises(Unavailable, match="lost"):
        executor.submit(work)
    assert executor.find(work.key) is not None


def test_a_world_that_holds_jobs_lets_them_wait(bench: Bench) -> None:
    backend = ScriptedBackend(holds=True)
    executor = ScriptedExecutor(backend)
    work = bench.submission(bench.step("sleep", "1"), bench.step("sleep", "1"))
    handle = executor.submit(work)
    assert executor.observe([handle])[handle].phase is Phase.WAITING
    backend.begin(work.key)
    backend.finish(work.key, 0)
    backend.finish(work.key, 3)
    seen = executor.observe([handle])[handle]
    assert (seen.phase, exit_codes(seen)) == (Phase.ENDED, [0, 3])


def test_a_failure_and_a_loss_are_played(bench: Bench) -> None:
    backend = ScriptedBackend()
    executor = ScriptedExecutor(backend)
    work = bench.submission(bench.step("sleep", "1"))
    handle = executor.submit(work)
    backend.fail(work.key, Failure(reason="node died", retry=True))
    assert executor.observe([handle])[handle].failure == Failure(reason="node died", retry=True)
    backend.lose(work.key)
    assert executor.observe([handle])[handle].phase is Phase.UNSEEN
