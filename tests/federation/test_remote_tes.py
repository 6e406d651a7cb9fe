"""The executor ``tes``: the contract against another real weft, servers of another age, and two wefts in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executors.tes import TesExecutor, create
from tests.contract.suite import Bench, PortContract, Watched, exit_codes
from tests.federation.old_tes import OldTes
from tests.live import LiveWeft
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.model import Input, Output, Step, StoredOutput, Submission, Task, task_to_json
from weft.ports import Executor, Phase
from weft.sections.backends import TesSettings


class TaskBench(Bench):
    """Makes submissions with the task's document, as for executors that stage."""

    def submission(self, *steps: Step, **given: Any) -> Submission:
        inputs, outputs = given.pop("inputs", ()), given.pop("outputs", ())
        work = super().submission(*steps, **given)
        (work.folder / "logs").mkdir()
        document = task_to_json(Task(steps=steps, inputs=inputs, outputs=outputs, tags={"mine": "kept"}))
        return replace(work, document=document)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeft]:
    """Another weft, which runs steps on this host."""
    folder = tmp_path_factory.mktemp("far")
    (folder / "files").mkdir()
    flags = ("--executor", "process", "--file-root", str(folder / "files"))
    weft = LiveWeft(folder / "data", flags).start()
    yield weft
    weft.end()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of this side."""
    return tmp_path / "near"


@pytest.fixture
def bench(data: Path) -> TaskBench:
    """Makes submissions on this side."""
    return TaskBench(data, "alpine", None)


class TestAnotherWeft(PortContract):
    """The law of the port, across the wire."""

    crowd = 40

    @pytest.fixture
    def settings(self, data: Path, far: LiveWeft) -> Settings:
        return Settings(data=data, tes=TesSettings(url=far.url, log_seconds=0.05))

    def make_executor(self, settings: Settings) -> Executor:
        return create(settings)

    def test_logs_and_outputs_and_where_it_ran_are_passed_on(
        self, watched: Watched, bench: Bench, far: LiveWeft
    ) -> None:
        url = f"file://{far.files}/copy"
        work = bench.submission(
            bench.shell("echo out; echo err >&2; cp /in/words /out/words"),
            inputs=(Input(path="/in/words", content="some words"),),
            outputs=(Output(path="/out/words", url=url),),
        )
        seen = watched.run(work)
        assert seen.outputs == (StoredOutput(url=url, path="/out/words", size_bytes=10),)
        assert (far.files / "copy").read_text() == "some words"
        assert (bench.log(work), bench.log(work, 0, "stderr")) == ("out\n", "err\n")
        assert seen.metadata["executor"] == "process"
        there = far.task(seen.metadata["tes_task"])
        assert (seen.metadata["tes_server"], there["tags"]["mine"]) == (far.url, "kept")

    def test_an_answer_that_got_lost_starts_nothing_twice(
        self, executor: Executor, bench: Bench, settings: Settings
    ) -> None:
        """The worker that never saw the answer asks again with the same key, from another process."""
        work = bench.submission(bench.step("sleep", "600"))
        handle = executor.submit(work)
        assert self.make_executor(settings).submit(work) == handle

    def test_what_the_server_refuses_is_refused_in_its_words(self, executor: Executor, bench: Bench) -> None:
        work = bench.submission(bench.step("echo"), outputs=(Output(path="/o", url="file:///not/allowed"),))
        with pytest.raises(ExecutorRefused, match=r"refused the task \(403\).*/not/allowed"):
            executor.submit(work)

    def test_a_server_that_is_down_is_waited_for(self, data: Path, bench: Bench) -> None:
        executor = create(Settings(data=data, tes=TesSettings(url="http://127.0.0.1:1")))
        assert not executor.check().usable
        executor.start(lambda handle: None)
        with pytest.raises(Unavailable, match="no connection"):
            executor.submit(bench.submission(bench.step("echo")))


class TestAnOldServer:
    """TES 1.0, and what servers of today leave out."""

    @pytest.fixture(params=[False, True], ids=["ignores filters", "refuses filters"])
    def old(self, request: pytest.FixtureRequest) -> Iterator[OldTes]:
        with OldTes(refuses_filters=request.param).served() as server:
            yield server

    def executor(self, old: OldTes, data: Path, **settings: Any) -> TesExecutor:
        made = create(Settings(data=data, tes=TesSettings(url=old.url, **settings)))
        assert isinstance(made, TesExecutor)
        return made

    def test_many_tasks_are_found_and_observed_through_its_pages(
        self,
        old: OldTes,
        data: Path,
        bench: TaskBench,
    ) -> None:
        executor = self.executor(old, data)
        works = [bench.submission(bench.step("echo")) for _ in range(10)]
        handles = [executor.submit(work) for work in works]
        for task in old.tasks.values():
            task["state"] = "RUNNING"
        old.tasks["t%2F9"] = {"id": "t/9", "state": "QUEUED"}  # somebody else's
        del old.tasks["t%2F3"]
        seen = executor.observe(handles)
        assert [seen[h].phase if h in seen else None for h in handles] == [
            {3: None, 9: Phase.WAITING}.get(n, Phase.RUNNING) for n in range(10)
        ]
        again = self.executor(old, data)
        assert again.find(works[5].key) == handles[5]
        assert again.find(works[9].key) is None
        assert {key for key, _ in again.list()} == {works[n].key for n in range(10) if n not in (3, 9)}

    def test_a_create_whose_answer_is_lost_is_found_again(
        self,
        old: OldTes,
        data: Path,
        bench: TaskBench,
    ) -> None:
        executor, work = self.executor(old, data), bench.submission(bench.step("echo"))
        old.loses_answer = True
        with pytest.raises(Unavailable, match="502"):
            executor.submit(work)
        handle = executor.find(work.key)
        assert handle is not None
        assert len(old.tasks) == 1

    def test_codes_that_it_does_not_say_are_taken_from_its_state_and_never_made_up(
        self,
        old: OldTes,
        data: Path,
        bench: TaskBench,
    ) -> None:
        executor = self.executor(old, data)
        good, bad, odd = [executor.submit(bench.submission(bench.step("echo"), bench.step("echo"))) for _ in range(3)]
        old.tasks["t%2F0"] |= {"state": "COMPLETE", "logs": [{"logs": [{"stdout": "x"}]}]}
        old.tasks["t%2F1"] |= {"state": "EXECUTOR_ERROR", "logs": [{"logs": [{}], "system_logs": ["pod failed"]}]}
        old.tasks["t%2F2"] |= {"state": "RUNNING", "logs": [{"logs": [{"exit_code": 0}, "nonsense"]}, None]}
        seen = executor.observe([good, bad, odd])
        assert (exit_codes(seen[good]), seen[good].failure) == ([0, 0], None)
        assert seen[bad].failure is not None
        assert "pod failed" in seen[bad].failure.reason
        assert (seen[odd].phase, exit_codes(seen[odd])) == (Phase.RUNNING, [None, None])

    def test_forgotten_stays_forgotten_although_it_cannot_delete(
        self,
        old: OldTes,
        data: Path,
        bench: TaskBench,
    ) -> None:
        executor, work = self.executor(old, data), bench.submission(bench.step("echo"))
        handle = executor.submit(work)
        executor.forget(handle)
        assert old.tasks["t%2F0"]["state"] == "CANCELED"
        again = self.executor(old, data)
        assert (again.find(work.key), again.observe([handle]), list(again.list())) == (None, {}, [])

    def test_the_token_goes_along_and_a_refused_one_is_waited_for(
        self,
        old: OldTes,
        data: Path,
        bench: TaskBench,
    ) -> None:
        executor = self.executor(old, data, token="s3cret", user="me")
        assert "s3cret" not in repr(executor)
        old.refusal = (401, {"detail": "who are you"})
        with pytest.raises(Unavailable, match="does not accept the token"):
            executor.submit(bench.submission(bench.step("echo")))
        assert old.authorization == {"Basic bWU6czNjcmV0"}

    def test_what_it_says_is_never_a_path_here(self, old: OldTes, data: Path, bench: TaskBench) -> None:
        executor, work = self.executor(old, data), bench.submission(bench.step("echo"))
        executor.submit(work)
        old.tasks["t%2F0"]["tags"]["weft-key"] = "../../../etc-1"
        old.tasks["t%2F0"]["state"] = "RUNNING"
        assert list(executor.list()) == []


def test_a_task_goes_through_two_wefts_and_is_cancelled_through_both(far: LiveWeft, tmp_path: Path) -> None:
    near = LiveWeft(
        tmp_path / "near", ("--executor", "tes"), env={"WEFT_TES__URL": far.url, "WEFT_BEAT_SECONDS": "0.1"}
    )
    near.start()
    try:
        url = f"file://{far.files}/through"
        document = {
            "executors": [{"image": "any", "command": ["sh", "-c", "echo hello; echo data > /out/file"]}],
            "outputs": [{"path": "/out/file", "url": url}],
        }
        done = near.wait(near.create(document))
        (log,) = done["logs"]
        assert done["state"] == "COMPLETE", done
        assert (log["logs"][0]["exit_code"], log["logs"][0]["stdout"]) == (0, "hello\n")
        assert log["outputs"] == [{"url": url, "path": "/out/file", "size_bytes": "5"}]
        running = near.create({"executors": [{"image": "any", "command": ["sleep", "600"]}]})
        there = near.wait(running, until={"RUNNING"})["logs"][0]["metadata"]["tes_task"]
        assert far.task(there)["state"] == "RUNNING"
        near.cancel(running)
        assert near.wait(running)["state"] == "CANCELED"
        assert far.processes() == []
        failed = near.wait(near.create({"executors": [{"image": "any", "command": ["sh", "-c", "exit 7"]}]}))
        assert (failed["state"], failed["logs"][0]["logs"][0]["exit_code"]) == ("EXECUTOR_ERROR", 7)
    finally:
        near.end()
