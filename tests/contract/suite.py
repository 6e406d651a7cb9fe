"""The law of executors, as tests: a new executor subclasses ``ExecutorContract`` and gives ``make_executor``.

``PortContract`` holds what is true of the calls alone; ``ExecutorContract`` adds what the steps themselves see, with
no other commands than ``sh``, ``cat``, ``echo`` and ``sleep``. Nothing here asks for an executor's name, only for its
capabilities.
"""

from __future__ import annotations

import itertools
import os
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from weft.config import Settings
from weft.folders import Folders, log_path
from weft.model import Handle, Kind, Mount, Resources, Step, Submission
from weft.ports import Executor, Observation, Phase

#: ``Settings.max_log_bytes`` under test.
MAX_LOG_BYTES = 64_000
#: How long anything may take before a test fails.
PATIENCE = 30.0


class Bench:
    """Makes submissions with real folders below one data folder."""

    def __init__(self, data: Path, image: str, user: int | None) -> None:
        self.data, self.image, self.user = data, image, user
        self._numbers = itertools.count(1)

    def step(self, *command: str, **fields: Any) -> Step:
        return Step(**{"image": self.image, "command": command, **fields})

    def shell(self, script: str, **fields: Any) -> Step:
        return self.step("sh", "-c", script, **fields)

    def volume(self, target: str = "/vol", *, read_only: bool = False, **files: str) -> Mount:
        """Make a host folder that the steps' user owns, with these files in it, to be mounted at ``target``."""
        folder = self.data / "volumes" / str(next(self._numbers))
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for path in (folder, *folder.iterdir()):
            self._give(path)
        return Mount(source=folder, target=target, read_only=read_only)

    def submission(
        self, *steps: Step, mounts: tuple[Mount, ...] = (), resources: Resources | None = None
    ) -> Submission:
        job = f"job{next(self._numbers):04d}"
        folder = Folders(self.data).attempt(job, 1).root
        folder.mkdir(parents=True)
        return Submission(
            key=f"{job}-1",
            job_id=job,
            attempt=1,
            kind=Kind.TASK,
            steps=steps,
            folder=folder,
            mounts=mounts,
            resources=resources or Resources(),
            uid=self.user,
            gid=self.user,
        )

    def log(self, work: Submission, index: int = 0, stream: str = "stdout") -> str:
        """Return what a step wrote."""
        return log_path(work.folder, work.mounts, work.steps, index, stream).read_text(encoding="utf-8")

    def _give(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user, self.user)


class Watched:
    """An executor that was started, and who it woke."""

    def __init__(self, executor: Executor, patience: float = PATIENCE) -> None:
        self.executor = executor
        self.patience = patience
        self.woken: queue.SimpleQueue[Handle] = queue.SimpleQueue()
        executor.start(self.woken.put)

    def look(self, handle: Handle) -> Observation:
        return self.executor.observe([handle]).get(handle, Observation(phase=Phase.UNSEEN))

    def until(self, handle: Handle, phase: Phase, seconds: float = 0.0) -> Observation:
        """Observe, when woken and now and then, until ``phase`` is seen."""
        deadline = time.monotonic() + max(seconds, self.patience)
        while (seen := self.look(handle)).phase is not phase:
            assert time.monotonic() < deadline, f"{handle} is {seen}, not {phase}"
            try:
                self.woken.get(timeout=0.05)
            except queue.Empty:
                continue
        return seen

    def run(self, work: Submission) -> Observation:
        """Submit, and return the last observation."""
        return self.until(self.executor.submit(work), Phase.ENDED)


def exit_codes(observation: Observation) -> list[int | None]:
    return [step.exit_code for step in observation.steps]


