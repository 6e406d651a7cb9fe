"""The aws_batch executor against an account in this process: the contract of the calls, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executors.aws_batch import AwsBatchExecutor
from tests.contract.suite import Bench, PortContract, exit_codes
from tests.fake_batch import FakeAccount, FakeClient, FakeObjects
from weft.config import Settings
from weft.errors import ExecutorRefused, Unavailable
from weft.model import Input, Output, Resources, Step, Submission, Task, task_to_json
from weft.ports import Phase
from weft.sections.backends import AwsBatchSettings
from weft.sections.transfer import FetchSettings, S3Settings


class HandedOverBench(Bench):
    """Makes submissions that are handed over whole."""

    def submission(self, *steps: Step, **fields: Any) -> Submission:
        work = super().submission(*steps, **fields)
        return replace(work, document=task_to_json(Task(steps=steps)))

    def of(self, task: Task, **fields: Any) -> Submission:
        """Make the submission of a task."""
        return replace(super().submission(*task.steps, **fields), document=task_to_json(task))


@pytest.fixture
def account() -> FakeAccount:
    return FakeAccount()


@pytest.fixture
def settings(data: Path) -> Settings:
    return Settings(data=data, aws_batch=AwsBatchSettings(**WANTED))


@pytest.fixture
def bench(data: Path) -> HandedOverBench:
    return HandedOverBench(data, "alpine", user=None)


@pytest.fixture
def executor(settings: Settings, account: FakeAccount) -> AwsBatchExecutor:
    return an_executor(settings, account)


WANTED: dict[str, Any] = {
    "queue": "weft",
    "spot_queue": "spot",
    "storage": "s3://bucket/jobs",
    "image": "weft-staging",
    "platform": "EC2",
}


def an_executor(settings: Settings, account: FakeAccount) -> AwsBatchExecutor:
    client: Any = FakeClient(account)
    objects: Any = FakeObjects(account)
    return AwsBatchExecutor(settings, client, objects)


class TestCalls(PortContract):
    """What is true of the calls, without a container."""

    @pytest.fixture(autouse=True)
    def an_account(self, account: FakeAccount) -> None:
        self.account = account

    def make_executor(self, settings: Settings) -> AwsBatchExecutor:
        return an_executor(settings, self.account)


# -- what a thousand tasks cost ---------------------------------------------------------------------------------


def test_a_thousand_tasks_cost_one_submit_each_and_one_describe_a_hundred_a_beat(
    executor: AwsBatchExecutor, account: FakeAccount, bench: HandedOverBench
) -> None:
    handles = [executor.submit(bench.submission(bench.step("sleep", "600"))) for _ in range(1000)]
    assert account.calls == {"submit": 1000, "describe_definitions": 1, "register": 1}
    for beat in range(1, 4):
        seen = executor.observe(handles)
        assert len(seen) == 1000
        assert account.calls["describe"] == 10 * beat
    assert account.most_described == 100
    assert account.calls["list"] == 0


def test_jobs_that_ended_are_not_asked_for_again(
    executor: AwsBatchExecutor, account: FakeAccount, bench: HandedOverBench
) -> None:
    handle = executor.submit(bench.submission(bench.step("echo", "x")))
    while executor.observe([handle])[handle].phase is not Phase.ENDED:
        pass
    before = account.calls["describe"]
    assert exit_codes(executor.observe([handle])[handle]) == [0]
    assert account.calls["describe"] == before


def test_a_definition_is_shared_by_tasks_of_one_shape_and_found_by_the_next_worker(
    settings: Settings, account: FakeAccount, bench: HandedOverBench
) -> None:
    first, second = an_executor(settings, account), an_executor(settings, account)
    first.submit(bench.submission(bench.step("echo", "a", env={"A": "1"})))
    first.submit(bench.submission(bench.step("echo", "b", stdin="/in/x")))
    second.submit(bench.submission(bench.step("echo", "c")))
    assert len(account.definitions) == 1
    second.submit(bench.submission(bench.step("echo", "c"), resources=Resources(cpu_cores=2)))
    assert len(account.definitions) == 2


# -- answers that get lost --------------------------------------------------------------------------------------


def test_a_lost_answer_to_a_submission_is_healed_by_the_name(
    executor: AwsBatchExecutor, account: FakeAccount, bench: HandedOverBench
) -> None:
    work = bench.submission(bench.step("echo", "x"))
    account.faults = {"submit": ["lose"]}
    with pytest.raises(Unavailable):
        executor.submit(work)
    handle = executor.find(work.key)
    assert handle == executor.submit(work)
    assert len(account.jobs) == 1


def test_a_second_job_of_the_same_key_runs_nothing_and_the_first_is_followed(
    executor: AwsBatchExecutor, account: FakeAccount, bench: HandedOverBench
) -> None:
    """The listing does not show the first one yet, so a second one is made; its claim comes too late."""
    work = bench.submission(bench.shell("exit 3"))
    account.faults, account.lag = {"submit": ["lose"]}, 10
    with pytest.raises(Unavailable):
        executor.submit(work)
    account.go_on(account.jobs["job-000001"])
    handle = executor.submit(work)
    assert handle.native_id.startswith("job-000002:")
    seen = executor.observe([handle])[handle]
    while seen.phase is not Phase.ENDED:
        account.go_on(account.jobs["job-000001"])
        seen = executor.observe([handle])[handle]
    assert exit_codes(seen) == [3]
    assert account.ran == {work.key: 1}


def test_cancel_ends_the_first_job_too_where_there_are_two(
    executor: AwsBatchExecutor, account: FakeAccount, bench: HandedOverBench
) -> None:
    work = bench.submission(bench.step("sleep", "600"))
    account.faults, account.lag = {"submit": ["lose"]}, 10
    with pytest.raises(Unavailable):
        executor.submit(work)
    account.go_on(account.jobs["job-000001"])
    executor.cancel(executor.submit(work))
    assert account.live() == []


# -- what is sent -----------------------------------------------------------------------------------------------


def test_nothing_of_a_task_but_its_images_and_folders_is_told_to_batch(
    settings: Settings, account: FakeAccount, bench: HandedOverBench
) -> None:
    settings = settings.model_copy(
        update={
            "s3": S3Settings(
                endpoint_url="http://s3.example", access_key_id="AKIAX", secret_access_key="hush", profile="p"
            ),
            "fetch": FetchSettings(allow_hosts=("data.example",)),
        }
    )
    sent: list[Any] = []
    client: Any = FakeClient(account)
    submit = client.submit
    client.submit = lambda request: sent.append(request) or submit(request)
    objects: Any = FakeObjects(account)
    executor = AwsBatchExecutor(settings, client, objects)
    task = Task(
        steps=(Step(image="alpine", command=("sh", "-c", "secret-words"), env={"TOKEN": "secret-words"}),),
        inputs=(Input(path="/in/a", url="s3://bucket/secret-words"), Input(path="/in/b", content="secret-words")),
        outputs=(Output(path="/out/c", url="s3://bucket/secret-words"),),
    )
    executor.submit(bench.of(task))
    told = f"{sent} {account.definitions}"
    for secret in ("secret-words", "AKIAX", "hush"):
        assert secret not in told
    assert "http://s3.example" in told
    assert "data.example" in told
    assert len(str(sent[0])) < 20 << 10


def test_what_can_never_run_there_is_refused_in_words(executor: AwsBatchExecutor, bench: HandedOverBench) -> None:
    step = bench.step("echo", "x")
    refused = {
        "do not see the files": Task(steps=(step,), inputs=(Input(path="/in/a", url="file:///data/a"),)),
        "directly below '/'": Task(steps=(step,), inputs=(Input(path="/a", content="a"),)),
        "at most 8": Task(steps=(step,) * 9),
    }
    for words, task in refused.items():
        with pytest.raises(ExecutorRefused, match=words):
            executor.submit(bench.of(task))


def test_a_preemptible_task_goes_to_the_spot_queue_and_a_named_queue_must_be_allowed(
    settings: Settings, account: FakeAccount, bench: HandedOverBench
) -> None:
    settings = settings.model_copy(update={"aws_batch": AwsBatchSettings(**WANTED, queues=("fast",))})
    executor = an_executor(settings, account)
    step = bench.step("echo", "x")
    executor.submit(bench.submission(step, resources=Resources(preemptible=True)))
    executor.submit(bench.submission(step, resources=Resources(backend_parameters={"queue": "fast"})))
    executor.submit(bench.submission(step))
    assert [job.queue for job in account.jobs.values()] == ["spot", "fast", "weft"]
    with pytest.raises(ExecutorRefused, match="'theirs' is not allowed"):
        executor.submit(bench.submission(step, resources=Resources(backend_parameters={"queue": "theirs"})))
