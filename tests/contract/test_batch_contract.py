"""The aws_batch executor keeps the contract of all executors, on a Batch server that runs real containers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executors.aws_batch import create
from tests.contract.batch_bench import BatchBench, BringsBack
from tests.contract.suite import MAX_LOG_BYTES, Bench, ExecutorContract, Watched, exit_codes
from tests.testbeds.batch_site import BatchSite
from weft.config import Settings
from weft.folders import log_path
from weft.ports import Executor, Phase

pytestmark = pytest.mark.docker


class TestAwsBatch(ExecutorContract):
    """Every attempt a multi-container job; no folder is shared with it."""

    patience = 120.0
    crowd = 5  # each is a job of three containers

    @pytest.fixture
    def settings(self, data: Path, batch_site: BatchSite) -> Settings:
        return Settings(
            data=data,
            max_log_bytes=MAX_LOG_BYTES,
            s3=batch_site.s3,
            aws_batch=batch_site.batch(storage=f"s3://weft-test/{data.name}"),
            beat_seconds=0.1,
        )

    @pytest.fixture
    def bench(self, data: Path, image: str, batch_site: BatchSite) -> BatchBench:
        self.made = BatchBench(data, image, batch_site)
        return self.made

    def make_executor(self, settings: Settings) -> Executor:
        executor: Any = BringsBack(create(settings), self)
        return executor

    # -- what the suite does by a live folder, here in the running container -----------------------------------

    def test_logs_can_be_read_while_the_step_runs(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo early; echo oops >&2; sleep 600"))
        handle = watched.executor.submit(work)
        for stream, text in (("stdout", "early\n"), ("stderr", "oops\n")):
            path = log_path(work.folder, work.mounts, work.steps, 0, stream)
            deadline = time.monotonic() + 30
            while not path.exists() or path.read_text() != text:
                assert time.monotonic() < deadline
                watched.look(handle)
                time.sleep(0.05)

    def test_a_second_executor_object_adopts_a_running_job(
        self, watch: Callable[[], Watched], bench: BatchBench
    ) -> None:
        script = "echo begun; : > /tmp/begun; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo adopted; exit 7"
        work = bench.submission(bench.shell(script))
        first = watch()
        handle = first.executor.submit(work)
        bench.wait_inside(handle, "/tmp/begun")
        first.executor.stop()
        second = watch()
        assert second.executor.find(work.key) == handle
        assert second.look(handle).phase is Phase.RUNNING
        bench.touch_inside(handle, "/tmp/go")
        assert exit_codes(second.until(handle, Phase.ENDED)) == [7]
        assert bench.log(work) == "begun\nadopted\n"

    def test_a_job_that_ended_while_no_executor_looked_keeps_its_exit_code_and_logs(
        self, watch: Callable[[], Watched], bench: BatchBench
    ) -> None:
        work = bench.submission(bench.shell("while [ ! -e /tmp/go ]; do sleep 0.05; done; echo alone; exit 8"))
        first = watch()
        handle = first.executor.submit(work)
        first.executor.stop()
        bench.touch_inside(handle, "/tmp/go")
        container = bench.container(handle)
        container.wait()
        second = watch()
        assert exit_codes(second.until(handle, Phase.ENDED)) == [8]
        assert bench.log(work) == "alone\n"

    def test_cancel_ends_children_too_even_those_that_ignore_sigterm(self, watched: Watched, bench: BatchBench) -> None:
        beat = "while :; do echo x >> /tmp/beat; sleep 0.05; done"
        handle = watched.executor.submit(bench.submission(bench.shell(f"trap '' TERM; ({beat}) & {beat}")))
        bench.wait_inside(handle, "/tmp/beat")
        begun = time.monotonic()
        watched.executor.cancel(handle)
        assert time.monotonic() - begun < 4  # a real one takes as long as ECS takes
        assert bench.containers(handle) == []

    def test_children_do_not_outlive_their_step(self, watched: Watched, bench: BatchBench) -> None:
        script = "(while :; do echo x; sleep 0.05; done) & sleep 0.1; echo over > /vol/over"
        volume = bench.volume()
        work = bench.submission(bench.shell(script), mounts=(volume,))
        handle = watched.executor.submit(work)
        assert exit_codes(watched.until(handle, Phase.ENDED)) == [0]
        assert bench.containers(handle) == []
        assert (volume.source / "over").exists()

    def test_after_cancel_no_further_step_starts(self, watched: Watched, bench: BatchBench) -> None:
        work = bench.submission(bench.shell(": > /tmp/first; sleep 600", ignore_error=True), bench.shell("echo second"))
        handle = watched.executor.submit(work)
        bench.wait_inside(handle, "/tmp/first")
        watched.executor.cancel(handle)
        task = watched.look(handle).metadata["ecs_task"]
        assert bench.has_log(f"weft/step-0/{task}")
        assert not bench.has_log(f"weft/step-1/{task}")

    # -- what is otherwise here ---------------------------------------------------------------------------------

    def test_a_workdir_that_does_not_exist_is_made(self, watched: Watched, bench: Bench) -> None:
        """In the task's own folders only: Batch cannot set a workdir, and the image is read-only."""
        volume = bench.volume()
        work = bench.submission(bench.shell("echo ok > file", workdir="/vol/deep/er"), mounts=(volume,))
        assert exit_codes(watched.run(work)) == [0]
        assert (volume.source / "deep/er/file").read_text() == "ok\n"
        work = bench.submission(bench.shell("echo ok", workdir="/somewhere/else"))
        assert exit_codes(watched.run(work)) == [126]
        assert "the workdir /somewhere/else is not in the image" in bench.log(work, 0, "stderr")

    def test_a_read_only_mount_refuses_writes(self, watched: Watched, bench: Bench) -> None:
        """There is none: inputs are the job's own copies, and what it writes into them changes no one else's."""
        volume = bench.volume(read_only=True, words="x")
        watched.run(bench.submission(bench.shell("echo y > /vol/words"), mounts=(volume,)))
        assert (volume.source / "words").read_text() == "x"
