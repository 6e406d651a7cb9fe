"""``s3://BUCKET/KEY`` on AWS or any server that speaks S3. Keys are taken as they are, not escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed
from weft.model import FileType
from weft.ports import Entry, Stager
from weft.sections.transfer import S3Settings
from weft.staging import halt
from weft.staging.s3_client import Clients
from weft.staging.urls import authority, path_of, scheme_of, shown

#: How long a cancel may wait for a look, in seconds.
_LONGEST_PAUSE = 0.1
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)


def create(settings: Settings) -> Stager:
    """Return the stager; the client is made at its first use."""
    return S3Stager(settings.s3)


class S3Stager(Stager):
    """Moves objects, large ones in parallel parts."""

    schemes = frozenset({"s3"})

    def __init__(self, settings: S3Settings) -> None:
        """Keep the settings."""
        self._clients = Clients(settings)

    def check(self, url: str, *, writing: bool) -> None:
        """Refuse what is no bucket and key."""
        split(url)

    def download(self, url: str, target: Path) -> None:
        """Fetch one object; it appears under its name when it is complete."""
        bucket, key = split(url, object_wanted=True)
        part = target.with_name(f"{target.name}.part")
        try:
            client = self._clients.of(bucket)
            with client.said(url, bucket):
                _finish(client.transfers.download(bucket, key, str(part), extra_args=client.reading))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def list(self, url: str) -> Iterable[Entry]:
        """List the keys below ``KEY/``; markers of empty folders (keys that end in ``/``) are left out."""
        bucket, key = split(url)
        prefix = f"{key.rstrip('/')}/" if key else ""
        client = self._clients.of(bucket)
        with client.said(url, bucket):
            paginator = client.s3.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=bucket, Prefix=prefix, **client.reading)
            found = [item for page in pages for item in page.get("Contents", ())]
        return [
            Entry(path=item["Key"].removeprefix(prefix), size_bytes=item["Size"])
            for item in found
            if not item["Key"].endswith("/")
        ]

    def upload(self, source: Path, url: str) -> None:
        """Store one object; S3 shows it when it is complete."""
        bucket, key = split(url, object_wanted=True)
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise StagingFailed(f"{shown(url)!r}: the name is not UTF-8, which S3 cannot hold") from error
        client = self._clients.of(bucket)
        with client.said(url, bucket):
            _finish(client.transfers.upload(str(source), bucket, key, extra_args=client.writing))

    def kind(self, url: str) -> FileType | None:
        """Ask for the object, then for anything below it."""
        bucket, key = split(url)
        if not key or key.endswith("/"):
            return FileType.DIRECTORY
        client = self._clients.of(bucket)
        with client.said(url, bucket):
            answer = client.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1000, **client.reading)
            below = answer.get("Contents", ())
        names = [item["Key"] for item in below]
        if key in names:
            return FileType.FILE
        return FileType.DIRECTORY if any(name.startswith(f"{key}/") for name in names) else None


def split(url: str, *, object_wanted: bool = False) -> tuple[str, str]:
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


def _finish(transfer: Any) -> None:
    """Wait for the end of a transfer, or end it where the job does not want it any more (``halt``)."""
    pause = 0.001
    try:
        while not transfer.done():
            halt.pause(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)
    except halt.Halted:
        transfer.cancel()
        raise
    transfer.result()
