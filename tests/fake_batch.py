"""An AWS account in this process: Batch, the objects of one storage, and the staging programs' part of each job.

Jobs go on by being looked at: RUNNABLE, RUNNING, then their end; a step ``sleep`` goes on until it is terminated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from executors.aws_batch_client import DESCRIBE_MOST, Listed, Throttled
from weft.errors import Unavailable
from weft.model import JsonObject, Step, StepResult
from weft.staging.handover import CLAIM, OUTCOME, PLAN, Outcome, StepLog, read_plan, write_outcome


@dataclass
class FakeJob:
    """One job."""

    id: str
    name: str
    queue: str
    plan_url: str
    definition: str
    status: str = "RUNNABLE"
    reason: str | None = None
    created_at: float = field(default_factory=time.time)
    exits: list[int | None] = field(default_factory=list)

    def described(self) -> JsonObject:
        containers = [{"name": f"step-{index}"} for index in range(len(self.exits))]
        for container, code in zip(containers, self.exits, strict=True):
            if code is not None:
                container["exitCode"] = code  # type: ignore[assignment]
        found = {
            "jobId": self.id,
            "jobName": self.name,
            "jobQueue": self.queue,
            "status": self.status,
            "createdAt": self.created_at * 1000,
            "startedAt": self.created_at * 1000,
            "ecsProperties": {"taskProperties": [{"containers": containers, "taskArn": f"task/{self.id}"}]},
        }
        return found if self.reason is None else {**found, "statusReason": self.reason}


@dataclass
class FakeAccount:
    """What outlives every worker."""

    jobs: dict[str, FakeJob] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    definitions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    #: Largest number of ids in one DescribeJobs.
    most_described: int = 0
    #: How often the steps of a key were run.
    ran: Counter[str] = field(default_factory=Counter)
    #: Operation -> what goes wrong at its next calls: "500", "throttle", or "lose" (the answer, after acting).
    faults: dict[str, list[str]] = field(default_factory=dict)
    #: A listing does not show jobs yet that are younger than so many listings.
    lag: int = 0

    def live(self) -> list[FakeJob]:
        return [job for job in self.jobs.values() if job.status not in ("SUCCEEDED", "FAILED")]

    def go_on(self, job: FakeJob) -> None:
        if job.status == "RUNNABLE":
            self._begin(job)
        elif job.status == "RUNNING":
            self._end(job)

    def _begin(self, job: FakeJob) -> None:
        key = job.plan_url.rpartition("/")[2]
        if self.objects.setdefault(f"{key}/{CLAIM}", _claim(job)) != _claim(job):
            job.status, job.reason = "FAILED", "Essential container in task exited"
            return
        job.status = "RUNNING"
        job.exits = [None] * len(read_plan(self.objects[f"{key}/{PLAN}"]).task.steps)
        self.ran[key] += 1

    def _end(self, job: FakeJob) -> None:
        key = job.plan_url.rpartition("/")[2]
        steps = read_plan(self.objects[f"{key}/{PLAN}"]).task.steps
        codes = []
        for step in steps:
            code = _code(step)
            if code is None:
                return
            codes.append(code)
            if code and not step.ignore_error:
                break
        job.exits = [*codes, *[0] * (len(steps) - len(codes))]
        well = len(codes) == len(steps) and all(
            code == 0 or step.ignore_error for code, step in zip(codes, steps, strict=True)
        )
        job.status = "SUCCEEDED" if well else "FAILED"
        job.reason = "Essential container in task exited"
        now = time.time()
        results = tuple(StepResult(started_at=job.created_at, ended_at=now, exit_code=code) for code in codes)
        logs = tuple(
            StepLog(step=index, stream="stdout", text=" ".join(steps[index].command[1:]) + "\n")
            for index in range(len(codes))
        )
        self.objects[f"{key}/{OUTCOME}"] = write_outcome(Outcome(native_job=job.id, steps=results, logs=logs))


class FakeClient:
    """``AwsClient`` over such an account."""

    def __init__(self, account: FakeAccount) -> None:
        self.account = account

    def _called(self, name: str) -> str | None:
        self.account.calls[name] += 1
        kind = next(iter(self.account.faults.get(name, ())), None)
        if kind is not None:
            self.account.faults[name].pop(0)
        if kind == "throttle":
            raise Throttled(f"AWS asks for fewer requests ({name})")
        if kind == "500":
            raise Unavailable(f"AWS failed at {name}")
        return kind

    def _answered(self, name: str, kind: str | None) -> None:
        if kind == "lose":
            raise Unavailable(f"AWS does not answer {name}")

    def submit(self, request: Mapping[str, Any]) -> str:
        kind = self._called("submit")
        job_id = f"job-{len(self.account.jobs) + 1:06d}"
        (task,) = request["ecsPropertiesOverride"]["taskProperties"]
        given = {item["name"]: item["value"] for item in task["containers"][0]["environment"]}
        self.account.jobs[job_id] = FakeJob(
            id=job_id,
            name=request["jobName"],
            queue=request["jobQueue"],
            plan_url=given["WEFT_JOB"],
            definition=request["jobDefinition"],
        )
        self._answered("submit", kind)
        return job_id

    def describe(self, ids: Sequence[str]) -> list[JsonObject]:
        found = []
        for start in range(0, len(ids), DESCRIBE_MOST):
            batch = ids[start : start + DESCRIBE_MOST]
            kind = self._called("describe")
            self.account.most_described = max(self.account.most_described, len(batch))
            for job in (self.account.jobs[job_id] for job_id in batch if job_id in self.account.jobs):
                found.append(job.described())
                self.account.go_on(job)
            self._answered("describe", kind)
        return found

    def named(self, queue: str, name: str) -> list[Listed]:
        kind = self._called("list")
        if self.account.lag > 0:
            self.account.lag -= 1
            return []
        self._answered("list", kind)
        return [_listed(job) for job in self.account.jobs.values() if (job.queue, job.name) == (queue, name)]

    def live(self, queue: str) -> Iterator[Listed]:
        self._called("list")
        yield from [_listed(job) for job in self.account.live() if job.queue == queue]

    def terminate(self, job_id: str, reason: str) -> None:
        kind = self._called("terminate")
        job = self.account.jobs[job_id]
        if job in self.account.live():
            job.status, job.reason = "FAILED", reason
        self._answered("terminate", kind)

    def definition(self, name: str) -> str | None:
        self._called("describe_definitions")
        return f"arn:{name}" if name in self.account.definitions else None

    def register(self, name: str, body: Mapping[str, Any]) -> str:
        kind = self._called("register")
        self.account.definitions[name] = body
        self._answered("register", kind)
        return f"arn:{name}"

    def log_lines(self, group: str, stream: str, token: str | None) -> tuple[list[str], str | None]:
        return [], token

    def identity(self) -> str:
        return "arn:aws:iam::123456789012:user/test"

    def queues(self, names: Iterable[str]) -> list[JsonObject]:
        return [
            {"jobQueueName": name, "state": "ENABLED", "status": "VALID", "computeEnvironmentOrder": _ORDER}
            for name in names
        ]

    def environments(self, names: Iterable[str]) -> list[JsonObject]:
        return [{"computeEnvironmentName": name, "state": "ENABLED", "status": "VALID"} for name in names]


class FakeObjects:
    """``Objects`` over such an account."""

    url = "s3://bucket/jobs"

    def __init__(self, account: FakeAccount) -> None:
        self._all = account.objects

    def put(self, name: str, content: bytes) -> None:
        self._all[name] = content

    def put_first(self, name: str, content: bytes) -> bool:
        return self._all.setdefault(name, content) is content

    def get(self, name: str) -> bytes | None:
        return self._all.get(name)

    def folders(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._all})

    def delete_below(self, name: str) -> None:
        self.delete([found for found in self._all if found.startswith(f"{name}/")])

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._all.pop(name, None)


_ORDER = [{"order": 1, "computeEnvironment": "environment"}]


def _claim(job: FakeJob) -> bytes:
    return f'{{"native_job":"{job.id}"}}'.encode()


def _code(step: Step) -> int | None:
    words = step.command[-1].split()
    if "sleep" in step.command[0] or words[:1] == ["sleep"]:
        return None
    return int(words[1]) if words[:1] == ["exit"] else 0


def _listed(job: FakeJob) -> Listed:
    return Listed(id=job.id, name=job.name, status=job.status, created_at=job.created_at)
