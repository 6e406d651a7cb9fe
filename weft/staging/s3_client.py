"""The door to boto3 for storage: clients by bucket, and the SDK's errors in words.

Credentials come from the settings or from the SDK's own chain; where there are none, requests are unsigned, which
public buckets accept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from weft.errors import StagingFailed, Unavailable
from weft.sections.transfer import S3Place, S3Settings
from weft.staging.urls import shown

#: S3 error code -> words. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_WORDS = {
    "404": "no such object",
    "NoSuchKey": "no such object",
    "NoSuchBucket": "no such bucket",
    "403": "access denied",
    "AccessDenied": "access denied",
    "AllAccessDisabled": "access denied",
    "InvalidAccessKeyId": "access denied: the server does not know this access key",
    "SignatureDoesNotMatch": "access denied: the secret key does not fit",
    "ExpiredToken": "access denied: the credentials have expired",
    "PermanentRedirect": "the bucket is in another region: set s3.region or s3.buckets.NAME.region",
    "301": "the bucket is in another region: set s3.region or s3.buckets.NAME.region",
    "InvalidObjectState": "the object is archived and must be restored first",
}
_TRANSIENT = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "503", "500"}
)


class Clients:
    """One client for each way to reach a bucket, made at its first use. May be used from any thread."""

    def __init__(self, settings: S3Settings) -> None:
        """Keep the settings."""
        self._settings = settings
        self._lock = Lock()
        self._made: dict[str, BucketClient] = {}

    def of(self, bucket: str) -> BucketClient:
        """Return the client for a bucket: the common one, unless the settings name the bucket."""
        name = bucket if bucket in self._settings.buckets else ""
        with self._lock:
            if name not in self._made:
                self._made[name] = BucketClient(self._settings, self._settings.place(bucket))
            return self._made[name]


class BucketClient:
    """A client, the extra arguments that every request of a kind takes, and the transfers."""

    def __init__(self, settings: S3Settings, place: S3Place) -> None:
        """Make the client; no request is sent."""
        self._settings = settings
        self._place = place
        self._lock = Lock()
        payer = {"RequestPayer": "requester"} if place.requester_pays else {}
        optional = {
            "ServerSideEncryption": place.encryption,
            "SSEKMSKeyId": place.kms_key_id,
            "ChecksumAlgorithm": place.checksum,
        }
        self.reading: dict[str, str] = payer
        self.writing: dict[str, str] = payer | {name: value for name, value in optional.items() if value is not None}

    @property
    def s3(self) -> Any:
        """The SDK's client."""
        with self._lock:
            return self._client

    @property
    def transfers(self) -> Any:
        """Moves files in parallel parts."""
        with self._lock:
            return self._transfers

    @cached_property
    def _transfers(self) -> Any:
        part = self._settings.part_mb << 20
        parts = TransferConfig(
            multipart_threshold=part, multipart_chunksize=part, max_concurrency=self._settings.parallel
        )
        return create_transfer_manager(self._client, parts)

    @cached_property
    def _client(self) -> Any:
        place = self._place
        secret = place.secret_access_key
        session = boto3.session.Session(
            profile_name=place.profile,
            region_name=place.region,
            aws_access_key_id=place.access_key_id,
            aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        )
        foreign: dict[str, Any] = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        unsigned: dict[str, Any] = {"signature_version": UNSIGNED} if session.get_credentials() is None else {}
        config = Config(
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=32,
            connect_timeout=10,
            **(foreign if place.endpoint_url else {}),
            **unsigned,
        )
        region = session.region_name or ("us-east-1" if place.endpoint_url else None)
        return session.client("s3", endpoint_url=place.endpoint_url, region_name=region, config=config)

    @contextmanager
    def said(self, url: str, bucket: str) -> Iterator[None]:
        """Translate the SDK's errors.

        :raises StagingFailed: what is wrong with the bucket, the key or the login.
        :raises Unavailable: no answer now.
        """
        try:
            yield
        except ClientError as error:
            code = code_of(error)
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _TRANSIENT or status >= 500:
                raise Unavailable(f"{code} at {shown(url)}") from error
            words = "no such bucket" if code == "404" and self._is_missing(bucket) else _WORDS.get(code, code)
            raise StagingFailed(f"{words} ({status}) at {shown(url)}") from error
        except (ConnectionError, HTTPClientError) as error:
            raise Unavailable(f"no answer for {shown(url)}: {type(error).__name__}") from error
        except (BotoCoreError, OSError) as error:
            raise StagingFailed(f"{error} at {shown(url)}") from error

    def _is_missing(self, bucket: str) -> bool:
        """Tell a missing bucket from a missing key: the answer to HEAD has no body that would say it."""
        try:
            self.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            return code_of(error) == "404"
        except BotoCoreError:
            return False
        return False


def code_of(error: Exception) -> str:
    """Return the service's code of an error, "" for what is no answer of the service."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
