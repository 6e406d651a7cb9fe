"""What a step's container looks like, and what its end means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executors import docker_containers as containers
from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.model import Kind, Mount, Resources, Step, StepResult, Submission
from weft.ports import Failure

LIMITS = replace(
    containers.limits_of(Settings(data=Path("/data")), "me", {"NCPU": 4, "MemTotal": 8 * 10**9}), uid=1000, gid=1000
)
FINISHED = {"StartedAt": "2026-01-01T00:00:00.5Z", "FinishedAt": "2026-01-01T00:00:01.123456789Z", "Error": ""}
RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "


def a_submission(step: Step | None = None, **changes: Any) -> Submission:
    step = step or Step(image="busybox", command=("true",))
    fields = {"key": "j-1", "job_id": "j", "attempt": 1, "kind": Kind.TASK, "steps": (step,), "folder": Path("/f")}
    return Submission(**{**fields, **changes})


def document(work: Submission, limits: containers.Limits = LIMITS) -> dict[str, Any]:
    return containers.create_document(work, 0, "sha256:1", Path("/f/control/hosts"), limits)


def judged(code: int, *, oom: bool = False, memory: int = 64 * 10**6, stderr: bytes = b"") -> StepResult:
    state = {**FINISHED, "ExitCode": code, "OOMKilled": oom}
    return containers.step_result({"State": state, "HostConfig": {"Memory": memory}}, ["prog", "x"], stderr)


def test_the_command_is_the_whole_argv() -> None:
    made = document(a_submission(Step(image="i", command=("echo", "$HOME; rm -rf /"))))
    assert made["Entrypoint"] == [""]
    assert made["Cmd"] == ["echo", "$HOME; rm -rf /"]


def test_a_container_is_closed_by_default() -> None:
    made = document(a_submission())
    host = made["HostConfig"]
    assert made["NetworkDisabled"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Memory"] == host["MemorySwap"] == 2 * 10**9
    assert host["PidsLimit"] == 4096


def test_memory_and_cores_are_what_was_asked_for() -> None:
    host = document(a_submission(resources=Resources(ram_gb=0.5, cpu_cores=2)))["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 500_000_000
    assert host["NanoCpus"] == 2 * 10**9


def test_more_cores_than_the_host_has_are_capped() -> None:
    assert document(a_submission(resources=Resources(cpu_cores=64)))["HostConfig"]["NanoCpus"] == 4 * 10**9


def test_less_memory_than_the_engine_takes_is_raised_to_its_least() -> None:
    assert document(a_submission(resources=Resources(ram_gb=0.001)))["HostConfig"]["Memory"] == 6 << 20


def test_more_memory_than_the_host_has_is_refused() -> None:
    with pytest.raises(ExecutorRefused, match=r"asks for 9 GB of memory; this host has 8\.0 GB"):
        containers.check(a_submission(resources=Resources(ram_gb=9)), LIMITS)


def test_steps_run_as_the_jobs_own_user() -> None:
    assert document(a_submission(uid=600, gid=601))["User"] == "600:601"


def test_without_a_user_of_the_job_steps_never_run_as_root() -> None:
    limits = containers.limits_of(Settings(data=Path("/data")), "me", {})
    assert limits.uid != 0
    assert document(a_submission(), replace(limits, uid=77, gid=78))["User"] == "77:78"


@pytest.mark.parametrize(("target", "expected"), [("/data", True), ("/tmp/x", True), ("/tmp", False)])
def test_tmp_is_a_tmpfs_unless_a_mount_covers_it(target: str, expected: bool) -> None:
    made = document(a_submission(mounts=(Mount(source=Path("/s"), target=target),)))
    assert ("/tmp" in made["HostConfig"]["Tmpfs"]) is expected


def test_mounts_are_binds_whose_source_must_exist() -> None:
    work = a_submission(mounts=(Mount(source=Path("/a:b"), target="/c", read_only=True),))
    expected = {"Type": "bind", "Source": "/a:b", "Target": "/c", "ReadOnly": True}
    assert expected in document(work)["HostConfig"]["Mounts"]


@pytest.mark.parametrize("word", ["true", "yes", "BRIDGE", "1"])
def test_a_network_is_given_where_it_is_asked_for_and_allowed(word: str) -> None:
    work = a_submission(resources=Resources(backend_parameters={"Network": word}))
    made = document(work, replace(LIMITS, allow_network=True))
    assert not made["NetworkDisabled"]
    assert made["HostConfig"]["NetworkMode"] == "bridge"


def test_a_network_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ExecutorRefused, match="no network"):
        containers.check(a_submission(resources=Resources(backend_parameters={"network": "true"})), LIMITS)


def test_a_task_may_always_do_without_a_network() -> None:
    work = a_submission(resources=Resources(backend_parameters={"network": "none"}))
    assert document(work, replace(LIMITS, network=True))["NetworkDisabled"]


def test_a_network_word_that_means_nothing_is_refused() -> None:
    work = a_submission(resources=Resources(backend_parameters={"network": "host"}))
    with pytest.raises(ExecutorRefused, match="neither true nor false"):
        containers.check(work, replace(LIMITS, allow_network=True))


def test_output_into_a_read_only_input_is_refused() -> None:
    step = Step(image="i", command=("a",), stdout="/in/file")
    work = a_submission(step, mounts=(Mount(source=Path("/s"), target="/in", read_only=True),))
    with pytest.raises(ExecutorRefused, match=r"step 0: stdout /in/file lies in a read-only input"):
        containers.check(work, LIMITS)


def test_the_engine_keeps_all_of_what_a_step_names_a_file_for() -> None:
    named = document(a_submission(Step(image="i", command=("a",), stdout="/data/out")))["HostConfig"]["LogConfig"]
    captured = document(a_submission())["HostConfig"]["LogConfig"]
    assert named["Config"]["max-size"] == containers.UNLIMITED
    assert captured["Config"]["max-size"] == str(128 << 20)


def test_an_exit_code_and_its_times_are_read() -> None:
    assert judged(3) == StepResult(started_at=1767225600.5, ended_at=1767225601.123456, exit_code=3)


def test_a_quick_step_does_not_end_before_it_started() -> None:
    state = {**FINISHED, "StartedAt": "2026-01-01T00:00:01.124Z", "ExitCode": 0}
    result = containers.step_result({"State": state, "HostConfig": {}}, ["true"], b"")
    assert result.started_at == result.ended_at == 1767225601.123456


def test_out_of_memory_is_said_in_words() -> None:
    assert judged(137, oom=True).reason == "killed: out of memory, limit 64 MB"


@pytest.mark.parametrize("code", [0, 1])
def test_a_step_whose_child_ran_out_of_memory_is_judged_by_its_own_exit_code(code: int) -> None:
    assert judged(code, oom=True).reason is None


def test_a_signal_is_said_in_words() -> None:
    assert judged(139).reason == "crashed (SIGSEGV)"
    assert judged(137).reason == "killed (SIGKILL)"


def test_a_command_that_the_init_process_did_not_find_is_said() -> None:
    assert judged(127, stderr=b"[FATAL tini (7)] exec prog failed").reason == "command not found: prog"
    assert judged(127, stderr=b"sh: prog: not found").reason is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (RUNC + 'exec: "nosuch": executable file not found in $PATH: unknown', 127),
        (RUNC + 'exec: "/nosuch": stat /nosuch: no such file or directory: unknown', 127),
        (RUNC + 'exec: "/etc/passwd": permission denied: unknown', 126),
    ],
)
def test_a_command_that_cannot_start_is_the_steps_failure(message: str, code: int) -> None:
    outcome = containers.start_error(message, ["nosuch"], 5.0)
    assert isinstance(outcome, StepResult)
    assert (outcome.exit_code, outcome.started_at, outcome.ended_at) == (code, 5.0, 5.0)


@pytest.mark.parametrize(
    "message",
    [
        RUNC + 'chdir to cwd ("/root") set in config.json failed: permission denied',
        RUNC + 'exec: "docker-init": executable file not found in $PATH',
        "no space left on device",
    ],
)
def test_any_other_start_error_is_the_systems_failure(message: str) -> None:
    assert isinstance(containers.start_error(message, ["true"], 5.0), Failure)


def test_the_deepest_mount_covers_a_path() -> None:
    outer, inner = Mount(source=Path("/1"), target="/data"), Mount(source=Path("/2"), target="/data/in")
    assert containers.covering((outer, inner), "/data/in/file") is inner
    assert containers.covering((outer, inner), "/data/input") is outer
    assert containers.covering((outer, inner), "/database") is None


@pytest.mark.parametrize(("asked", "number"), [("1", 1), ("2", 2), ("all", 2)])
def test_gpus_are_asked_of_the_engine(asked: str, number: int) -> None:
    work = a_submission(resources=Resources(backend_parameters={"gpus": asked}))
    (request,) = document(work, replace(LIMITS, max_gpus=2))["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "", "Count": number, "Capabilities": [["gpu"]]}


@pytest.mark.parametrize("asked", [None, "0"])
def test_nobody_gets_gpus_unasked(asked: str | None) -> None:
    parameters = {} if asked is None else {"gpus": asked}
    work = a_submission(resources=Resources(backend_parameters=parameters))
    assert document(work, replace(LIMITS, max_gpus=2))["HostConfig"]["DeviceRequests"] == []


@pytest.mark.parametrize(
    ("asked", "words"), [("3", "3 is more than the 2"), ("-1", "neither"), ("1.5", "neither"), ("a100", "neither")]
)
def test_gpus_that_cannot_be_given_are_refused(asked: str, words: str) -> None:
    with pytest.raises(ExecutorRefused, match=words):
        containers.check(
            a_submission(resources=Resources(backend_parameters={"gpus": asked})), replace(LIMITS, max_gpus=2)
        )
