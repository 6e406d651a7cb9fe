"""``s3://BUCKET/KEY`` by boto3, on AWS or any server that speaks S3. Keys are taken as they are, not escaped.

Credentials come from the settings or from the SDK's own chain; where there are none, requests are unsigned, which
public buckets accept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from weft.config import S3Settings, Settings
from weft.errors import InvalidRequest, StagingFailed, Unavailable
from weft.model import FileType
from weft.ports import Entry, Stager
from weft.staging.urls import authority, path_of, scheme_of, shown

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_PART = 8 << 20

#: S3 error code -> words. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_WORDS = {
    "404": "no such object",
    "NoSuchKey": "no such object",
    "NoSuchBucket": "no such bucket",
    "403": "access denied",
    "AccessDenied": "access denied",
    "InvalidAccessKeyId": "access denied: the server does not know this access key",
    "SignatureDoesNotMatch": "access denied: the secret key does not fit",
    "ExpiredToken": "access denied: the credentials have expired",
}
_TRANSIENT = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "503", "500"}
)


def create(settings: Settings) -> Stager:
    """Return the stager; the client is made at its first use."""
    return S3Stager(settings.s3)


class S3Stager(Stager):
    """Moves objects, large ones in parallel parts."""

    schemes = frozenset({"s3"})

    def __init__(self, settings: S3Settings) -> None:
        """Keep the settings."""
        self._settings = settings
        self._lock = Lock()

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse what is no bucket and key."""
        _split(url)

    def download(self, url: str, target: Path) -> None:
        """Fetch one object; it appears under its name when it is complete."""
        bucket, key = _split(url, object_wanted=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with self._said(url, bucket):
                self._transfers.download(bucket, key, str(part)).result()
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def list(self, url: str) -> Iterable[Entry]:
        """List the keys below ``KEY/``; markers of empty folders (keys that end in ``/``) are left out."""
        bucket, key = _split(url)
        prefix = f"{key.rstrip('/')}/" if key else ""
        with self._said(url, bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", ())]
        return [
            Entry(path=item["Key"].removeprefix(prefix), size_bytes=item["Size"])
            for item in found
            if not item["Key"].endswith("/")
        ]

    def upload(self, source: Path, url: str) -> None:
        """Store one object; S3 shows it when it is complete."""
        bucket, key = _split(url, object_wanted=True)
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise StagingFailed(f"{shown(url)!r}: the name is not UTF-8, which S3 cannot hold") from error
        with self._said(url, bucket):
            self._transfers.upload(str(source), bucket, key).result()

    def kind(self, url: str) -> FileType | None:
        """Ask for the object, then for anything below it."""
        bucket, key = _split(url)
        if not key or key.endswith("/"):
            return FileType.DIRECTORY
        with self._said(url, bucket):
            below = self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1000).get("Contents", ())
        names = [item["Key"] for item in below]
        if key in names:
            return FileType.FILE
        return FileType.DIRECTORY if any(name.startswith(f"{key}/") for name in names) else None

    @cached_property
    def _session(self) -> Any:
        settings = self._settings
        secret = settings.secret_access_key
        return boto3.session.Session(
            profile_name=settings.profile,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        )

    @property
    def _client(self) -> Any:
        with self._lock:
            return self._made_client

    @property
    def _transfers(self) -> Any:
        with self._lock:
            return self._made_transfers

    @cached_property
    def _made_transfers(self) -> Any:
        parts = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=8)
        return create_transfer_manager(self._made_client, parts)

    @cached_property
    def _made_client(self) -> Any:
        foreign: dict[str, Any] = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        unsigned: dict[str, Any] = {"signature_version": UNSIGNED} if self._session.get_credentials() is None else {}
        config = Config(
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=32,
            connect_timeout=10,
            **(foreign if self._settings.endpoint_url else {}),
            **unsigned,
        )
        region = self._session.region_name or ("us-east-1" if self._settings.endpoint_url else None)
        return self._session.client("s3", endpoint_url=self._settings.endpoint_url, region_name=region, config=config)

    @contextmanager
    def _said(self, url: str, bucket: str) -> Iterator[None]:
        """Translate the SDK's errors."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
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
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            return str(error.response.get("Error", {}).get("Code")) == "404"
        except BotoCoreError:
            return False
        return False


def _split(url: str, *, object_wanted: bool = False) -> tuple[str, str]:
    """Return bucket and key.

    :raises InvalidRequest: not a bucket's name; or no key where one object is wanted.
    """
    scheme_of(url)
    bucket = authority(url)
    key = path_of(url).removeprefix("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest(
            f"{shown(url)!r}: {bucket!r} is not a bucket's name", field="url", remedy="s3://BUCKET/KEY"
        )
    if object_wanted and (not key or key.endswith("/")):
        raise InvalidRequest(f"{shown(url)!r} names no object", field="url", remedy="s3://BUCKET/KEY")
    return bucket, key
