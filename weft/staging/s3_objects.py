"""Small objects below one ``s3://BUCKET/PREFIX``, read and written whole: where weft and its jobs far away meet."""

from __future__ import annotations

from collections.abc import Iterable

from botocore.exceptions import ClientError

from weft.sections.transfer import S3Settings
from weft.staging.s3 import split
from weft.staging.s3_client import Clients, code_of

_MOST_DELETED = 1000  # in one request
_DENIED = "AccessDenied"
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class Objects:
    """Reads and writes below one URL. Errors are those of a stager."""

    def __init__(self, settings: S3Settings, url: str) -> None:
        """Keep where the objects are.

        :raises InvalidRequest: not an S3 URL.
        """
        self.url = url.rstrip("/")
        self.bucket, key = split(self.url)
        self._prefix = f"{key}/" if key else ""
        self._client = Clients(settings).of(self.bucket)

    def put(self, name: str, content: bytes) -> None:
        """Store an object, or replace it."""
        with self._client.said(f"{self.url}/{name}", self.bucket):
            self._put(name, content)

    def put_first(self, name: str, content: bytes) -> bool:
        """Store an object unless there is one; True if it was stored."""
        with self._client.said(f"{self.url}/{name}", self.bucket):
            try:
                self._put(name, content, IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) in _TAKEN:
                    return False
                raise
        return True

    def get(self, name: str) -> bytes | None:
        """Read an object; None if there is none."""
        with self._client.said(f"{self.url}/{name}", self.bucket):
            try:
                answer = self._client.s3.get_object(Bucket=self.bucket, Key=self._prefix + name, **self._client.reading)
            except ClientError as error:
                if code_of(error) == "NoSuchKey" or (code_of(error) == _DENIED and not self._exists(name)):
                    return None
                raise
            content: bytes = answer["Body"].read()
            return content

    def folders(self) -> list[str]:
        """Return the names that have objects below them."""
        with self._client.said(self.url, self.bucket):
            pages = self._client.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix, Delimiter="/"
            )
            found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        return [prefix.removeprefix(self._prefix).rstrip("/") for prefix in found]

    def delete_below(self, name: str) -> None:
        """Delete all objects below ``NAME/``."""
        prefix = f"{self._prefix}{name}/"
        with self._client.said(f"{self.url}/{name}", self.bucket):
            pages = self._client.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            self._delete([item["Key"] for page in pages for item in page.get("Contents", ())])

    def delete(self, names: Iterable[str]) -> None:
        """Delete these objects; one that is not there is no error."""
        with self._client.said(self.url, self.bucket):
            self._delete([self._prefix + name for name in names])

    def _exists(self, name: str) -> bool:
        """Look in the listing: who may list this prefix only is told "access denied" for what is not there."""
        key = self._prefix + name
        found = self._client.s3.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1).get("Contents", ())
        return any(item["Key"] == key for item in found)

    def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _MOST_DELETED):
            batch = [{"Key": key} for key in keys[start : start + _MOST_DELETED]]
            self._client.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})

    def _put(self, name: str, content: bytes, **more: str) -> None:
        self._client.s3.put_object(
            Bucket=self.bucket, Key=self._prefix + name, Body=content, **self._client.writing, **more
        )
