"""The executor ``process`` keeps the contract, in the sandbox and without; and what is its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executors import supervisor
from executors.process import WALK_ALL_EVERY, create, supervisor_argv
from tests.contract.suite import MAX_LOG_BYTES, PATIENCE, Bench, ExecutorContract, Watched, exit_codes, grows, wait_for
from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.folders import Folders
from weft.model import Resources
from weft.ports import Executor, Phase
from weft.sections.backends import ProcessSettings

BEAT = "while :; do echo x >> /vol/beat; sleep 0.05; done"


class ProcessContract(ExecutorContract):
    def make_executor(self, settings: Settings) -> Executor:
        return create(settings)

    def test_a_supervisor_that_was_killed_takes_its_step_along_and_is_no_success(
        self, watched: Watched, bench: Bench, data: Path
    ) -> None:
        volume = bench.volume()
        work = bench.submission(bench.shell(f"({BEAT}) & {BEAT}"), mounts=(volume,))
        handle = watched.executor.submit(work)
        wait_for(volume.source / "beat")
        os.kill(supervisor_of(work.folder), signal.SIGKILL)
        seen = watched.until(handle, Phase.ENDED)
        assert seen.failure is not None
        assert (seen.failure.reason, seen.failure.retry) == ("the supervisor of this job was killed", True)
        assert not grows(volume.source / "beat")

    def test_a_number_that_another_process_has_now_is_not_taken_for_the_supervisor(
        self, watched: Watched, bench: Bench
    ) -> None:
        work = bench.submission(bench.step("sleep", "600"))
        handle = watched.executor.submit(work)
        watched.executor.stop()
        os.kill(supervisor_of(work.folder), signal.SIGKILL)
        claim = work.folder / "control" / "pid"
        claim.write_text(claim.read_text().replace(f'"pid": {supervisor_of(work.folder)}', f'"pid": {os.getpid()}'))
        assert watched.look(handle).phase is Phase.ENDED
        watched.executor.cancel(handle)  # would end this very process

    def test_files_that_a_crash_of_the_machine_cut_off_are_no_success_and_no_error(
        self, watched: Watched, bench: Bench
    ) -> None:
        work = bench.submission(bench.step("echo", "x"))
        watched.run(work)
        handle = watched.executor.find(work.key)
        assert handle is not None
        for name in ("status.json", "pid", "job.json"):
            (work.folder / "control" / name).write_text("")
            seen = watched.look(handle)
            assert (seen.phase, seen.failure is not None) == (Phase.ENDED, True)
        watched.executor.cancel(handle)
        assert watched.executor.submit(work) == handle

    def test_a_step_outlives_the_process_that_submitted_it(
        self, watch: Callable[[], Watched], bench: Bench, settings: Settings
    ) -> None:
        volume = bench.volume()
        work = bench.submission(
            bench.shell(": > /vol/begun; while [ ! -e /vol/go ]; do sleep 0.05; done; exit 9"), mounts=(volume,)
        )
        pid = os.fork()
        if pid == 0:
            create(settings).submit(work)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        wait_for(volume.source / "begun")
        second = watch()
        handle = second.executor.find(work.key)
        assert handle is not None
        (volume.source / "go").touch()
        assert exit_codes(second.until(handle, Phase.ENDED)) == [9]

    def test_a_step_has_the_memory_that_was_asked_for_and_no_more(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("python3", "-c", "bytearray(300_000_000)"), resources=Resources(ram_gb=0.2))
        seen = watched.run(work)
        assert exit_codes(seen) == [1]
        assert "MemoryError" in bench.log(work, 0, "stderr")

    def test_the_search_path_ends_with_the_tools_beside_weft(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell('echo "$PATH"'))
        watched.run(work)
        path = bench.log(work).strip().split(":")
        assert path[-1] == str(Path(sys.prefix) / "bin")
        assert "/usr/bin" in path[:-1]

    def test_an_argument_with_a_nul_is_refused(self, executor: Executor, bench: Bench) -> None:
        with pytest.raises(ExecutorRefused, match="NUL"):
            executor.submit(bench.submission(bench.step("echo", env={"A": "b\0--bind\0/\0/"})))

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a user to protect from")
    def test_a_stream_is_opened_with_the_rights_of_the_step(self, watched: Watched, bench: Bench, data: Path) -> None:
        secret = data / "secret"
        secret.write_text("untouched")
        secret.chmod(0o600)
        volume = bench.volume()
        work = bench.submission(
            bench.shell(f"ln -s {secret} /vol/out"), bench.step("echo", "planted", stdout="/vol/out"), mounts=(volume,)
        )
        watched.run(work)
        assert secret.read_text() == "untouched"

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a step another user")
    def test_a_step_runs_as_the_user_of_its_job_without_rights(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("id -u; id -g; id -G; cat /proc/self/status"))
        watched.run(work)
        uid, gid, groups, *status = bench.log(work).splitlines()
        assert (uid, gid, groups) == ("30000", "30000", "30000")
        lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
        assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == int(lines["CapInh"], 16) == 0
        assert lines["NoNewPrivs"] == "1"

    def test_no_zombie_is_left(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("echo", "x"))
        watched.run(work)
        handle = watched.executor.find(work.key)
        assert handle is not None
        pid = supervisor_of(work.folder)
        watched.executor.forget(handle)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap (bwrap) is not installed")
class TestProcessInASandbox(ProcessContract):
    def test_its_health_tells_of_the_sandbox(self, executor: Executor) -> None:
        assert "bubblewrap sandbox" in executor.check().detail

    def test_a_step_sees_nothing_of_the_host(self, watched: Watched, bench: Bench, data: Path) -> None:
        (data / "secret").write_text("s")
        work = bench.submission(
            bench.shell(f"echo /*; cat {data}/secret /etc/shadow; echo $(cat /proc/[0-9]*/stat | wc -l); hostname; pwd")
        )
        watched.run(work)
        top, processes, name, workdir = bench.log(work).splitlines()
        assert not {"/home", "/var", "/run", "/srv", "/mnt"} & set(top.split())
        assert int(processes) <= 6
        assert (name, workdir) == ("weft", "/")

    def test_the_python_that_runs_weft_can_be_used_by_a_step(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step(sys.executable, "-c", "import pydantic, multiprocessing.synchronize"))
        assert exit_codes(watched.run(work)) == [0], bench.log(work, 0, "stderr")

    def test_a_step_has_no_network_but_loopback(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.step("cat", "/proc/net/dev"))
        watched.run(work)
        assert [line.split(":")[0].strip() for line in bench.log(work).splitlines()[2:]] == ["lo"]

    def test_a_network_is_there_where_the_settings_say_so(self, bench: Bench, data: Path) -> None:
        watched = Watched(create(Settings(data=data, process=ProcessSettings(network=True))))
        work = bench.submission(bench.step("cat", "/proc/net/dev"))
        watched.run(work)
        watched.executor.stop()
        here = Path("/proc/self/net/dev").read_text()
        assert [line.split(":")[0] for line in bench.log(work).splitlines()[2:]] == [
            line.split(":")[0] for line in here.splitlines()[2:]
        ]

    def test_the_root_and_the_system_are_read_only(self, watched: Watched, bench: Bench) -> None:
        work = bench.submission(bench.shell("echo > /x || echo > /usr/x || echo > /etc/x || echo > /bin/x || exit 42"))
        assert exit_codes(watched.run(work)) == [42]

    def test_a_sandbox_that_cannot_be_made_is_no_failure_of_the_program(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        volume.source.rmdir()
        seen = watched.run(bench.submission(bench.step("echo"), mounts=(volume,)))
        assert seen.failure is not None
        assert "sandbox could not be made" in seen.failure.reason

    def test_a_link_planted_where_something_is_mounted_is_refused(self, watched: Watched, bench: Bench) -> None:
        inner = bench.volume("/vol/deep/in")
        work = bench.submission(
            bench.shell("mv /vol/deep /vol/away; ln -s /oldroot/tmp /vol/deep"),
            bench.step("echo"),
            mounts=(bench.volume(), inner),
        )
        seen = watched.run(work)
        assert seen.failure is not None
        assert "symbolic link" in seen.failure.reason

    def test_a_path_that_cannot_be_mounted_is_refused_at_once(self, executor: Executor, bench: Bench) -> None:
        with pytest.raises(ExecutorRefused, match="/usr/no/such/place"):
            executor.submit(bench.submission(bench.step("echo"), mounts=(bench.volume("/usr/no/such/place"),)))

    def test_a_variable_for_the_loader_reaches_the_step_alone(self, watched: Watched, bench: Bench) -> None:
        step = bench.shell('echo "$LD_PRELOAD"', env={"LD_PRELOAD": "/vol/none.so"})
        work = bench.submission(step, mounts=(bench.volume(),))
        watched.run(work)
        assert bench.log(work) == "/vol/none.so\n"
        said = bench.log(work, 0, "stderr").splitlines()
        assert all(line.startswith("ERROR: ld.so: object '/vol/none.so'") for line in said)


class TestProcessWithoutASandbox(ProcessContract):
    @pytest.fixture
    def settings(self, data: Path) -> Settings:
        return Settings(data=data, max_log_bytes=MAX_LOG_BYTES, process=ProcessSettings(sandbox=False))

    def test_a_read_only_mount_refuses_writes(self, watched: Watched, bench: Bench) -> None:
        """Nothing but file modes can refuse them here, so the job's messages say that there is no sandbox."""
        seen = watched.run(bench.submission(bench.step("echo", "x")))
        assert any("without a sandbox" in message for message in seen.messages)

    def test_a_mount_inside_a_mount_is_seen(self, watched: Watched, bench: Bench) -> None:
        """Texts are mapped by the deepest mount."""
        inner = bench.volume("/vol/in", words="inner\n")
        work = bench.submission(bench.step("cat", "/vol/in/words"), mounts=(bench.volume(), inner))
        watched.run(work)
        assert bench.log(work) == "inner\n"

    def test_a_process_that_left_its_session_does_not_outlive_the_step(self, watched: Watched, bench: Bench) -> None:
        volume = bench.volume()
        script = f"setsid sh -c '{BEAT}' & while [ ! -e /vol/beat ]; do sleep 0.05; done"
        watched.run(bench.submission(bench.shell(script), mounts=(volume,)))
        assert not grows(volume.source / "beat")


