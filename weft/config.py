"""Settings: one frozen object. Flags win over the environment (``WEFT_*``), which wins over ``weft.toml``.

Nested settings are written ``WEFT_DOCKER__HOST`` in the environment and as tables in the file. Unknown keys stop
the start. Secrets are ``SecretStr``.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Self

from platformdirs import user_data_path
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from weft.sections.backends import (
    AwsBatchSettings,
    DockerSettings,
    EngineSettings,
    ProcessSettings,
    SlurmSettings,
    TesSettings,
)
from weft.sections.login import AuthSettings
from weft.sections.service import CallbackSettings, HubSettings, LimitSettings, ReleaseSettings
from weft.sections.transfer import (
    DrsSettings,
    FetchSettings,
    FsspecSettings,
    FtpSettings,
    S3Settings,
    StorageProfile,
    TrsSettings,
)


class Settings(BaseSettings):
    """All settings of weft."""

    model_config = SettingsConfigDict(
        env_prefix="WEFT_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    base_url: str | None = None
    """The URL that clients see, when weft stands behind a proxy: absolute links are made of it."""
    data: Path = Field(default_factory=lambda: user_data_path("weft"))
    """Folder for the database and the jobs' files."""
    database: str | None = None
    """SQLAlchemy URL; ``sqlite:///DATA/weft.db`` when absent."""
    allow_unauthenticated: bool = False
    """Listen beyond loopback although nobody has to log in. Anybody who can reach the port can run programs."""
    cors_origins: tuple[str, ...] = ()
    """Origins (``https://portal.example.org``) whose pages may use the API from a browser. service-info is for all."""
    tls_cert: Path | None = None
    """PEM file of the server's certificate with its chain: the port speaks https."""
    tls_key: Path | None = None
    """PEM file of its key; in ``tls_cert`` when absent."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose certificates clients must show (mutual TLS)."""
    header_seconds: float = Field(default=15.0, gt=0)
    """How long a client may take to send the head of a request."""
    body_seconds: float = Field(default=30.0, gt=0)
    """How long a client that sends a body may be silent; below 1 KiB/s on average it is cut off too."""
    policy: Path | None = None
    """File that says who may do what with which data (docs/policy.md); absent: every job is its owner's alone."""
    audit: bool | None = None
    """Keep the audit record (docs/audit.md). When absent: wherever there is a policy or a login."""
    audit_database: str | None = None
    """SQLAlchemy URL of the audit record; when absent ``DATA/audit/audit.db``, or the jobs' PostgreSQL."""
    executor: str = "auto"
    """Name of an executor, or ``auto``: the first usable of docker, process."""
    max_running: int | None = None
    """Tasks that run at once; the executor's own measure when absent."""
    staging_threads: int = 8
    """Jobs that are prepared or collected at once."""
    file_roots: tuple[Path, ...] = ()
    """Folders that ``file://`` URLs and bare paths may name."""
    datasets: dict[str, Path] = {}
    """Name of a dataset that this site holds -> its folder. ``dataset://NAME/file`` names a file of it, to be read."""
    writable_inputs: bool = False
    """Mount ``file://`` inputs writable in place instead of read-only (Toil needs this)."""
    max_body_bytes: int = 16 << 20
    """Largest request body of JSON."""
    max_content_bytes: int = 1 << 20
    """Largest ``content`` of one input, in bytes of UTF-8; TES asks for at least 128 KiB."""
    max_attachment_bytes: int = 1 << 30
    """Largest sum of a run's attachments."""
    binary_gigabytes: bool = False
    """Read ``ram_gb`` and ``disk_gb`` of tasks as 2**30 bytes a unit. Off: 10**9, as TES writes it."""
    max_retries: int = Field(default=5, ge=0)
    """The most that a task may ask for with ``backend_parameters.max_retries``."""
    keep_days: float | None = Field(default=None, gt=0)
    """Remove jobs, with the files that weft keeps of them, so long after their end; absent: they are kept."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_json: bool = False
    """Log one JSON object a line."""
    log_tail_bytes: int = 10_000
    """How much of the end of each stdout and stderr the FULL view shows."""
    max_log_bytes: int = 64 << 20
    """How much captured stdout or stderr is kept on disk where a step names no path for it."""
    time_limit_seconds: float | None = None
    """Wall time of one task's attempt."""
    output_patience_seconds: float = Field(default=600.0, ge=0)
    """How long the outputs of a task that is done wait for a store that does not answer, before the task fails."""
    lease_seconds: float = 30.0
    """How long a worker that fell silent keeps its jobs."""
    beat_seconds: float = 1.0
    """Pause between looks at executors that do not wake the worker, and between saves of live logs."""
    service_id: str = "org.weft.local"
    """Reverse domain name for service-info; ``.tes`` and ``.wes`` are appended."""
    service_name: str = "weft"
    """Name for service-info."""
    organization_name: str = "weft"
    """For service-info."""
    organization_url: str = "https://weft.example.org"
    """For service-info."""
    docker: DockerSettings = DockerSettings()
    process: ProcessSettings = ProcessSettings()
    slurm: SlurmSettings = SlurmSettings()
    aws_batch: AwsBatchSettings = AwsBatchSettings()
    tes: TesSettings = TesSettings()
    engine: EngineSettings = EngineSettings()
    s3: S3Settings = S3Settings()
    fetch: FetchSettings = FetchSettings()
    ftp: FtpSettings = FtpSettings()
    drs: DrsSettings = DrsSettings()
    trs: TrsSettings = TrsSettings()
    fsspec: FsspecSettings = FsspecSettings()
    callbacks: CallbackSettings = CallbackSettings()
    limits: LimitSettings = LimitSettings()
    hub: HubSettings = HubSettings()
    release: ReleaseSettings = ReleaseSettings()
    auth: AuthSettings = AuthSettings()
    storage: dict[str, StorageProfile] = {}
    """``[storage.NAME]``: credentials by address, see docs/security.md."""

    @model_validator(mode="after")
    def _has_a_certificate(self) -> Self:
        if self.tls_cert is None and (self.tls_key or self.tls_client_ca):
            raise ValueError("tls_key and tls_client_ca need tls_cert")
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach ``host``."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def database_url(self) -> str:
        """The URL that is in force."""
        return self.database or f"sqlite:///{self.data / 'weft.db'}"

    @property
    def membership(self) -> Path:
        """Where a site that joined a hub keeps its key and the hub's address."""
        return self.data / "node"

    @property
    def engine_socket(self) -> Path:
        """The Unix socket on which engines reach the API, in a folder of its own that their sandbox shows."""
        return self.data / "engine" / "tes.sock"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, file."""
        file = settings_file()
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if file is not None:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        return sources


def settings_file() -> Path | None:
    """Return the settings file: ``WEFT_CONFIG`` if set, else ``weft.toml`` here, else none."""
    named = os.environ.get("WEFT_CONFIG")
    if named:
        return Path(named)
    here = Path("weft.toml")
    return here if here.is_file() else None


def load(**flags: Any) -> Settings:
    """Read the settings; ``flags`` that are None count as not given.

    :raises pydantic.ValidationError: an unknown key or a bad value; says which.
    """
    return Settings(**{name: value for name, value in flags.items() if value is not None})
