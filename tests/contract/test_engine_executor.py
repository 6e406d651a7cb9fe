"""The executor ``engine`` keeps the calls' contract by cold processes; and what is its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors import engine
from executors.engine import create
from tests.contract.suite import PATIENCE, Bench, PortContract, Watched, exit_codes, grows, wait_for
from tests.engines.fake_tes import FakeTes
from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.folders import Folders
from weft.model import Kind, Mount, Run, Step, Submission
from weft.ports import Executor, Phase
from weft.sections.backends import EngineSettings
from wes_service.engines.snakemake import HOST_IMAGE, SnakemakeEngine

ECHO = "rule a:\n    output: 'x'\n    shell: 'echo made > {output}'\n"


class TestEngineExecutor(PortContract):
    crowd = 24

    def make_executor(self, settings: Settings) -> Executor:
        return create(settings)


class Runs:
    """Makes runs of Snakefiles as the worker does."""

    def __init__(self, settings: Settings, user: int | None) -> None:
        self.folders = Folders(settings.data)
        self.way_out = settings.engine_socket
        self.user = user
        self._count = 0

    def work_of(self, run: Submission) -> Path:
        return self.folders.work(run.job_id)

    def outcome(self, run: Submission) -> object:
        return json.loads((self.work_of(run) / ".weft/outcome.json").read_bytes())

    def log(self, run: Submission, stream: str = "stderr") -> str:
        return (run.folder / "logs" / f"0.{stream}").read_text()

    def submission(self, snakefile: str, step: Step | None = None) -> Submission:
        self._count += 1
        job = f"run{self._count:04d}"
        work, attempt = self.folders.work(job), self.folders.attempt(job, 1)
        for folder in (work / ".weft", attempt.logs, attempt.control):
            folder.mkdir(parents=True)
        (work / "Snakefile").write_text(snakefile)
        token = attempt.control / "token"
        token.write_text("secret")
        token.chmod(0o400)
        made = SnakemakeEngine(version="9", default_image="busybox", weft_image=HOST_IMAGE).step(
            a_run(), work, work / ".weft/outcome.json", f"unix://{self.way_out}", token
        )
        if self.user is not None:
            for path in (work, *work.rglob("*"), attempt.logs, token):
                os.chown(path, self.user, self.user)
        return Submission(
            key=f"{job}-1",
            job_id=job,
            attempt=1,
            kind=Kind.RUN,
            steps=(step or made,),
            folder=attempt.root,
            mounts=(Mount(source=work, target=str(work)),),
            uid=self.user,
            gid=self.user,
        )


def a_run() -> Run:
    return Run(
        workflow_type="SMK",
        workflow_type_version="1.0",
        workflow_url="Snakefile",
        workflow_engine="snakemake",
        workflow_engine_version="9",
    )


@pytest.fixture
def settings(data: Path) -> Settings:
    data.chmod(0o711)
    return Settings(data=data, engine=EngineSettings(warm_idle_seconds=60))


@pytest.fixture
def watched(settings: Settings) -> Iterator[Watched]:
    watched = Watched(create(settings))
    yield watched
    for _, handle in list(watched.executor.list()):
        watched.executor.forget(handle)
    watched.executor.stop()
    end_hosts(settings)


@pytest.fixture
def runs(settings: Settings, bench: Bench) -> Runs:
    return Runs(settings, bench.user)


@pytest.fixture
def tes(settings: Settings, bench: Bench) -> Iterator[FakeTes]:
    settings.engine_socket.parent.mkdir(exist_ok=True)
    with FakeTes(settings.engine_socket, uid=bench.user) as fake:
        yield fake


def hosts_of(settings: Settings) -> list[int]:
    """Find the warm hosts of this data folder by their command line."""
    wanted = f"{settings.data / 'engine-host'}/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_host = path.with_name("comm").read_text() == "weft-host\n"
            if is_host and wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def end_hosts(settings: Settings) -> None:
    for pid in hosts_of(settings):
        os.kill(pid, signal.SIGKILL)
        reap(pid)


def reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        gone(pid)


def gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} lives"
        time.sleep(0.01)


def test_a_run_goes_through_the_warm_host_and_leaves_its_outcome(watched: Watched, runs: Runs, tes: FakeTes) -> None:
    run = runs.submission(ECHO)
    seen = watched.run(run)
    assert (exit_codes(seen), seen.failure, seen.messages) == ([0], None, ()), runs.log(run)
    assert runs.outcome(run) == {"files": ["x"]}
    assert (runs.work_of(run) / "x").read_text() == "made\n"
    assert "1 of 1 steps (100%) done" in runs.log(run)
    assert tes.states() == ["COMPLETE"]


def test_two_runs_share_one_host_and_nothing_else(
    watched: Watched, runs: Runs, tes: FakeTes, settings: Settings
) -> None:
    leaving = "import os\nos.environ['LEFT'] = 'behind'\nconfig['left'] = 1\n" + ECHO
    assert exit_codes(watched.run(runs.submission(leaving))) == [0]
    looking = "import os\nassert 'LEFT' not in os.environ and 'left' not in config\n" + ECHO
    run = runs.submission(looking)
    assert exit_codes(watched.run(run)) == [0], runs.log(run)
    assert len(hosts_of(settings)) == 1


def test_a_failing_run_ends_with_1(watched: Watched, runs: Runs, tes: FakeTes) -> None:
    run = runs.submission(ECHO.replace("echo made", "echo broken >&2; exit 7; echo"))
    seen = watched.run(run)
    assert (exit_codes(seen), seen.failure) == ([1], None)
    assert "broken" in runs.log(run)


def test_cancel_cancels_the_tasks_of_the_run(watched: Watched, runs: Runs, tes: FakeTes) -> None:
    handle = watched.executor.submit(runs.submission(ECHO.replace("echo", "sleep 600; echo")))
    tes.wait_for(lambda: "RUNNING" in tes.states())
    begun = time.monotonic()
    watched.executor.cancel(handle)
    assert time.monotonic() - begun < 3
    seen = watched.look(handle)
    assert seen.failure is not None
    assert seen.failure.reason == "the job was cancelled"
    assert tes.states() == ["CANCELED"]


def test_a_killed_supervisor_takes_its_engine_along(watched: Watched, runs: Runs, tes: FakeTes) -> None:
    beat = "import threading, time\nwhile True:\n    open('beat', 'a').write('x')\n    time.sleep(0.05)\n"
    run = runs.submission(beat)
    handle = watched.executor.submit(run)
    wait_for(runs.work_of(run) / "beat")
    os.kill(json.loads((run.folder / "control/pid").read_bytes())["pid"], signal.SIGKILL)
    seen = watched.until(handle, Phase.ENDED)
    assert seen.failure is not None
    assert seen.failure.retry
    assert not grows(runs.work_of(run) / "beat")


def test_a_run_outlives_its_host_and_its_executor_object(
    watched: Watched, runs: Runs, tes: FakeTes, settings: Settings
) -> None:
    run = runs.submission(ECHO.replace("echo", "while [ ! -e go ]; do sleep 0.02; done; echo"))
    handle = watched.executor.submit(run)
    tes.wait_for(lambda: "RUNNING" in tes.states())
    watched.executor.stop()
    end_hosts(settings)
    second = Watched(create(settings))
    assert second.look(handle).phase is Phase.RUNNING
    (runs.work_of(run) / "go").touch()
    assert exit_codes(second.until(handle, Phase.ENDED)) == [0], runs.log(run)
    second.executor.stop()


class WithFolder(Settings):
    """Settings whose engine socket has a folder of its own, which a sandbox can show."""

    @property
    def engine_socket(self) -> Path:
        return self.data / "engine" / "tes.sock"


def test_a_run_finds_the_server_again_after_its_restart_where_the_socket_has_a_folder(data: Path, bench: Bench) -> None:
    settings = WithFolder(data=data)
    settings.engine_socket.parent.mkdir()
    runs, watched = Runs(settings, bench.user), Watched(create(settings))
    with FakeTes(settings.engine_socket, uid=bench.user) as tes:
        run = runs.submission(ECHO.replace("echo", "while [ ! -e go ]; do sleep 0.02; done; echo"))
        handle = watched.executor.submit(run)
        tes.wait_for(lambda: "RUNNING" in tes.states())
        tes.close()
        (runs.work_of(run) / "go").touch()
        tes.wait_for(lambda: "COMPLETE" in tes.states())
        tes.open()
        assert exit_codes(watched.until(handle, Phase.ENDED)) == [0], runs.log(run)
    watched.executor.stop()
    end_hosts(settings)


def test_a_host_that_was_killed_is_replaced(watched: Watched, runs: Runs, tes: FakeTes, settings: Settings) -> None:
    assert exit_codes(watched.run(runs.submission(ECHO))) == [0]
    (first,) = hosts_of(settings)
    end_hosts(settings)
    assert exit_codes(watched.run(runs.submission(ECHO))) == [0]
    (second,) = hosts_of(settings)
    assert first != second


def test_an_idle_host_ends_and_the_next_run_starts_another(data: Path, runs: Runs, tes: FakeTes) -> None:
    settings = Settings(data=data, engine=EngineSettings(warm_idle_seconds=0.2))
    watched = Watched(create(settings))
    assert exit_codes(watched.run(runs.submission(ECHO))) == [0]
    for pid in hosts_of(settings):
        reap(pid)
    assert not [path for path in (data / "engine-host").iterdir() if path.is_socket()]
    assert exit_codes(watched.run(runs.submission(ECHO))) == [0]
    for pid in hosts_of(settings):
        reap(pid)
    watched.executor.stop()


def test_a_host_ends_when_its_data_folder_is_gone(
    watched: Watched, runs: Runs, tes: FakeTes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_codes(watched.run(runs.submission(ECHO))) == [0]
    (pid,) = hosts_of(settings)
    shutil.rmtree(settings.data / "engine-host")
    reap(pid)  # within a beat of five seconds


def test_without_a_warm_host_a_run_starts_cold(watched: Watched, runs: Runs, tes: FakeTes, settings: Settings) -> None:
    (settings.data / "engine-host").write_text("in the way")
    run = runs.submission(ECHO)
    assert exit_codes(watched.run(run)) == [0], runs.log(run)
    assert runs.outcome(run) == {"files": ["x"]}
    assert hosts_of(settings) == []


def test_a_mount_at_another_path_is_refused(watched: Watched, bench: Bench) -> None:
    with pytest.raises(ExecutorRefused, match="own paths"):
        watched.executor.submit(bench.submission(bench.step("true"), mounts=(bench.volume("/vol"),)))


# -- what a workflow file, which is code, can reach ------------------------------------------------------------------

PROBE = """
import json, os, socket

