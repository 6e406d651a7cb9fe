"""How Slurm's commands are spoken to: stand-ins that answer as the real ones do, also badly."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from executors.slurm import SlurmExecutor, create
from executors.slurm_client import Queue, SlurmClient
from executors.slurm_states import Row
from tests.testbeds import slurm_site
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.folders import Folders
from weft.model import Handle, Kind, Step, Submission
from weft.ports import Phase
from weft.sections.backends import SlurmSettings

StandIn = Callable[[str, str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Puts a shell script in the place of one of Slurm's commands; ``$CALLS`` counts them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name: str, script: str) -> None:
        calls = f"echo {name} >> {tmp_path}/calls"
        (folder / name).write_text(f"#!/bin/sh\n{calls}\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)

    return put


def client(seconds: float = 10.0) -> SlurmClient:
    return SlurmClient(SlurmSettings(timeout_seconds=seconds))


def test_the_id_of_a_submitted_job_is_read_also_with_a_clusters_name(stand_in: StandIn) -> None:
    stand_in("sbatch", "echo '12;weft'")
    assert client().submit([], "script") == "12"


def test_sbatch_sees_nothing_of_the_environment_of_weft(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_S3__SECRET_ACCESS_KEY", "hush")
    stand_in("sbatch", f"env > {tmp_path}/env; echo 1")
    client().submit([], "script")
    assert "hush" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size"
        " and/or time limits)",
    ],
)
def test_what_may_go_through_later_is_tried_later(stand_in: StandIn, said: str) -> None:
    stand_in("sbatch", f'echo "{said}" >&2; exit 1')
    with pytest.raises(Unavailable):
        client().submit([], "script")


@pytest.mark.parametrize(
    "said", ["Invalid partition name specified", "Invalid account or account/partition combination"]
)
def test_what_never_will_is_refused_in_slurms_words(stand_in: StandIn, said: str) -> None:
    stand_in("sbatch", f'echo "sbatch: error: Batch job submission failed: {said}" >&2; exit 1')
    with pytest.raises(ExecutorRefused, match=said):
        client().submit([], "script")


def test_an_answer_without_an_id_is_no_submission_and_no_refusal(stand_in: StandIn) -> None:
    stand_in("sbatch", "exit 0")
    with pytest.raises(Unavailable):
        client().submit([], "script")


def test_a_command_that_hangs_is_ended(stand_in: StandIn) -> None:
    stand_in("squeue", "exec sleep 60")
    with pytest.raises(Unavailable, match="did not end within"):
        client(0.2).jobs("me")


def test_a_cluster_without_accounting_is_no_error(stand_in: StandIn) -> None:
    stand_in("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert client().past(["1"]) is None


def test_accounting_that_does_not_answer_is_an_error(stand_in: StandIn) -> None:
    stand_in("sacct", "echo 'sacct: error: Problem talking to the database' >&2; exit 1")
    with pytest.raises(Unavailable, match="database"):
        client().past(["1"])


def test_many_past_jobs_are_asked_for_in_batches(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in("sacct", "exit 0")
    assert client().past([str(number) for number in range(1200)]) == []
    assert (tmp_path / "calls").read_text() == "sacct\n" * 3


def test_partitions_are_read_with_their_largest_nodes(stand_in: StandIn) -> None:
    stand_in("sinfo", "echo 'debug|up|2|8|4000'; echo 'old|down|1|4+|2000+'")
    first, second = client().partitions()
    assert (first.name, first.is_up, first.cpus, first.ram_bytes) == ("debug", True, 8, 4000 << 20)
    assert (second.is_up, second.cpus) == (False, 4)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """Counts, and answers as it is told."""

    def __init__(self) -> None:
        self.times, self.fails = 0, False

    def __call__(self) -> Sequence[Row]:
        self.times += 1
        if self.fails:
            raise Unavailable("no answer")
        return [Row(job_id=str(self.times), state="RUNNING", reason="None", node="n1", name="x")]


def test_the_queue_is_asked_once_a_beat_however_often_one_looks() -> None:
    clock, asked = Clock(), Asked()
    queue = Queue(ask=asked, beat_seconds=1.0, clock=clock)
    for _ in range(100):
        assert set(queue.look().jobs) == {"1"}
    clock.now += 1.0
    assert set(queue.look().jobs) == {"2"}
    assert asked.times == 2


def test_a_queue_that_does_not_answer_is_asked_less_and_less_often() -> None:
    clock, asked = Clock(), Asked()
    queue = Queue(ask=asked, beat_seconds=1.0, clock=clock)
    queue.look()
    asked.fails = True
    for _ in range(60):
        clock.now += 1.0
        with pytest.raises(Unavailable, match="no answer"):
            queue.look()
    assert asked.times == 1 + 6  # after 1, 2, 5, 10 and 30 seconds
    asked.fails = False
    clock.now += 30.0
    assert queue.look().at == clock.now


def test_a_slow_answer_does_not_hold_up_who_looks_and_is_there_later() -> None:
    release = threading.Event()
    asked = Asked()

    def slow() -> Sequence[Row]:
        release.wait(10)
        return asked()

    queue = Queue(ask=slow, beat_seconds=60.0, patience=0.01)
    for _ in range(3):
        with pytest.raises(Unavailable, match="not answered yet"):
            queue.look()
    release.set()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert set(queue.look().jobs) == {"1"}
            break
        except Unavailable:
            assert time.monotonic() < deadline
    assert asked.times == 1


def test_who_asks_for_capabilities_again_and_again_asks_slurm_once(stand_in: StandIn, tmp_path: Path) -> None:
    executor = create(Settings(data=tmp_path, slurm=SlurmSettings(max_cpus=6)))
    stand_in("sinfo", "exit 1")
    for _ in range(10):
        assert executor.capabilities.cpu_cores == 6
    assert (tmp_path / "calls").read_text() == "sinfo\n"


def test_the_largest_node_that_is_up_is_what_a_task_may_ask_for(stand_in: StandIn, tmp_path: Path) -> None:
    executor = create(Settings(data=tmp_path))
    stand_in("sinfo", "echo 'debug|up|2|8|4000'; echo 'old|down|1|64|90000'")
    assert (executor.capabilities.cpu_cores, executor.capabilities.ram_bytes) == (8, 4000 << 20)


def test_an_unknown_word_leaves_the_job_as_it_was_and_is_said_once(stand_in: StandIn, tmp_path: Path) -> None:
    executor, handle, name = a_submitted_job(stand_in, tmp_path)
    stand_in("squeue", f"echo '12|BEWILDERED|None|n1|{name}'")
    seen = executor.observe([handle])[handle]
    assert seen.phase is Phase.WAITING
    assert any("BEWILDERED" in message for message in seen.messages)


def test_a_job_that_left_queue_and_accounting_is_unseen(stand_in: StandIn, tmp_path: Path) -> None:
    executor, handle, _ = a_submitted_job(stand_in, tmp_path)
    stand_in("squeue", "exit 0")
    stand_in("sacct", "exit 0")
    assert executor.observe([handle])[handle].phase is Phase.UNSEEN


def test_what_the_queue_has_forgotten_the_accounting_knows_by_id_and_name(stand_in: StandIn, tmp_path: Path) -> None:
    executor, handle, name = a_submitted_job(stand_in, tmp_path)
    stand_in("squeue", "exit 0")
    stand_in("sacct", f"echo '12|COMPLETED|None|n1|another'; echo '12|NODE_FAIL|None|n2|{name}'")
    failure = executor.observe([handle])[handle].failure
    assert failure is not None
    assert failure.reason == "the node that the job ran on failed (n2)"


def a_submitted_job(stand_in: StandIn, tmp_path: Path) -> tuple[SlurmExecutor, Handle, str]:
    """Return an executor, a job of it that Slurm took long ago as job 12, and the job's name in Slurm."""
    stand_in("sbatch", "echo 12")
    executor = create(
        Settings(
            data=tmp_path,
            slurm=SlurmSettings(user=slurm_site.ACCOUNT if os.geteuid() == 0 else None),
            beat_seconds=0.001,
        )
    )
    folder = Folders(tmp_path).attempt("job", 1).root
    work = Submission(
        key="job-1",
        job_id="job",
        attempt=1,
        kind=Kind.TASK,
        steps=(Step(image="alpine", command=("true",)),),
        folder=folder,
    )
    handle = executor.submit(work)
    name = f"weft-{hashlib.sha256(str(tmp_path.resolve()).encode()).hexdigest()[:8]}-job-1"
    return executor, handle, name