def supervisor_of(folder: Path) -> int:
    """Return the process id that the control folder of an attempt names."""
    return int(json.loads((folder / "control" / "pid").read_text())["pid"])


def test_a_supervisor_that_gets_no_word_starts_nothing(bench: Bench, settings: Settings) -> None:
    """As when weft dies between starting it and claiming the folder."""
    control = bench.data / "control"
    control.mkdir()
    done = subprocess.run(
        supervisor_argv(control), stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(control.iterdir()) == []


def test_a_supervisor_for_whom_the_folder_is_claimed_needs_no_word(bench: Bench, settings: Settings) -> None:
    """As when weft dies between claiming the folder for it and telling it so."""
    control = bench.data / "control"
    control.mkdir()
    plan = {"steps": [], "messages": [], "metadata": {}, "grace_seconds": 1.0}
    (control / "job.json").write_text(json.dumps(plan))
    started = subprocess.Popen(supervisor_argv(control), stdin=subprocess.PIPE)
    assert supervisor.claim(str(control), "process", started.pid)
    assert started.stdin is not None
    started.stdin.close()
    assert started.wait(PATIENCE) == 0
    assert json.loads((control / "status.json").read_text())["over"] is True


def test_a_job_without_a_note_is_listed_by_the_next_walk_through_all_folders(bench: Bench, settings: Settings) -> None:
    """The note is the quick way; what lost it is found in the end."""
    executor = create(settings)
    noted = bench.submission(bench.shell("sleep 1000"))
    lost = bench.submission(bench.shell("sleep 1000"))
    handles = [executor.submit(work) for work in (noted, lost)]
    Folders(settings.data).clear(lost.key)
    try:
        seen = [{key for key, _ in executor.list()} for _ in range(WALK_ALL_EVERY + 1)]
        assert seen[0] == seen[-1] == {noted.key, lost.key}
        assert all(keys == {noted.key} for keys in seen[1:-1])
    finally:
        for handle in handles:
            executor.forget(handle)
    assert list(executor.list()) == []