def attempt(what):
    try:
        return str(what())
    except Exception as error:
        return type(error).__name__

listener = {port!r}
found = {{
    "database": attempt(lambda: open({data!r} + "/weft.db").read()),
    "data": attempt(lambda: sorted(os.listdir({data!r}))),
    "jobs": attempt(lambda: sorted(os.listdir({data!r} + "/jobs"))),
    "control": attempt(lambda: sorted(os.listdir({control!r}))),
    "status": attempt(lambda: open({control!r} + "/status.json", "w").write("forged")),
    "shadow": attempt(lambda: open("/etc/shadow").read()),
    "root": attempt(lambda: sorted(os.listdir("/root"))),
    "system": attempt(lambda: open("/usr/planted", "w")),
    "tcp": attempt(lambda: socket.create_connection(("127.0.0.1", listener), 2)),
    "docker": attempt(lambda: os.path.exists("/var/run/docker.sock") or os.path.exists("/run/docker.sock")),
    "user": os.getuid(),
    "environment": dict(os.environ),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[-1] < 1000,
    "descriptors": sorted(os.readlink("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")
                          if os.path.exists("/proc/self/fd/" + name)),
    "signal": attempt(lambda: os.kill({own}, 0)),
    "become_root": attempt(lambda: os.setuid(0)),
    "tmp": attempt(lambda: (open("/tmp/mine", "w").close(), sorted(os.listdir("/tmp")))[1]),
    "home": attempt(lambda: open(os.path.expanduser("~/mine"), "w").close()),
    "shared_memory": attempt(lambda: open("/dev/shm/mine", "w").close()),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
}}
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture
def found(
    watched: Watched, runs: Runs, tes: FakeTes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """What a hostile Snakefile finds, beside another run."""
    monkeypatch.setenv("WEFT_S3__SECRET_ACCESS_KEY", "hush")
    (settings.data / "weft.db").write_text("everything")
    other = runs.submission(ECHO)
    run = runs.submission("")
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe = PROBE.format(
            data=str(settings.data),
            control=str(run.folder / "control"),
            port=server.getsockname()[1],
            own=os.getpid(),
        )
        (runs.work_of(run) / "Snakefile").write_text(probe + ECHO)
        assert exit_codes(watched.run(run)) == [0], runs.log(run)
    assert other.folder.exists()
    result: dict[str, object] = json.loads((runs.work_of(run) / "found.json").read_bytes())
    return {**result, "run": run.job_id}


def test_a_workflow_cannot_read_the_database_or_see_other_runs(found: dict[str, object]) -> None:
    assert found["database"] == "FileNotFoundError"
    assert found["jobs"] == f"['{found['run']}']"
    assert set(eval(str(found["data"]))) == {"jobs", "engine.sock"} or "engine" in str(found["data"])


def test_a_workflow_sees_of_its_control_folder_only_the_token(found: dict[str, object]) -> None:
    assert found["control"] == "['token']"
    assert found["status"] in {"PermissionError", "OSError"}


def test_a_workflow_cannot_read_secrets_of_the_host_or_write_to_it(found: dict[str, object]) -> None:
    assert found["shadow"] == "FileNotFoundError"
    assert "'.ssh'" not in str(found["root"])
    assert found["system"] in {"PermissionError", "OSError"}
    assert found["docker"] == "False"


def test_a_workflow_cannot_open_a_tcp_connection(found: dict[str, object]) -> None:
    assert found["tcp"] in {"ConnectionRefusedError", "OSError"}


def test_a_workflow_sees_no_secret_in_its_environment(found: dict[str, object]) -> None:
    environment = found["environment"]
    assert isinstance(environment, dict)
    assert not [name for name in environment if name.startswith("WEFT_") and name != "WEFT_KEY"]
    assert "hush" not in json.dumps(environment)
    assert environment["HOME"] == "/home/weft"


def test_a_workflow_sees_no_process_and_no_descriptor_of_anybody_else(found: dict[str, object]) -> None:
    assert found["processes"] is True
    assert found["signal"] == "ProcessLookupError"
    descriptors = found["descriptors"]
    assert isinstance(descriptors, list)
    assert not [name for name in descriptors if not name.startswith(("pipe:", "/dev/null", "anon_inode:", "/proc/"))
                and "/work/" not in name and "socket:" not in name]  # fmt: skip


def test_a_workflow_has_no_rights(found: dict[str, object], bench: Bench) -> None:
    assert found["user"] == (bench.user or os.getuid())
    assert found["become_root"] == "PermissionError"
    assert found["capabilities"] == ["0" * 16] * 5


def test_a_workflow_has_a_tmp_a_home_and_shared_memory_of_its_own(found: dict[str, object]) -> None:
    assert (found["home"], found["shared_memory"]) == ("None", "None")
    assert "'mine'" in str(found["tmp"])
    assert not Path("/tmp/mine").exists()


def test_where_no_namespace_can_be_made_a_run_goes_on_and_says_so(
    watched: Watched, runs: Runs, tes: FakeTes, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = "from executors import sandbox; sandbox.problem = lambda: 'namespaces are refused here';"
    monkeypatch.setattr(engine, "_START", engine._START.replace("from executors.engine_host", refusing + " from executors.engine_host"))  # fmt: skip  # noqa: E501
    run = runs.submission(ECHO)
    seen = watched.run(run)
    assert exit_codes(seen) == [0], runs.log(run)
    assert any("without a sandbox" in message and "refused here" in message for message in seen.messages)


def test_memory_is_limited(data: Path, runs: Runs, tes: FakeTes) -> None:
    settings = Settings(data=data, engine=EngineSettings(memory_gb=1.5))
    watched = Watched(create(settings))
    run = runs.submission("large = bytearray(2 * 10**9)\n" + ECHO)
    assert exit_codes(watched.run(run)) == [1]
    assert "MemoryError" in runs.log(run)
    watched.executor.stop()
    end_hosts(settings)


def test_a_python_that_is_not_an_engine_runs_cold(watched: Watched, bench: Bench, settings: Settings) -> None:
    seen = watched.run(bench.submission(bench.step(sys.executable, "-m", "this")))
    assert exit_codes(seen) == [0]
    assert hosts_of(settings) == []


def test_the_warm_hosts_end_with_the_executor_and_the_engines_go_on(
    watched: Watched, runs: Runs, tes: FakeTes, settings: Settings
) -> None:
    run = runs.submission(ECHO.replace("echo", "while [ ! -e go ]; do sleep 0.02; done; echo"))
    handle = watched.executor.submit(run)
    tes.wait_for(lambda: "RUNNING" in tes.states())
    (host,) = hosts_of(settings)
    begun = time.monotonic()
    watched.executor.stop()
    reap(host)
    assert time.monotonic() - begun < settings.engine.warm_idle_seconds / 4, "it ended for being idle"
    again = Watched(create(settings))
    (runs.work_of(run) / "go").touch()
    assert exit_codes(again.until(handle, Phase.ENDED)) == [0], runs.log(run)
    again.executor.stop()
