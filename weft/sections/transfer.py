"""The tables of ``weft.toml`` about what moves bytes, and with which credentials."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from weft.sections.section import Section


class S3Place(Section):
    """How a bucket is reached and written."""

    endpoint_url: str | None = None
    """An S3 server other than AWS."""
    profile: str | None = None
    """Profile of the AWS configuration files."""
    region: str | None = None
    """Region; boto3's own default when absent."""
    access_key_id: str | None = None
    """Access key, where no profile is used."""
    secret_access_key: SecretStr | None = None
    """Secret key, where no profile is used."""
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """Server-side encryption of what is stored; the bucket's own default when absent."""
    kms_key_id: str | None = None
    """Key for ``aws:kms``; the account's own when absent."""
    checksum: Literal["CRC32", "CRC32C", "SHA1", "SHA256"] | None = None
    """Checksum that is stored with an object and checked by the server; on AWS the SDK's own (CRC32) when absent."""
    requester_pays: bool = False
    """Pay for requests to buckets of others that want it."""


class S3Settings(S3Place):
    """``s3://`` URLs."""

    part_mb: int = Field(default=8, ge=5, le=5120)
    """Size of the parts in which large objects are moved (2**20 bytes)."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Parts of one object that are moved at once."""
    buckets: dict[str, S3Place] = {}
    """Buckets that differ: ``[s3.buckets.NAME]`` with any of the settings above; what it does not say is as above."""

    def place(self, bucket: str) -> S3Place:
        """Return what counts for one bucket."""
        common = {name: getattr(self, name) for name in S3Place.model_fields}
        own = self.buckets.get(bucket)
        if own is None:
            return S3Place(**common)
        if own.model_fields_set & {"profile", "access_key_id"}:  # another login: nothing of the common one is kept
            common |= {"profile": None, "access_key_id": None, "secret_access_key": None}
        return S3Place(**common | {name: getattr(own, name) for name in own.model_fields_set})


class StorageProfile(Section):
    """``[storage.NAME]``: credentials for addresses below some prefixes, kept here and in no task."""

    prefixes: tuple[str, ...] = Field(min_length=1)
    """What they are for: ``s3://bucket/folder`` or ``https://host/path``, and all below."""
    projects: tuple[str, ...] = ()
    """Projects of the site's policy whose jobs may use them; everybody's, when empty."""
    s3: S3Settings = S3Settings()
    """Endpoint and keys, for ``s3://`` prefixes."""
    bearer: SecretStr | None = None
    """Token that goes along, for ``https://`` prefixes."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        schemes = {prefix.partition("://")[0] for prefix in self.prefixes}
        if not (schemes <= {"s3"} or (schemes <= {"http", "https"} and self.bearer is not None)):
            raise ValueError("prefixes must all be s3://…, or all https://… with a bearer token")
        return self


class FtpLogin(Section):
    """A user of an FTP server."""

    user: str
    """Name."""
    password: SecretStr
    """Password; it travels unencrypted, as FTP has it, but to the hosts in ``ftp.tls_hosts``."""


class FtpSettings(Section):
    """``ftp://`` URLs: anonymous for the hosts in ``fetch.allow_hosts``, with a login for those here."""

    hosts: dict[str, FtpLogin] = {}
    """Host to its login: ``[ftp.hosts."ftp.example.org"]`` with ``user`` and ``password``."""
    tls_hosts: tuple[str, ...] = ()
    """Hosts that are spoken to by TLS alone (``AUTH TLS``, RFC 4217); their certificates are verified."""


class DrsSettings(Section):
    """``drs://`` URLs, which name an object by its host."""

    tokens: dict[str, SecretStr] = {}
    """Host to the bearer token for its API."""
    http_hosts: tuple[str, ...] = ()
    """``host:port`` whose DRS API speaks plain http; they must be in ``fetch.allow_hosts`` too."""


class TrsSettings(Section):
    """Tool registries, by ``trs://`` and by the URL of a descriptor as ``workflow_url``."""

    tokens: dict[str, SecretStr] = {}
    """Host to the bearer token for its API."""
    http_hosts: tuple[str, ...] = ()
    """``host:port`` whose TRS API speaks plain http; they must be in ``fetch.allow_hosts`` too."""


class FsspecSettings(Section):
    """Further schemes through fsspec, where ``weft[fsspec]`` and the driver of the scheme are installed."""

    schemes: tuple[str, ...] = ()
    """Schemes to offer, such as ``gs``; none by default, and none that reaches this machine's own files."""


class FetchSettings(Section):
    """The guarded HTTP client that fetches on a stranger's word."""

    allow_hosts: tuple[str, ...] = ()
    """``host`` or ``host:port`` that may be fetched by plain http and on private or loopback addresses."""
    only_listed: bool = False
    """Fetch from listed hosts alone."""
    max_bytes: int = 1 << 40
    """Largest body."""
    connect_seconds: float = 10.0
    """Longest time to connect."""
    read_seconds: float = 60.0
    """Longest silence while reading."""
    total_seconds: float = 6 * 3600.0
    """Longest time for one body."""
