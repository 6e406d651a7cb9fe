"""What only AWS Batch has: rights, hosts that go away, waiting, lost answers; on the server with real containers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.client
import pytest

from executors.aws_batch import AwsBatchExecutor, create
from executors.aws_batch_client import Throttled
from tests.contract.suite import Bench, Watched, exit_codes
from tests.testbeds.batch_site import BatchSite
from tests.testbeds.docker_engine import build_image
from weft.config import Settings
from weft.errors import Unavailable
from weft.model import Resources, Step, Submission, Task, task_to_json
from weft.ports import Phase

pytestmark = pytest.mark.docker

POLICIES = Path(__file__).parents[2] / "examples" / "aws-batch"
#: What IAM calls the operations that are not called like it; None for what needs no right.
ACTIONS = {
    "GetCallerIdentity": None,
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
}
#: Used by AWS itself where a definition names roles, and jobs bear tags.
IMPLIED = {"iam:PassRole", "batch:TagResource"}


class TaskBench(Bench):
    """Makes handed-over tasks without files."""

    def submission(self, *steps: Step, **fields: Any) -> Submission:
        return replace(super().submission(*steps, **fields), document=task_to_json(Task(steps=steps)))


@pytest.fixture
def bench(data: Path) -> TaskBench:
    return TaskBench(data, "alpine", user=None)


@pytest.fixture
def make(data: Path, batch_site: BatchSite) -> Iterator[Callable[..., AwsBatchExecutor]]:
    made: list[AwsBatchExecutor] = []

    def new(**changes: Any) -> AwsBatchExecutor:
        batch = batch_site.batch(storage=f"s3://weft-test/{data.name}", **changes)
        made.append(create(Settings(data=data, s3=batch_site.s3, aws_batch=batch, beat_seconds=0.1)))
        return made[-1]

    yield new
    for executor in made[-1:]:
        for _, handle in list(executor.list()):
            executor.forget(handle)
    for executor in made:
        executor.stop()


@pytest.fixture
def watched(make: Callable[..., AwsBatchExecutor]) -> Watched:
    return Watched(make(), patience=120)


def test_a_step_has_no_rights_but_those_of_its_own_folders(watched: Watched, bench: TaskBench) -> None:
    script = (
        "id -u; env; tr '\\0' '\\n' < /proc/1/environ; cat /proc/*/environ 2>/dev/null; touch /bin/x 2>&1; touch /tmp/x"
    )
    work = bench.submission(bench.shell(script))
    assert exit_codes(watched.run(work)) == [0]
    said = bench.log(work)
    assert said.splitlines()[0] == "1000"
    assert "Read-only file system" in said
    for name in ("AWS_CONTAINER_CREDENTIALS", "WEFT_", "ECS_CONTAINER_METADATA"):
        assert name not in said


def test_a_step_that_takes_too_much_memory_says_so(watched: Watched, bench: TaskBench) -> None:
    work = bench.submission(bench.shell("tail /dev/zero"), resources=Resources(ram_gb=0.06))
    seen = watched.run(work)
    assert exit_codes(seen) == [137]
    assert seen.steps[0].reason == "killed: out of memory, the limit was 58 MiB"


def test_on_fargate_a_job_is_rounded_up_and_says_so(
    make: Callable[..., AwsBatchExecutor], bench: TaskBench, batch_site: BatchSite
) -> None:
    watched = Watched(make(platform="FARGATE"), patience=120)
    seen = watched.run(bench.submission(bench.step("echo", "x"), resources=Resources(ram_gb=1.0, disk_gb=30.0)))
    assert exit_codes(seen) == [0]
    assert "rounded up to 2 cores and 4096 MiB" in seen.messages[0]
    (job,) = batch_site.client("batch").describe_jobs(jobs=[seen.metadata["aws_batch_job"]])["jobs"]
    (task,) = job["ecsProperties"]["taskProperties"]
    assert task["ephemeralStorage"] == {"sizeInGiB": 28}
    assert task["networkConfiguration"] == {"assignPublicIp": "DISABLED"}


def test_a_job_whose_host_was_taken_away_may_be_tried_again(
    watched: Watched, bench: TaskBench, batch_site: BatchSite
) -> None:
    handle = watched.executor.submit(bench.submission(bench.step("sleep", "600")))
    watched.until(handle, Phase.RUNNING)
    batch_site.tell("reclaim", {"jobId": handle.native_id.partition(":")[0]})
    failure = watched.until(handle, Phase.ENDED).failure
    assert failure is not None
    assert "the host was taken away: Host EC2 (instance i-" in failure.reason
    assert failure.retry


def test_a_job_that_waits_says_what_for_and_can_be_cancelled(
    make: Callable[..., AwsBatchExecutor], bench: TaskBench, batch_site: BatchSite
) -> None:
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - no capacity"
    batch_site.tell("hold", {"status": "RUNNABLE", "reason": reason})
    try:
        watched = Watched(make())
        handle = watched.executor.submit(bench.submission(bench.step("echo", "x")))
        deadline = time.monotonic() + 30
        while not (seen := watched.look(handle)).messages:
            assert time.monotonic() < deadline
        assert seen.phase is Phase.WAITING
        assert "AWS has no free instances" in seen.messages[0]
        watched.executor.cancel(handle)
        assert watched.look(handle).failure is not None
    finally:
        batch_site.tell("hold", {})


def test_an_entry_point_that_does_not_run_its_arguments_is_explained(
    watched: Watched, bench: TaskBench, batch_site: BatchSite
) -> None:
    image = build_image(batch_site.docker_host, "weft-test-entrypoint", "FROM busybox", 'ENTRYPOINT ["/bin/false"]')
    failure = watched.run(bench.submission(bench.step("echo", "x", image=image))).failure
    assert failure is not None
    assert "ENTRYPOINT" in failure.reason


def test_answers_of_the_service_that_fail_throttle_or_get_lost(
    watched: Watched, bench: TaskBench, batch_site: BatchSite
) -> None:
    executor, work = watched.executor, bench.submission(bench.shell("exit 3"))
    batch_site.fault("SubmitJob", "throttle")
    with pytest.raises(Throttled):
        executor.submit(work)
    batch_site.fault("SubmitJob", "500")
    with pytest.raises(Unavailable):
        executor.submit(work)
    before = batch_site.tell("calls")["submitjob"]
    batch_site.fault("SubmitJob", "lose")
    with pytest.raises(Unavailable):
        executor.submit(work)
    handle = executor.submit(work)
    assert batch_site.tell("calls")["submitjob"] == before + 1, "nobody sent it again"
    batch_site.fault("DescribeJobs", "throttle", times=2)
    assert exit_codes(watched.until(handle, Phase.ENDED)) == [3]


def test_the_policy_of_weft_allows_what_it_asks_for_and_no_more(
    make: Callable[..., AwsBatchExecutor], bench: TaskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str | None] = set()
    real = botocore.client.BaseClient._make_api_call

    def call(self: Any, operation: str, arguments: Any) -> Any:
        asked.add(ACTIONS.get(operation, f"{self.meta.service_model.signing_name}:{operation}"))
        return real(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    watched = Watched(make(), patience=120)
    assert watched.executor.check().usable
    handle = watched.executor.submit(_new_shape(bench))
    watched.until(handle, Phase.RUNNING)
    assert list(watched.executor.list())
    while "logs:GetLogEvents" not in asked:
        watched.look(handle)
        time.sleep(0.05)
    watched.executor.cancel(handle)
    watched.executor.forget(handle)
    policy = json.loads((POLICIES / "weft-policy.json").read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert allowed == (asked - {None}) | IMPLIED


def _new_shape(bench: TaskBench) -> Submission:
    """Make a job of a size that no other test has, so that its definition is new."""
    return bench.submission(bench.shell("echo x; sleep 600"), resources=Resources(ram_gb=0.321))


@pytest.mark.parametrize("name", sorted(path.name for path in POLICIES.glob("*.json") if "policy" in path.name))
def test_the_policies_are_policies(name: str, batch_site: BatchSite) -> None:
    text = (
        (POLICIES / name).read_text().replace("ACCOUNT", "123456789012").replace("BUCKET", "b").replace("REGION", "r")
    )
    iam = batch_site.client("iam")
    if name == "trust-policy.json":
        iam.create_role(RoleName="tried", AssumeRolePolicyDocument=text)
    else:
        iam.create_policy(PolicyName=f"tried-{name.partition('.')[0]}", PolicyDocument=text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queue": "none"}, "there is no job queue none"),
        ({"image": None}, "not set: aws_batch.image"),
        ({"storage": "s3://weft-no-such-bucket/x"}, "no such bucket"),
        ({"profile": "nobody"}, "nobody"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_check_says_what_is_wrong_with_an_account(
    data: Path, batch_site: BatchSite, changes: dict[str, Any], words: str
) -> None:
    executor = create(Settings(data=data, s3=batch_site.s3, aws_batch=batch_site.batch(**changes)))
    health = executor.check()
    assert not health.usable
    assert words in health.detail
    assert health.remedy
