"""An account on loopback: the Batch server of the tests, with a queue, a bucket, roles and the staging image."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from pydantic import SecretStr

from tests.testbeds.staging_image import add_staging_image
from weft.sections.backends import AwsBatchSettings
from weft.sections.transfer import S3Settings

REGION, ACCOUNT = "eu-central-1", "123456789012"
BUCKET = "weft-test"
_SERVER = Path(__file__).with_name("batch_server.py")
_READY_WITHIN = 60.0


@dataclass
class BatchSite:
    """Where the services answer, and how a test reaches behind them."""

    endpoint: str
    image: str
    docker_host: str
    credentials: Path

    @property
    def s3(self) -> S3Settings:
        return S3Settings(
            endpoint_url=self.endpoint, region=REGION, access_key_id="test", secret_access_key=SecretStr("test")
        )

    def batch(self, **changes: Any) -> AwsBatchSettings:
        fields: dict[str, Any] = {
            "queue": "weft",
            "spot_queue": "weft-spot",
            "storage": f"s3://{BUCKET}/jobs",
            "image": self.image,
            "job_role": f"arn:aws:iam::{ACCOUNT}:role/weft-job",
            "platform": "EC2",
            "region": REGION,
            "profile": "weft-test",
            "endpoint_url": self.endpoint,
        }
        return AwsBatchSettings(**{**fields, **changes})

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def tell(self, path: str, body: Any = None) -> dict[str, int]:
        """Reach the server's own controls; returns how often each operation of Batch was called so far."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/testbed/{path}", data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            calls: dict[str, int] = json.load(answer)
            return calls

    def fault(self, operation: str, kind: str, times: int = 1) -> None:
        self.tell("faults", [{"operation": operation, "kind": kind, "times": times}])

    def read(self, key: str) -> bytes:
        content: bytes = self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def keys(self, prefix: str) -> list[str]:
        answer = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for item in answer.get("Contents", ())]


@contextmanager
def private_account(docker_host: str, folder: Path) -> Iterator[BatchSite]:
    """Run the server beside an engine, and end it by its own process id."""
    credentials = folder / "aws-credentials"
    credentials.write_text("[weft-test]\naws_access_key_id = test\naws_secret_access_key = test\n")
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(credentials)
    image = add_staging_image(docker_host)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"DOCKER_HOST": docker_host, "PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": REGION}
    with (folder / "batch_server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, _SERVER, str(port)], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    site = BatchSite(f"http://127.0.0.1:{port}", image, docker_host, credentials)
    try:
        _wait_until_ready(site, process, folder / "batch_server.log")
        _furnish(site)
        yield site
    finally:
        process.terminate()
        process.wait(timeout=30)
        del os.environ["AWS_SHARED_CREDENTIALS_FILE"]


def _wait_until_ready(site: BatchSite, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            site.tell("calls")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the Batch server did not start:\n{log.read_text()[-4000:]}")


def _furnish(site: BatchSite) -> None:
    """Make what an account needs; the server takes any compute environment for real."""
    location = {"LocationConstraint": REGION}
    site.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    for role in ("batch", "weft-job"):
        site.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    batch = site.client("batch")
    environment = batch.create_compute_environment(
        computeEnvironmentName="weft-unmanaged",
        type="UNMANAGED",
        state="ENABLED",
        serviceRole=f"arn:aws:iam::{ACCOUNT}:role/batch",
    )
    order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
    for name in ("weft", "weft-spot"):
        batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)
