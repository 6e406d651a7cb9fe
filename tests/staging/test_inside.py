"""The staging program of a job far away, with its places below a folder of the test, and real objects."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest

from tests.builders import a_step, a_task
from weft.config import Settings
from weft.model import FileType, Input, Output, Task
from weft.sections.transfer import S3Settings
from weft.staging import inside
from weft.staging.handover import OUTCOME, PLAN, JobPlan, Outcome, read_outcome, write_plan
from weft.staging.inside import FAILED, TAKEN, Places, stage_in, stage_out
from weft.staging.s3_objects import Objects

POLICIES = Path(__file__).parents[2] / "examples" / "aws-batch"
#: What IAM calls the operations of S3 that are not called like it.
ACTIONS = {
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
}


class Job:
    """One job: its bucket, its settings, its places."""

    def __init__(self, settings: S3Settings, root: Path) -> None:
        self.settings = Settings(s3=settings)
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        self.bucket = f"bucket-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=self.bucket)
        self.objects = Objects(settings, f"s3://{self.bucket}/jobs/key-1")
        self.places = Places(root)
        self.busybox = root / "the-busybox"
        self.busybox.write_bytes(b"busybox")
        self.places.shared.mkdir()

    def plan(self, task: Task) -> None:
        job = JobPlan(key="key-1", task=task, uid=os.getuid(), gid=os.getgid(), max_log_bytes=1000)
        self.objects.put(PLAN, write_plan(job))
        for mount in inside.plan(task, self.places.attempt).mounts:
            mount.source.mkdir(parents=True)  # in a job, a volume is mounted there

    def stage_in(self, native: str = "native-1") -> int:
        return stage_in(self.settings, self.objects, self.places, native, busybox=self.busybox)

    def step(self, index: int, code: str, out: str = "", *, goes_on: bool = True) -> None:
        """Leave the evidence that the step runner leaves."""
        state = self.places.state(index)
        (state / "started").touch()
        (state / "stdout").write_text(out)
        (state / "stderr").touch()
        (state / "exit").write_text(f"{code}\n")
        if goes_on:
            (state / "go").touch()

    def stage_out(self) -> int:
        return stage_out(self.settings, self.objects, self.places, "native-1")

    @property
    def outcome(self) -> Outcome:
        text = self.objects.get(OUTCOME)
        assert text is not None
        return read_outcome(text)

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


@pytest.fixture
def job(moto: S3Settings, tmp_path: Path) -> Job:
    return Job(moto, tmp_path)


def test_inputs_come_in_outputs_go_out_and_the_outcome_says_it_all(job: Job) -> None:
    job.client.put_object(Bucket=job.bucket, Key="in/a", Body=b"a\n")
    job.plan(
        a_task(
            steps=(a_step(env={"A": "1"}), a_step(ignore_error=True)),
            inputs=(Input(path="/data/folder", url=job.url("in")), Input(path="/data/b", content="b\n")),
            outputs=(Output(path="/data/out", url=job.url("out")),),
        )
    )
    assert job.stage_in() == 0
    data = job.places.attempt.mounts / "data"
    assert (data / "folder" / "a").read_text() == "a\n"
    assert sorted(path.name for path in data.iterdir()) == ["b", "folder"]
    assert job.places.staged.exists()
    (data / "out").write_text("made\n")
    job.step(0, "0", "hello\n")
    job.step(1, "4")
    assert job.stage_out() == 0
    outcome = job.outcome
    assert outcome.failure is None
    assert [step.exit_code for step in outcome.steps] == [0, 4]
    assert [(output.url, output.size_bytes) for output in outcome.outputs] == [(job.url("out"), 5)]
    assert [(log.step, log.stream, log.text) for log in outcome.logs if log.text] == [(0, "stdout", "hello\n")]
    assert outcome.types is not None
    assert outcome.types["inputs"]["/data/folder"] is FileType.DIRECTORY


def test_a_second_job_of_the_same_plan_runs_nothing_and_says_nothing(job: Job, tmp_path: Path) -> None:
    job.plan(a_task())
    assert job.stage_in() == 0
    (tmp_path / "other").mkdir()
    second = Places(tmp_path / "other")
    second.shared.mkdir()
    assert stage_in(job.settings, job.objects, second, "native-2", busybox=job.busybox) == TAKEN
    assert not second.staged.exists()
    assert stage_out(job.settings, job.objects, second, "native-2") == FAILED
    assert job.objects.get(OUTCOME) is None


def test_an_input_that_is_not_there_keeps_the_gate_shut(job: Job) -> None:
    job.plan(a_task(inputs=(Input(path="/data/a", url=job.url("none")),)))
    assert job.stage_in() == FAILED
    assert not job.places.staged.exists()
    assert job.stage_out() == 1
    assert "no such object" in str(job.outcome.failure)
    assert job.outcome.steps == ()


def test_after_a_failed_step_what_is_there_is_stored(job: Job) -> None:
    job.plan(
        a_task(
            steps=(a_step(), a_step()),
            outputs=(Output(path="/out/a", url=job.url("a")), Output(path="/out/b", url=job.url("b"))),
        )
    )
    assert job.stage_in() == 0
    (job.places.attempt.mounts / "out" / "a").write_text("a")
    job.step(0, "3", goes_on=False)
    assert job.stage_out() == 1
    outcome = job.outcome
    assert (outcome.failure, [step.exit_code for step in outcome.steps]) == (None, [3])
    assert [output.url for output in outcome.outputs] == [job.url("a")]
    assert any("the task did not write it" in message for message in outcome.messages)


def test_a_missing_output_of_a_good_task_is_a_failure(job: Job) -> None:
    job.plan(a_task(outputs=(Output(path="/out/a", url=job.url("a")),)))
    assert job.stage_in() == 0
    job.step(0, "0")
    assert job.stage_out() == 1
    assert "the task did not write it" in str(job.outcome.failure)


def test_a_log_that_a_step_made_a_link_shows_nothing_of_the_staging_container(job: Job, tmp_path: Path) -> None:
    job.plan(a_task())
    assert job.stage_in() == 0
    job.step(0, "0")
    (tmp_path / "secret").write_text("credentials")
    (job.places.state(0) / "stdout").unlink()
    (job.places.state(0) / "stdout").symlink_to(tmp_path / "secret")
    job.stage_out()
    assert "credentials" not in json.dumps([log.text for log in job.outcome.logs])


def test_a_long_log_lies_beside_the_outcome_and_is_cut_to_its_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "LONGEST_LOG_INSIDE", 100)
    job.plan(a_task())
    assert job.stage_in() == 0
    job.step(0, "0", "x" * 2000 + "END")
    job.stage_out()
    (log,) = [log for log in job.outcome.logs if log.stored_as]
    content = job.objects.get(str(log.stored_as))
    assert content is not None
    assert (len(content), content[-3:]) == (1000, b"END")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is asked of AWS, in the words of IAM."""
    found: set[str] = set()
    real = botocore.client.BaseClient._make_api_call

    def call(self: Any, operation: str, arguments: Any) -> Any:
        service = self.meta.service_model.signing_name
        found.add(ACTIONS.get(operation, f"{service}:{operation}"))
        return real(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    return found


def test_the_jobs_policy_allows_what_staging_asks_for_and_no_more(job: Job, asked: set[str]) -> None:
    job.client.put_object(Bucket=job.bucket, Key="in/a", Body=b"a\n")
    job.plan(
        a_task(
            inputs=(Input(path="/in/folder", url=job.url("in"), type=FileType.DIRECTORY),),
            outputs=(Output(path="/out/a", url=job.url("a")),),
        )
    )
    asked.clear()
    job.stage_in()
    job.step(0, "0")
    (job.places.attempt.mounts / "out" / "a").write_text("a")
    assert job.stage_out() == 0
    policy = json.loads((POLICIES / "job-policy.json").read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert allowed == asked | {"s3:AbortMultipartUpload"}  # of uploads that fail half way
