"""What happens to jobs on a real Slurm: limits, deaths, lost answers, a controller that is away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.slurm import SlurmExecutor, create
from executors.slurm_files import JobFiles
from tests.contract.suite import PATIENCE, Bench, Watched, exit_codes, grows, wait_for
from tests.testbeds import slurm_site
from tests.testbeds.slurm_site import SlurmSite
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.model import Handle, Resources, Submission
from weft.ports import Phase
from weft.sections.backends import SlurmSettings

BEAT = "while :; do echo x >> /vol/beat; sleep 0.05; done"
WAIT = "while [ ! -e /vol/go ]; do sleep 0.05; done"


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    missing = slurm_site.missing_tools()
    if missing:
        pytest.skip(missing)
    with slurm_site.private_site(nodes=1) as running:
        yield running


@pytest.fixture
def bench(data: Path, site: SlurmSite) -> Bench:
    return Bench(data, "alpine", user=site.account.pw_uid)


@pytest.fixture
def make(data: Path, site: SlurmSite) -> Iterator[Callable[..., Watched]]:
    """Makes executors with these settings of Slurm; all that they left is removed at the end."""
    made: list[Watched] = []

    def make(**changes: Any) -> Watched:
        slurm = SlurmSettings(
            **{"conf": site.conf, "user": site.account.pw_name, "python": Path("/usr/bin/python3"), **changes}
        )
        made.append(Watched(create(Settings(data=data, slurm=slurm, beat_seconds=0.1))))
        return made[-1]

    yield make
    for _, handle in list(made[0].executor.list()):
        made[0].executor.forget(handle)


@pytest.fixture
def watched(make: Callable[..., Watched]) -> Watched:
    return make()


def job_id(handle: Handle) -> str:
    return handle.native_id.partition(":")[0]


def asks(**parameters: str) -> Resources:
    return Resources(backend_parameters=parameters)


def begun(watched: Watched, work: Submission) -> Handle:
    handle = watched.executor.submit(work)
    watched.until(handle, Phase.RUNNING)
    return handle


def test_a_step_runs_as_the_account_without_rights_and_never_as_root(watched: Watched, bench: Bench) -> None:
    work = bench.submission(bench.shell("id -u; cat /proc/self/status"))
    watched.run(work)
    uid, *status = bench.log(work).splitlines()
    lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert int(uid) == bench.user != 0
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
    assert lines["NoNewPrivs"] == "1"


def test_root_without_an_account_is_refused(make: Callable[..., Watched], bench: Bench) -> None:
    executor = make().executor
    for user in (None, "root", "no-such-account"):
        wrong = make(user=user).executor
        assert not wrong.check().usable
        with pytest.raises(ExecutorRefused, match=r"root|no account"):
            wrong.submit(bench.submission(bench.step("echo")))
    assert list(executor.list()) == []


def test_root_without_a_sandbox_is_refused(make: Callable[..., Watched], bench: Bench) -> None:
    with pytest.raises(ExecutorRefused, match="weft is root"):
        make(sandbox=False).executor.submit(bench.submission(bench.step("echo")))


def test_files_that_a_step_made_up_are_no_evidence(watched: Watched, bench: Bench, tmp_path: Path) -> None:
    work = bench.submission(bench.step("sleep", "600"))
    handle = begun(watched, work)
    node = work.folder / "control" / "slurm"
    for made_up in ('{"over": true}', '{"over": true, "steps": [{"x": 1}], "messages": [], "metadata": {}}', "[", "7"):
        (node / "new").write_text(made_up)
        (node / "new").rename(node / "status.json")
        assert watched.look(handle).phase is not Phase.ENDED
    (tmp_path / "secret").write_text("secret")
    (node / "slurm.log").unlink()
    (node / "slurm.log").symlink_to(tmp_path / "secret")
    assert JobFiles(work.folder).complaint() == ""


def test_slurm_knows_what_the_task_asked_for(make: Callable[..., Watched], bench: Bench, site: SlurmSite) -> None:
    watched = make(allow={"partition": ["short"]})
    wanted = Resources(cpu_cores=2, ram_gb=0.5, backend_parameters={"time": "1", "PARTITION": "short"})
    work = bench.submission(bench.step("sleep", "600"), resources=wanted)
    handle = watched.executor.submit(work)
    said = site.run("squeue", "-h", "-j", job_id(handle), "-o", "%C %m %l %P %u %k")
    assert said.strip() == f"2 477M 1:00 short {slurm_site.ACCOUNT} weft task {work.job_id}, attempt 1"


def test_a_job_that_slurm_refuses_says_so_in_its_words(make: Callable[..., Watched], bench: Bench) -> None:
    watched = make(allow={"partition": ["*"]})
    with pytest.raises(ExecutorRefused, match="nvalid partition"):
        watched.executor.submit(bench.submission(bench.step("echo"), resources=asks(partition="nowhere")))


def test_why_a_job_waits_for_long_is_said(make: Callable[..., Watched], bench: Bench) -> None:
    watched = make(allow={"partition": ["short"]})
    work = bench.submission(bench.step("echo"), resources=asks(partition="short", time="10"))
    handle = watched.executor.submit(work)
    deadline = time.monotonic() + PATIENCE
    while not (seen := watched.look(handle)).messages:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (said,) = seen.messages
    assert seen.phase is Phase.WAITING
    assert said.startswith("Slurm keeps the job waiting: Partition")


def test_a_step_that_used_up_its_memory_says_so_with_the_limit(watched: Watched, bench: Bench) -> None:
    work = bench.submission(
        bench.step("python3", "-c", "bytearray(300_000_000)"), resources=Resources(ram_gb=64 * 2**20 / 10**9)
    )
    seen = watched.run(work)
    assert (exit_codes(seen), seen.failure) == ([137], None)
    assert seen.steps[0].reason == "killed: out of memory, the limit was 64 MiB"


def test_a_job_that_somebody_cancelled_in_slurm_is_not_tried_again(
    watched: Watched, bench: Bench, site: SlurmSite
) -> None:
    volume = bench.volume()
    handle = begun(watched, bench.submission(bench.shell(BEAT), mounts=(volume,)))
    wait_for(volume.source / "beat")
    site.run("scancel", job_id(handle))
    seen = watched.until(handle, Phase.ENDED)
    assert seen.failure is not None
    assert (seen.failure.reason, seen.failure.retry) == ("the job was cancelled in Slurm", False)
    assert not grows(volume.source / "beat")


def test_a_preempted_job_may_be_tried_again(make: Callable[..., Watched], bench: Bench) -> None:
    watched = make(allow={"partition": ["urgent"]})
    handle = begun(watched, bench.submission(bench.step("sleep", "600"), resources=Resources(cpu_cores=8)))
    urgent = Resources(cpu_cores=8, backend_parameters={"partition": "urgent"})
    watched.executor.submit(bench.submission(bench.step("sleep", "600"), resources=urgent))
    seen = watched.until(handle, Phase.ENDED)
    assert seen.failure is not None
    assert (seen.failure.reason[:10], seen.failure.retry) == ("preempted:", True)


def test_a_job_whose_node_fails_may_be_tried_again(watched: Watched, bench: Bench, site: SlurmSite) -> None:
    handle = begun(watched, bench.submission(bench.step("sleep", "600")))
    (node,) = site.nodes
    site.run("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=test")
    try:
        seen = watched.until(handle, Phase.ENDED)
    finally:
        site.run("scontrol", "update", f"nodename={node}", "state=RESUME")
    assert seen.failure is not None
    assert (seen.failure.reason, seen.failure.retry) == (f"the node that the job ran on failed ({node})", True)


def test_a_job_that_leaves_no_exit_file_is_no_success(
    make: Callable[..., Watched], bench: Bench, site: SlurmSite
) -> None:
    watched = make(grace_seconds=0.5)
    volume = bench.volume()
    handle = begun(watched, bench.submission(bench.shell(BEAT), mounts=(volume,)))
    wait_for(volume.source / "beat")
    (pid,) = pids_of(handle)
    os.kill(pid, signal.SIGKILL)
    seen = watched.until(handle, Phase.ENDED)
    assert seen.failure is not None
    assert seen.failure.retry
    assert "left no exit file" in seen.failure.reason
    assert not grows(volume.source / "beat")


def test_a_folder_that_the_node_does_not_see_is_said(make: Callable[..., Watched], bench: Bench) -> None:
    watched = make(grace_seconds=0.5, python=Path("/no/such/python"))
    seen = watched.run(bench.submission(bench.step("echo")))
    assert seen.failure is not None
    assert "/no/such/python" in seen.failure.reason


def test_a_submission_whose_answer_was_lost_is_found(
    make: Callable[..., Watched], watched: Watched, bench: Bench
) -> None:
    work = bench.submission(bench.step("sleep", "600"))
    handle = watched.executor.submit(work)
    forget_the_answer(work)
    assert make().executor.submit(work) == handle
    assert [key for key, _ in watched.executor.list()] == [work.key]


def test_steps_run_once_although_slurm_has_the_job_twice(
    make: Callable[..., Watched], watched: Watched, bench: Bench
) -> None:
    volume = bench.volume()
    work = bench.submission(bench.shell(f"echo x >> /vol/count; {WAIT}"), mounts=(volume,))
    first = watched.executor.submit(work)
    (work.folder / "control" / "slurm.json").unlink()
    second = make().executor.submit(work)
    assert first != second
    wait_for(volume.source / "count")
    (volume.source / "go").touch()
    assert exit_codes(watched.until(second, Phase.ENDED)) == [0]
    deadline = time.monotonic() + PATIENCE
    while list(watched.executor.list()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (volume.source / "count").read_text() == "x\n"


def test_while_the_controller_is_away_jobs_run_wait_and_are_seen_to_end(
    make: Callable[..., Watched], bench: Bench, site: SlurmSite
) -> None:
    watched, hasty = make(), make(timeout_seconds=1)
    volume = bench.volume()
    quick = begun(watched, bench.submission(bench.shell(f"{WAIT}; exit 6"), mounts=(volume,)))
    slow = begun(watched, bench.submission(bench.step("sleep", "600")))
    later = bench.submission(bench.shell("exit 7"))
    site.stop_controller()
    try:
        with pytest.raises(Unavailable):
            hasty.executor.submit(later)
        with pytest.raises(Unavailable):
            hasty.executor.observe([slow])
        (volume.source / "go").touch()
        assert eventually(lambda: hasty.look(quick).phase is Phase.ENDED)
        seen = hasty.executor.observe([quick, slow])
        assert (exit_codes(seen[quick]), seen[slow].phase) == ([6], Phase.RUNNING)
    finally:
        site.start_controller()
    assert exit_codes(watched.until(watched.executor.submit(later), Phase.ENDED)) == [7]
    assert eventually(lambda: watched.look(slow).phase is Phase.RUNNING)


def test_a_job_id_that_slurm_gives_again_after_a_reset_is_not_the_same_job(
    make: Callable[..., Watched], bench: Bench, site: SlurmSite
) -> None:
    watched = make(allow={"partition": ["short"]})
    never = asks(partition="short", time="10")  # so that no node remembers this job
    site.lose_all_jobs()
    before = watched.executor.submit(bench.submission(bench.step("echo"), resources=never))
    site.lose_all_jobs()
    volume = bench.volume()
    after = begun(watched, bench.submission(bench.shell(BEAT), mounts=(volume,)))
    wait_for(volume.source / "beat")
    assert job_id(after) == job_id(before)
    assert watched.look(before).phase is Phase.UNSEEN
    watched.executor.forget(before)
    assert watched.look(after).phase is Phase.RUNNING
    assert grows(volume.source / "beat")


def eventually(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if is_true():
                return True
        except Unavailable:
            pass
        time.sleep(0.05)
    return False


def forget_the_answer(work: Submission) -> None:
    """As when weft dies between Slurm's answer and its note of it."""
    path = work.folder / "control" / "slurm.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "job_id": None}), encoding="utf-8")


def pids_of(handle: Handle) -> list[int]:
    """Return the supervisors of a job on its (virtual) node: they name its control folder."""
    key = handle.native_id.partition(":")[2]
    folder = f"/{key.rpartition('-')[0]}/1/control/slurm".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(folder) for word in words) and b"-I" in words:
            found.append(int(entry.name))
    return found


def test_the_executor_is_found_by_its_name(data: Path) -> None:
    assert isinstance(create(Settings(data=data)), SlurmExecutor)