def wait_for(path: Path, seconds: float = PATIENCE) -> None:
    """Return when a step has made ``path``."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was never made"
        time.sleep(0.01)


def grows(path: Path, seconds: float = 0.4) -> bool:
    """Tell whether somebody still writes to ``path``: the evidence that a process lives, wherever it runs."""
    before = path.stat().st_size
    time.sleep(seconds)
    return path.stat().st_size > before


class PortContract:
    """What is true of the calls, whatever a step does."""

    #: How long one job may take before a test fails.
    patience = PATIENCE

    def make_executor(self, settings: Settings) -> Executor:
        """Return a new executor object over the same backend each time; a subclass gives this."""
        raise NotImplementedError

    @pytest.fixture
    def watch(self, settings: Settings) -> Iterator[Callable[[], Watched]]:
        """Makes started executors; all that they left is removed at the end."""
        made: list[Watched] = []

        def make() -> Watched:
            made.append(Watched(self.make_executor(settings), self.patience))
            return made[-1]

        yield make
        if made:
            for _, handle in list(made[-1].executor.list()):
                made[-1].executor.forget(handle)
        for watched in made:
            watched.executor.stop()

    @pytest.fixture
    def watched(self, watch: Callable[[], Watched]) -> Watched:
        return watch()

    @pytest.fixture
    def executor(self, watched: Watched) -> Executor:
        return watched.executor

    def test_it_is_usable(self, executor: Executor) -> None:
        health = executor.check()
        assert health.usable, health

    def test_a_submitted_job_ends_with_its_exit_code(self, watched: Watched, bench: Bench) -> None:
        seen = watched.run(bench.submission(bench.shell("exit 3")))
        assert exit_codes(seen) == [3]
        assert seen.failure is None

    def test_times_of_a_step_are_in_order(self, watched: Watched, bench: Bench) -> None:
        before = time.time()
        (step,) = watched.run(bench.submission(bench.step("echo", "x"))).steps
        assert step.started_at is not None
        assert step.ended_at is not None
        assert before - 2 <= step.started_at <= step.ended_at <= time.time() + 2

    def test_a_job_that_runs_is_seen_running_with_its_step(self, watched: Watched, bench: Bench) -> None:
        handle = watched.executor.submit(bench.submission(bench.step("sleep", "600")))
        deadline = time.monotonic() + PATIENCE
        while not (seen := watched.until(handle, Phase.RUNNING)).steps:
            assert time.monotonic() < deadline
        assert exit_codes(seen) == [None]

    def test_a_failing_step_stops_the_rest(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("echo", "a"), bench.shell("exit 4"), bench.step("echo", "never"))
        assert exit_codes(watched.run(work)) == [0, 4]

    def test_a_failing_step_whose_error_is_ignored_does_not_stop_the_rest(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("exit 4", ignore_error=True), bench.step("echo", "goes on"))
        assert exit_codes(watched.run(work)) == [4, 0]

    def test_an_image_that_was_not_used_is_said(self, watched: Watched, bench: Bench) -> None:
        if watched.executor.capabilities.uses_image:
            return
        messages = watched.run(bench.submission(bench.step("echo", "x"))).messages
        assert any(bench.image in message and "not used" in message for message in messages)

    def test_a_job_is_found_by_its_key_once_it_was_submitted_and_not_before(
        self, executor: Executor, bench: Bench
    ) -> None:
        work = bench.submission(bench.step("sleep", "600"))
        assert executor.find(work.key) is None
        handle = executor.submit(work)
        assert handle.executor == executor.capabilities.name
        assert executor.find(work.key) == handle

    def test_the_same_key_gives_the_same_native_job(self, executor: Executor, bench: Bench) -> None:
        work = bench.submission(bench.step("sleep", "600"))
        assert executor.submit(work) == executor.submit(work)
        assert [key for key, _ in executor.list()] == [work.key]

    def test_a_job_that_ended_is_not_started_again_by_the_same_key(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("exit 5"))
        first = watched.run(work)
        assert watched.run(work) == first

    def test_cancel_ends_a_job_within_two_seconds(self, watched: Watched, bench: Bench) -> None:
        handle = watched.executor.submit(bench.submission(bench.step("sleep", "600")))
        watched.until(handle, Phase.RUNNING)
        begun = time.monotonic()
        watched.executor.cancel(handle)
        assert time.monotonic() - begun < 2
        assert watched.look(handle).phase in {Phase.ENDED, Phase.UNSEEN}

    def test_cancel_right_after_submit_leaves_nothing(self, watched: Watched, bench: Bench) -> None:
        handle = watched.executor.submit(bench.submission(bench.step("sleep", "600")))
        watched.executor.cancel(handle)
        assert watched.look(handle).phase in {Phase.ENDED, Phase.UNSEEN}

    def test_a_cancelled_job_never_looks_like_success(self, watched: Watched, bench: Bench) -> None:
        handle = watched.executor.submit(bench.submission(bench.step("sleep", "600"), bench.step("echo", "x")))
        watched.until(handle, Phase.RUNNING)
        watched.executor.cancel(handle)
        seen = watched.look(handle)
        assert seen.phase is Phase.UNSEEN or seen.failure is not None or exit_codes(seen) not in ([0], [0, 0])

    def test_cancel_and_forget_may_be_repeated(self, watched: Watched, bench: Bench) -> None:
        handle = watched.executor.submit(bench.submission(bench.step("sleep", "600")))
        for _ in range(2):
            watched.executor.cancel(handle)
        for _ in range(2):
            watched.executor.forget(handle)
        watched.executor.cancel(handle)

    def test_cancel_of_a_job_that_ended_keeps_its_evidence(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("exit 6"))
        seen = watched.run(work)
        handle = watched.executor.find(work.key)
        assert handle is not None
        watched.executor.cancel(handle)
        after = watched.look(handle)
        assert after.phase is Phase.UNSEEN or (exit_codes(after), after.failure) == (exit_codes(seen), None)

    def test_a_forgotten_job_is_unseen_and_not_found(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("echo", "x"))
        watched.run(work)
        handle = watched.executor.find(work.key)
        assert handle is not None
        watched.executor.forget(handle)
        assert watched.look(handle).phase is Phase.UNSEEN
        assert watched.executor.find(work.key) is None

    def test_a_handle_that_nobody_gave_is_unseen(self, watched: Watched) -> None:
        name = watched.executor.capabilities.name
        for native_id in ("nosuchjob-1", "nonsense"):
            handle = Handle(executor=name, native_id=native_id)
            assert watched.look(handle).phase is Phase.UNSEEN
            watched.executor.cancel(handle)
            watched.executor.forget(handle)

    def test_wake_is_called_when_a_job_ends(self, watched: Watched, bench: Bench) -> None:
        if not watched.executor.capabilities.wakes:
            return
        handle = watched.executor.submit(bench.submission(bench.step("echo", "x")))
        while watched.look(handle).phase is not Phase.ENDED:
            assert watched.woken.get(timeout=PATIENCE) == handle

    def test_the_list_names_what_runs_and_nothing_that_was_forgotten(self, watched: Watched, bench: Bench) -> None:
        executor = watched.executor
        assert list(executor.list()) == []
        handles = {}
        for _ in range(2):
            work = bench.submission(bench.step("sleep", "600"))
            handles[work.key] = executor.submit(work)
        assert dict(executor.list()) == handles
        for handle in handles.values():
            executor.cancel(handle)
            executor.forget(handle)
        assert list(executor.list()) == []

    def test_another_executor_object_finds_cancels_and_forgets(
        self, watch: Callable[[], Watched], bench: Bench
    ) -> None:
        first = watch()
        work = bench.submission(bench.step("sleep", "600"))
        handle = first.executor.submit(work)
        first.executor.stop()
        second = watch()
        assert second.executor.find(work.key) == handle
        assert second.look(handle).phase in {Phase.WAITING, Phase.RUNNING}
        second.executor.cancel(handle)
        assert second.look(handle).phase in {Phase.ENDED, Phase.UNSEEN}
        second.executor.forget(handle)
        assert list(second.executor.list()) == []

    def test_start_and_stop_may_be_repeated(self, watched: Watched, bench: Bench) -> None:
        watched.executor.start(watched.woken.put)
        watched.executor.stop()
        watched.executor.stop()
        watched.executor.start(watched.woken.put)
        assert exit_codes(watched.run(bench.submission(bench.shell("exit 7")))) == [7]

    def test_many_handles_are_observed_in_one_call(self, watched: Watched, bench: Bench) -> None:
        codes = {watched.executor.submit(bench.submission(bench.shell(f"exit {code}"))): code for code in range(5)}
        for handle in codes:
            watched.until(handle, Phase.ENDED)
        seen = watched.executor.observe(list(codes))
        assert {handle: exit_codes(seen[handle]) for handle in codes} == {h: [code] for h, code in codes.items()}

    #: How many jobs the next test starts.
    crowd = 100

    def test_a_hundred_quick_jobs_all_end(self, watched: Watched, bench: Bench) -> None:
        works = [bench.submission(bench.shell(f"exit {number % 7}")) for number in range(self.crowd)]
        with ThreadPoolExecutor(4) as pool:
            handles = list(pool.map(watched.executor.submit, works))
        assert len(set(handles)) == self.crowd
        codes = [exit_codes(watched.until(handle, Phase.ENDED, 4 * PATIENCE)) for handle in handles]
        assert codes == [[number % 7] for number in range(self.crowd)]


class ExecutorContract(PortContract):
    """What the steps of a real executor see and do."""

    def test_stdout_and_stderr_are_in_the_log_files(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo out; echo err >&2"), bench.step("echo", "second"))
        watched.run(work)
        assert bench.log(work, 0, "stdout") == "out\n"
        assert bench.log(work, 0, "stderr") == "err\n"
        assert bench.log(work, 1, "stdout") == "second\n"
        assert bench.log(work, 1, "stderr") == ""

    def test_logs_can_be_read_while_the_step_runs(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo early; sleep 600"))
        watched.executor.submit(work)
        path = log_path(work.folder, work.mounts, work.steps, 0, "stdout")
        wait_for(path)
        deadline = time.monotonic() + PATIENCE
        while path.read_text() != "early\n":
            assert time.monotonic() < deadline

    def test_a_step_may_open_its_standard_error_by_name(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo named > /dev/stderr"))
        assert exit_codes(watched.run(work)) == [0]
        assert bench.log(work, 0, "stderr") == "named\n"

    def test_steps_run_in_sequence_and_see_the_same_mounts(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        work = bench.submission(
            bench.shell("sleep 0.2; echo one > /vol/file"), bench.shell("cat /vol/file"), mounts=(volume,)
        )
        seen = watched.run(work)
        assert exit_codes(seen) == [0, 0]
        assert bench.log(work, 1) == "one\n"
        assert (volume.source / "file").read_text() == "one\n"

    def test_env_and_workdir_are_as_asked(self, watched: Watched, bench: Bench) -> None:
        step = bench.shell('echo "$FLAVOUR"; cat here', env={"FLAVOUR": "a b=c"}, workdir="/vol")
        work = bench.submission(step, mounts=(bench.volume(here="yes\n"),))
        watched.run(work)
        assert bench.log(work) == "a b=c\nyes\n"

    def test_a_step_sees_nothing_of_the_environment_of_weft(
        self, watched: Watched, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEFT_S3__SECRET_ACCESS_KEY", "hush")
        work = bench.submission(bench.shell('echo "<$WEFT_S3__SECRET_ACCESS_KEY>"'))
        watched.run(work)
        assert bench.log(work) == "<>\n"

    def test_a_workdir_that_does_not_exist_is_made(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(
            bench.shell("echo ok", workdir="/somewhere/else"),
            bench.shell("echo ok > file", workdir="/vol/deep/er"),
            mounts=(volume := bench.volume(),),
        )
        assert exit_codes(watched.run(work)) == [0, 0]
        assert (volume.source / "deep/er/file").read_text() == "ok\n"

    def test_stdin_is_a_mounted_file(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("cat", stdin="/vol/words"), mounts=(bench.volume(words="a\nb\n"),))
        watched.run(work)
        assert bench.log(work) == "a\nb\n"

    def test_without_stdin_there_is_nothing_to_read(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("cat"))
        assert exit_codes(watched.run(work)) == [0]
        assert bench.log(work) == ""

    def test_stdin_that_does_not_exist_fails_the_step_or_the_job(self, watched: Watched, bench: Bench) -> None:
        seen = watched.run(bench.submission(bench.step("cat", stdin="/vol/none"), mounts=(bench.volume(),)))
        assert seen.failure is not None or exit_codes(seen) not in ([0], [None])

    def test_a_declared_stdout_can_be_read_by_the_next_step(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(
            bench.shell("echo out; echo err >&2", stdout="/vol/out", stderr="/vol/err"),
            bench.step("cat", "/vol/out", "/vol/err"),
            mounts=(volume := bench.volume(),),
        )
        watched.run(work)
        assert bench.log(work, 1) == "out\nerr\n"
        assert (volume.source / "out").read_text() == "out\n"

    def test_a_declared_stdout_that_no_mount_covers_is_captured(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("echo", "kept", stdout="/elsewhere/out"))
        watched.run(work)
        assert bench.log(work) == "kept\n"

    def test_a_read_only_mount_refuses_writes(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume(read_only=True, words="x")
        seen = watched.run(bench.submission(bench.shell("echo y > /vol/words"), mounts=(volume,)))
        assert exit_codes(seen) not in ([0], [None])
        assert (volume.source / "words").read_text() == "x"

    def test_a_mount_inside_a_mount_is_seen(self, watched: Watched, bench: Bench) -> None:
        inner = bench.volume("/vol/in", read_only=True, words="inner\n")
        work = bench.submission(
            bench.shell("cat /vol/in/words && echo x > /vol/beside"), mounts=(bench.volume(), inner)
        )
        assert exit_codes(watched.run(work)) == [0]
        assert bench.log(work) == "inner\n"

    def test_a_single_file_can_be_mounted(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume(words="single\n")
        file = Mount(source=volume.source / "words", target="/inputs/words", read_only=True)
        work = bench.submission(bench.step("cat", "/inputs/words"), mounts=(file,))
        watched.run(work)
        assert bench.log(work) == "single\n"

    def test_tmp_is_writable(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo x > /tmp/file && cat /tmp/file"))
        watched.run(work)
        assert bench.log(work) == "x\n"

    def test_odd_arguments_arrive_unchanged(self, watched: Watched, bench: Bench) -> None:
        odd = [
            "",
            "a b",
            "'",
            '"',
            "$HOME",
            "`id`",
            "\\",
            "line\nline",
            "*",
            "-e",
            "--",
            "ünïcødé 漢字 🧬",
            "\t",
            "a=b",
        ]
        work = bench.submission(
            bench.step("sh", "-c", 'for word in "$@"; do printf "%s\\0" "$word"; done', "name", *odd),
            bench.shell('printf %s "$ODD"', env={"ODD": "'ü\"\n$x"}),
        )
        watched.run(work)
        assert bench.log(work).split("\0")[:-1] == odd
        assert bench.log(work, 1) == "'ü\"\n$x"

    def test_a_program_that_does_not_exist_fails_the_step_or_the_job(self, watched: Watched, bench: Bench) -> None:
        seen = watched.run(bench.submission(bench.step("no-such-program")))
        assert seen.failure is not None or exit_codes(seen) == [127]

    def test_a_step_killed_by_a_signal_ends_with_128_and_its_number(self, watched: Watched, bench: Bench) -> None:
        assert exit_codes(watched.run(bench.submission(bench.shell("sh -c 'kill -9 $$'; exit $?")))) == [137]

    def test_a_large_output_is_capped_and_keeps_its_end(self, watched: Watched, bench: Bench) -> None:
        line = "0123456789" * 10
        work = bench.submission(
            bench.shell(f"i=0; while [ $i -lt 5000 ]; do echo {line}; i=$((i+1)); done; echo THE END")
        )
        assert exit_codes(watched.run(work)) == [0]
        text = bench.log(work)
        assert len(text) <= 2 * MAX_LOG_BYTES + 65_536
        assert text.endswith("THE END\n")

    def test_the_same_key_runs_its_steps_once(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        work = bench.submission(bench.shell("echo x >> /vol/count"), mounts=(volume,))
        with ThreadPoolExecutor(4) as pool:
            (handle,) = set(pool.map(watched.executor.submit, [work] * 4))
        watched.until(handle, Phase.ENDED)
        watched.executor.submit(work)
        watched.until(handle, Phase.ENDED)
        assert (volume.source / "count").read_text() == "x\n"

    def test_a_second_executor_object_adopts_a_running_job(self, watch: Callable[[], Watched], bench: Bench) -> None:
        volume = bench.volume()
        script = "echo begun; : > /vol/begun; while [ ! -e /vol/go ]; do sleep 0.05; done; echo adopted; exit 7"
        work = bench.submission(bench.shell(script), mounts=(volume,))
        first = watch()
        handle = first.executor.submit(work)
        wait_for(volume.source / "begun")
        first.executor.stop()
        second = watch()
        assert second.executor.find(work.key) == handle
        assert second.look(handle).phase is Phase.RUNNING
        (volume.source / "go").touch()
        assert exit_codes(second.until(handle, Phase.ENDED)) == [7]
        assert bench.log(work) == "begun\nadopted\n"

    def test_a_job_that_ended_while_no_executor_looked_keeps_its_exit_code_and_logs(
        self, watch: Callable[[], Watched], bench: Bench
    ) -> None:
        volume = bench.volume()
        work = bench.submission(
            bench.shell("while [ ! -e /vol/go ]; do sleep 0.05; done; echo alone; : > /vol/done; exit 8"),
            mounts=(volume,),
        )
        first = watch()
        handle = first.executor.submit(work)
        first.executor.stop()
        (volume.source / "go").touch()
        wait_for(volume.source / "done")
        second = watch()
        assert exit_codes(second.until(handle, Phase.ENDED)) == [8]
        assert bench.log(work) == "alone\n"

    def test_cancel_ends_children_too_even_those_that_ignore_sigterm(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        beat = "while :; do echo x >> /vol/beat; sleep 0.05; done"
        step = bench.shell(f"trap '' TERM; ({beat}) & {beat}")
        handle = watched.executor.submit(bench.submission(step, mounts=(volume,)))
        wait_for(volume.source / "beat")
        begun = time.monotonic()
        watched.executor.cancel(handle)
        assert time.monotonic() - begun < 2
        assert not grows(volume.source / "beat")

    def test_children_do_not_outlive_their_step(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        script = "(while :; do echo x >> /vol/beat; sleep 0.05; done) & while [ ! -e /vol/beat ]; do sleep 0.05; done"
        watched.run(bench.submission(bench.shell(script), mounts=(volume,)))
        assert not grows(volume.source / "beat")

    def test_after_cancel_no_further_step_starts(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        work = bench.submission(
            bench.shell(": > /vol/first; sleep 600", ignore_error=True),
            bench.shell(": > /vol/second"),
            mounts=(volume,),
        )
        handle = watched.executor.submit(work)
        wait_for(volume.source / "first")
        watched.executor.cancel(handle)
        assert not (volume.source / "second").exists()

    def test_forget_leaves_the_logs(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("echo", "stays"))
        watched.run(work)
        handle = watched.executor.find(work.key)
        assert handle is not None
        watched.executor.forget(handle)
        assert bench.log(work) == "stays\n"
