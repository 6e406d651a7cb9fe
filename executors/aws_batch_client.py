"""The door to boto3 for AWS Batch, CloudWatch Logs and STS: few calls, errors in words, nothing sent twice by itself.

Limits of the service that are kept here: 100 ids a ``DescribeJobs``; ``SubmitJob`` knows no client token, so its
answer may get lost after the job was made, and no retry of the SDK may send it again.
https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from weft.errors import ExecutorRefused, Unavailable
from weft.model import JsonObject
from weft.sections.backends import AwsBatchSettings

DESCRIBE_MOST = 100
#: States in which a job may still run.
LIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
_THROTTLED = frozenset(
    {
        "TooManyRequestsException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "LimitExceededException",
    }
)
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
_LOGIN = frozenset({"UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken"})


class Throttled(Unavailable):
    """AWS asks for fewer requests; nothing was done."""


class Denied(Unavailable):
    """AWS does not allow the call, or does not know the credentials: somebody must change that, then it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One job in a listing."""

    id: str
    name: str
    status: str
    created_at: float


class AwsClient:
    """The calls that the executor makes. Every one raises ``Unavailable`` where AWS does not answer or allow it."""

    def __init__(self, settings: AwsBatchSettings) -> None:
        """Keep the settings; the SDK's clients are made at their first use."""
        self._settings = settings
        self._lock = threading.Lock()

    # -- jobs --------------------------------------------------------------------------------------------------

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job once and return its id.

        :raises Throttled: it was not accepted.
        :raises Unavailable: it may have been accepted all the same.
        :raises ExecutorRefused: the service says that it will not take it.
        """
        answer = self._call(lambda: self._once.submit_job(**request), "SubmitJob")
        return str(answer["jobId"])

    def describe(self, ids: Sequence[str]) -> list[JsonObject]:
        """Describe jobs, 100 a call; those that the service does not know are left out."""
        found: list[JsonObject] = []
        for start in range(0, len(ids), DESCRIBE_MOST):
            batch = list(ids[start : start + DESCRIBE_MOST])
            with _said("DescribeJobs"):
                found += self._batch.describe_jobs(jobs=batch)["jobs"]
        return found

    def named(self, queue: str, name: str) -> list[Listed]:
        """Return the jobs of exactly this name in a queue, in whatever state, the newest first."""
        filters = [{"name": "JOB_NAME", "values": [name]}]
        return [job for job in self._listed(jobQueue=queue, filters=filters) if job.name == name]

    def live(self, queue: str) -> Iterator[Listed]:
        """Return the jobs of a queue that may still run."""
        for status in LIVE:
            yield from self._listed(jobQueue=queue, jobStatus=status)

    def terminate(self, job_id: str, reason: str) -> None:
        """Ask for a job's end, whatever its state; one that is not there is no error."""
        self._call(lambda: self._batch.terminate_job(jobId=job_id, reason=reason), "TerminateJob")

    def _listed(self, **wanted: Any) -> Iterator[Listed]:
        token: dict[str, str] = {}
        while True:
            with _said("ListJobs"):
                answer = self._batch.list_jobs(**wanted, **token)
            for job in answer["jobSummaryList"]:
                yield Listed(
                    id=job["jobId"],
                    name=job["jobName"],
                    status=job.get("status", ""),
                    created_at=job.get("createdAt", 0) / 1000,
                )
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    # -- definitions and surroundings --------------------------------------------------------------------------

    def definition(self, name: str) -> str | None:
        """Return the ARN of the active definition of this name."""
        answer = self._call(
            lambda: self._batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE"),
            "DescribeJobDefinitions",
        )
        found = answer["jobDefinitions"]
        return str(max(found, key=lambda one: one["revision"])["jobDefinitionArn"]) if found else None

    def register(self, name: str, body: Mapping[str, Any]) -> str:
        """Register a definition and return its ARN.

        :raises ExecutorRefused: the service says that it will not take it.
        """
        answer = self._call(
            lambda: self._batch.register_job_definition(jobDefinitionName=name, **body), "RegisterJobDefinition"
        )
        return str(answer["jobDefinitionArn"])

    def queues(self, names: Iterable[str]) -> list[JsonObject]:
        """Describe job queues."""
        wanted = list(names)
        answer = self._call(lambda: self._batch.describe_job_queues(jobQueues=wanted), "DescribeJobQueues")
        queues: list[JsonObject] = answer["jobQueues"]
        return queues

    def environments(self, names: Iterable[str]) -> list[JsonObject]:
        """Describe compute environments."""
        wanted = list(names)
        answer = self._call(
            lambda: self._batch.describe_compute_environments(computeEnvironments=wanted),
            "DescribeComputeEnvironments",
        )
        environments: list[JsonObject] = answer["computeEnvironments"]
        return environments

    def identity(self) -> str:
        """Return the ARN that the credentials belong to."""
        return str(self._call(lambda: self._sts.get_caller_identity(), "GetCallerIdentity")["Arn"])

    # -- logs --------------------------------------------------------------------------------------------------

    def log_lines(self, group: str, stream: str, token: str | None) -> tuple[list[str], str | None]:
        """Return the lines since ``token`` (None: from the beginning) and the next token; none yet is no error."""
        more = {} if token is None else {"nextToken": token}
        try:
            answer = self._call(
                lambda: self._logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **more),
                "GetLogEvents",
            )
        except ExecutorRefused:  # no such stream: nothing was written yet
            return [], token
        return [event["message"] for event in answer["events"]], answer.get("nextForwardToken", token)

    # -- the SDK -----------------------------------------------------------------------------------------------

    @cached_property
    def _session(self) -> Any:
        return boto3.session.Session(profile_name=self._settings.profile, region_name=self._settings.region)

    @cached_property
    def _batch(self) -> Any:
        return self._client("batch", attempts=4)

    @cached_property
    def _once(self) -> Any:
        return self._client("batch", attempts=1)

    @cached_property
    def _logs(self) -> Any:
        return self._client("logs", attempts=4)

    @cached_property
    def _sts(self) -> Any:
        return self._client("sts", attempts=2)

    def _client(self, service: str, *, attempts: int) -> Any:
        seconds = self._settings.timeout_seconds
        # "adaptive" slows this client down before the service has to say so again.
        config = Config(
            retries={"mode": "adaptive" if attempts > 1 else "standard", "total_max_attempts": attempts},
            connect_timeout=min(10.0, seconds),
            read_timeout=seconds,
            max_pool_connections=16,
        )
        with self._lock:
            return self._session.client(service, endpoint_url=self._settings.endpoint_url, config=config)

    def _call(self, call: Callable[[], Any], name: str) -> Any:
        with _said(name):
            return call()


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Translate the SDK's errors."""
    try:
        yield
    except ClientError as error:
        raise _in_words(error, name) from error
    except (NoCredentialsError, NoRegionError, ProfileNotFound) as error:
        raise Denied(f"AWS: {error}", remedy="set aws_batch.profile and aws_batch.region") from error
    except BotoCoreError as error:
        raise Unavailable(f"AWS does not answer {name}: {type(error).__name__}") from error


def _in_words(error: ClientError, name: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", "")).strip()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED or status == 429:
        return Throttled(f"AWS asks for fewer requests ({name}: {code})")
    if code in _DENIED:
        remedy = "see examples/aws-batch/weft-policy.json for what weft must be allowed"
        return Denied(f"AWS does not allow {name}: {message or code}", remedy=remedy)
    if code in _LOGIN:
        return Denied(f"AWS does not know these credentials ({name}: {code})", remedy="set aws_batch.profile")
    if status >= 500:
        return Unavailable(f"AWS failed at {name}: {code} ({status})")
    return ExecutorRefused(f"AWS Batch refused {name}: {message or code}")
