"""Settings: one frozen object. Flags win over the environment (``WEFT_*``), which wins over ``weft.toml``.

Nested settings are written ``WEFT_DOCKER__HOST`` in the environment and as tables in the file. Unknown keys stop
the start. Secrets are ``SecretStr``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DockerSettings(Section):
    """The ``docker`` executor."""

    host: str | None = None
    """Address of the Docker Engine; the client's own default (``DOCKER_HOST``) when absent."""
    network: bool = False
    """Give containers a network when a task does not ask. Off: they have loopback only."""
    allow_network: bool = False
    """Let a task ask for a network with ``backend_parameters.network``."""
    max_gpus: int = 0
    """Most GPUs of one task (``backend_parameters.gpus``: a number, or ``all`` for so many)."""
    users: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Users of this host, by number, as which a task may run (``backend_parameters.user``); where weft is root."""
    pids: int = 4096
    """Most processes in one container."""
    default_ram_gb: float = 2.0
    """Memory limit of a task that names none (10**9 bytes)."""
    tmpfs_mb: int = 1024
    """Size of ``/tmp`` in containers where no input, output or volume lies there."""


class ProcessSettings(Section):
    """The ``process`` executor: steps on the host, in a bubblewrap sandbox where there is one."""

    sandbox: bool = True
    """Use ``bwrap`` if it is installed; without it a step still gets a process group and resource limits."""
    network: bool = False
    """Give steps the host's network."""


class SlurmSettings(Section):
    """The ``slurm`` executor: jobs of an HPC site's cluster. The data folder lies where every node sees it."""

    conf: Path | None = None
    """``slurm.conf`` of the cluster (``SLURM_CONF``); Slurm's own default when absent."""
    user: str | None = None
    """Account that jobs run as, needed where weft runs as root. Elsewhere jobs run as weft's own account."""
    python: Path | None = None
    """Python 3.9 or newer on the nodes; the one that runs weft when absent."""
    sandbox: bool = True
    """Shut steps in on the nodes with ``bwrap``; without it they see all that the account sees."""
    network: bool = False
    """Give steps the node's network."""
    images: Path | None = None
    """Folder of unpacked images, as ``ch-image pull`` makes it, seen by every node; without it images are not used."""
    visible: tuple[Path, ...] = ()
    """Folders of the nodes that every step may read, such as ``/software`` or ``/cvmfs``."""
    options: tuple[str, ...] = ()
    """Options of ``sbatch`` for every job, such as ``--account=lab``. What a task may choose comes after them."""
    allow: dict[str, tuple[str, ...]] = {}
    """What a task may choose by ``backend_parameters``: name of an option -> its values, ``*`` for any."""
    max_gpus: int = 0
    """Most GPUs of one task (``backend_parameters.gpus``: ``2`` or ``a100:2``)."""
    max_cpus: int | None = None
    """Most cores of one task; the largest node when absent."""
    max_ram_gb: float | None = None
    """Most memory of one task (10**9 bytes); the largest node when absent."""
    default_ram_gb: float | None = None
    """Memory of a task that names none; the cluster's own default when absent."""
    default_minutes: int | None = None
    """Time limit of a task that names none (``backend_parameters.time``); the partition's own when absent."""
    max_minutes: int | None = None
    """Largest time limit of one task."""
    request_tmp: bool = False
    """Ask for ``disk_gb`` on the node's own disk (``--tmp``); for clusters that say ``TmpDisk`` of their nodes."""
    timeout_seconds: float = 20.0
    """How long one of Slurm's commands may take."""
    grace_seconds: float = 30.0
    """How long an exit file may take to be seen here after Slurm says that its job ended."""


class TesSettings(Section):
    """The ``tes`` executor: a TES server that somebody else runs. It fetches inputs and stores outputs by itself."""

    url: str | None = None
    """Address of the server, with or without ``/ga4gh/tes/v1``. Naming it here allows plain http and private hosts."""
    token: SecretStr | None = None
    """Bearer token for the server; with ``user``, the password of HTTP basic authentication."""
    user: str | None = None
    """Name for HTTP basic authentication, where the server wants that."""
    timeout_seconds: float = Field(default=20.0, gt=0)
    """How long one answer of the server may take, and how long a cancel is waited for."""
    log_seconds: float = Field(default=5.0, gt=0)
    """How often the logs of a running task are asked for."""


class EngineSettings(Section):
    """Workflow engines."""

    max_running: int = 8
    """Engines that run at once; other runs wait in QUEUED."""
    warm_idle_seconds: float = 600.0
    """How long a primed engine process is kept when no run needs it."""
    default_image: str | None = None
    """Image for workflow steps that name none; needed where the executor uses images."""
    nextflow: Path | None = None
    """The ``nextflow`` command; the one on the PATH when absent."""
    nextflow_home: Path | None = None
    """Folder of an installed Nextflow (``NXF_HOME``: ``framework`` and ``plugins``), for engines to read."""
    weft_image: str | None = None
    """Image with the engines in it, for steps that need their engine beside them (Snakemake's ``run``, ``script``)."""
    storage: str | None = None
    """``s3://BUCKET/PREFIX`` by which the files of runs travel to executors that share no folder with weft."""
    time_limit_seconds: float | None = None
    """Wall time of one run."""
    memory_gb: float = 4.0
    """Memory limit of one engine process (10**9 bytes)."""


class AwsBatchSettings(Section):
    """The ``aws_batch`` executor: jobs of AWS Batch, whose files are in S3."""

    queue: str | None = None
    """Job queue for every task that names none."""
    spot_queue: str | None = None
    """Job queue for tasks that are ``preemptible``."""
    queues: tuple[str, ...] = ()
    """Further job queues that a task may name by ``backend_parameters.queue``."""
    storage: str | None = None
    """``s3://BUCKET/PREFIX`` where weft and its jobs meet: plans, outcomes, long logs. Nobody else needs to read it."""
    image: str | None = None
    """Staging image: the target ``staging`` of weft's Dockerfile, in a registry that the jobs can pull from."""
    job_role: str | None = None
    """ARN of the role that staging inside the job has: the storage, and the buckets that tasks may name."""
    execution_role: str | None = None
    """ARN of the role by which ECS pulls images and writes logs."""
    platform: Literal["FARGATE", "EC2"] = "FARGATE"
    """What the compute environments of the queues are."""
    region: str | None = None
    """Region; boto3's own default when absent."""
    profile: str | None = None
    """Profile of the AWS configuration files; boto3's own chain when absent."""
    endpoint_url: str | None = None
    """Where Batch, CloudWatch Logs and STS answer, other than AWS."""
    log_group: str = "/aws/batch/job"
    """Log group of CloudWatch for the jobs; it must exist. One for each project keeps their readers apart."""
    user: str = Field(default="1000:1000", pattern="^[1-9][0-9]*:[1-9][0-9]*$")
    """``UID:GID`` that steps run as; never root."""
    read_only_root: bool = True
    """Give steps their image read-only; ``/tmp`` and the task's own folders are writable."""
    assign_public_ip: bool = False
    """Give Fargate jobs a public address, for subnets without a NAT gateway."""
    default_cpus: int = Field(default=1, ge=1)
    """Cores of a task that names none."""
    default_ram_gb: float = Field(default=2.0, gt=0)
    """Memory of a task that names none (10**9 bytes)."""
    max_cpus: int | None = None
    """Most cores of one task; what the platform can give when absent."""
    max_ram_gb: float | None = None
    """Most memory of one task (10**9 bytes); what the platform can give when absent."""
    max_gpus: int = 0
    """Most GPUs of one task (``backend_parameters.gpus``); on EC2 only."""
    live_logs: int = Field(default=10, ge=0)
    """How many jobs' live logs are fetched in one beat; the others wait for their turn."""
    timeout_seconds: float = 20.0
    """How long one call to AWS may take, and how long a cancel waits for a job's end."""
    runnable_seconds: float = 300.0
    """How long a job may wait for a place before the system log says what it waits for."""


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


class CallbackSettings(Section):
    """Telling a URL that a job ended."""

    by_clients: bool = True
    """Let who creates a job name a URL with the header ``Weft-Callback``."""
    url: str | None = None
    """Where the end of every task and run is told besides; the tasks of runs are left out."""
    secret: SecretStr | None = None
    """Signs what goes to ``url``: ``whsec_`` and the base64 of 24 to 64 random bytes."""
    running: bool = False
    """Tell also when a job begins to run."""


class LimitSettings(Section):
    """What one user may have, and what the server takes on; absent: any number."""

    running: int | None = Field(default=None, ge=1)
    """Tasks of one user that run at once; and as many runs."""
    queued: int | None = Field(default=None, ge=0)
    """Jobs of one user that wait; a create beyond it is answered 429. Tasks of a run count and are never refused."""
    queued_in_all: int | None = Field(default=None, ge=0)
    """Jobs that wait in all; a create beyond it is answered 503."""
    requests: float | None = Field(default=None, gt=0)
    """Requests of one user a second; more are answered 429. Counted in each API process by itself."""
    burst: int = Field(default=100, ge=1)
    """How many of them may come at once."""
    connections: int = Field(default=10_000, ge=1)
    """Open connections of one API process; one more is answered 503. Never more than the open files it may have."""
    at_once: int = Field(default=1000, ge=1)
    """Requests that one API process has in hand; one more is answered 503."""
    stalled_seconds: float = Field(default=30.0, gt=0)
    """A connection is closed on which nothing has moved for so long, or at most twice as long: a client that does not
    send its request, or does not read its answer."""
    priority: int = Field(default=10, ge=0)
    """The highest ``backend_parameters.priority`` of a task, and below 0 the lowest: it ranks the tasks of one user."""


class HubSettings(Section):
    """A hub: a weft whose ``executor`` is ``node``."""

    silent_seconds: float = Field(default=90.0, gt=0)
    """A node that was not heard for so long counts as silent: it gets no new work, and its jobs say so."""
    invite_hours: float = Field(default=24.0, gt=0)
    """How long an enrolment token may be used."""
    release_bytes: int = Field(default=1 << 30, ge=0)
    """Largest file that a node may send here."""


class ReleaseSettings(Section):
    """What may leave a site that has joined a hub: the files of the hub's runs. A task with outputs needs ``auto``."""

    policy: Literal["stay", "auto", "checked", "manual"] = "stay"
    """``stay``: nothing; ``auto``: all; ``checked``: what passes the checks; ``manual``: what somebody approves."""
    logs: bool = True
    """Show the hub the ends of logs. Off where a program might print what it must not."""
    types: tuple[str, ...] = (".tsv", ".csv", ".txt", ".json", ".html", ".svg", ".png", ".pdf")
    """Endings of the names that pass (``checked``)."""
    max_mb: float = Field(default=10.0, gt=0)
    """Largest file that passes (10**6 bytes, ``checked``)."""
    min_count: int = Field(default=5, ge=0)
    """A table with a whole number below this, other than 0, does not pass (``checked``)."""
    count_columns: tuple[str, ...] = ()
    """Columns of tables that hold counts; a table needs one of them. Without any, all whole numbers are counts."""


#: Signatures with a public key alone: a key that both sides know is never a proof of who signed.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
Role = Literal["submitter", "operator", "auditor", "reviewer"]


class IssuerSettings(Section):
    """``[[auth.issuers]]``: an OpenID Connect provider whose tokens are accepted."""

    issuer: str = Field(pattern=r"^https?://[^\s|]+$")
    """Its URL, exactly as ``iss`` has it."""
    audience: tuple[str, ...] = ()
    """What ``aud`` of a token must hold one of: the names of this weft at the provider."""
    require_audience: bool = True
    """Off: a token for anybody is accepted, for providers that write no useful ``aud``."""
    jwks_uri: str | None = None
    """Where its keys are; by discovery when absent."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    """How its tokens may be signed."""
    opaque: Literal["refuse", "introspection", "userinfo"] = "refuse"
    """How to ask for a token that is no JWT: introspection (RFC 7662, needs the client) or userinfo."""
    introspection_endpoint: str | None = None
    """By discovery when absent."""
    userinfo_endpoint: str | None = None
    """By discovery when absent."""
    token_endpoint: str | None = None
    """By discovery when absent."""
    client_id: str | None = None
    """The client that weft is at the provider, for introspection and token exchange."""
    client_secret: SecretStr | None = None
    """Its secret."""
    roles_claim: str = "roles"
    """Claim that names the caller's roles; dots lead into objects, as in ``realm_access.roles``."""
    roles: dict[str, Role] = {}
    """Value of that claim -> role here; other values mean nothing."""
    groups_claim: str = "groups"
    """Claim that names the caller's groups; dots lead into objects."""
    use_scopes: bool = False
    """Let a token do only what its ``scope`` names: tes:read, tes:write, wes:read, wes:write."""
    passport: Literal["ignore", "userinfo", "exchange"] = "ignore"
    """Trust the provider as a GA4GH broker, and get visas from userinfo or by token exchange (RFC 8693)."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.require_audience and not self.audience and self.opaque != "userinfo":
            raise ValueError(f"{self.issuer}: name the audience, or say require_audience = false")
        if (self.opaque == "introspection" or self.passport == "exchange") and not (
            self.client_id and self.client_secret
        ):
            raise ValueError(f"{self.issuer}: introspection and exchange need client_id and client_secret")
        return self


class VisaIssuerSettings(Section):
    """``[[auth.visa_issuers]]``: who may sign GA4GH visas, where the keys are, and for whom it may speak."""

    issuer: str = Field(min_length=1)
    """``iss`` of its visas, exactly."""
    jku: str = Field(pattern=r"^https?://")
    """The one address of its keys, exactly as ``jku`` of its visas has it."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Values of ``source`` that are believed from it, exactly; ``*`` for any."""


class AuthSettings(Section):
    """Who may ask. See docs/security.md."""

    login: Literal["off", "tokens", "oidc"] | None = None
    """``off``: nobody logs in. ``tokens``: tokens that ``weft token create`` made. ``oidc``: these and those of the
    issuers. When absent: ``oidc`` if there are issuers, else ``off``."""
    issuers: tuple[IssuerSettings, ...] = ()
    """``[[auth.issuers]]``, see below."""
    visa_issuers: tuple[VisaIssuerSettings, ...] = ()
    """``[[auth.visa_issuers]]``, see below."""
    remember_seconds: float = Field(default=300.0, ge=0, le=3600)
    """How long a token that was found good is not looked at again. Local tokens: at most 2 seconds."""

    @property
    def mode(self) -> Literal["off", "tokens", "oidc"]:
        """The login that is in force."""
        return self.login or ("oidc" if self.issuers else "off")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.login == "oidc" and not self.issuers:
            raise ValueError("login = oidc needs [[auth.issuers]]")
        if self.login in ("off", "tokens") and self.issuers:
            raise ValueError(f"login = {self.login} contradicts [[auth.issuers]]")
        if len({item.issuer for item in self.issuers}) < len(self.issuers):
            raise ValueError("two issuers have the same name")
        if sum(item.opaque != "refuse" for item in self.issuers) > 1:
            raise ValueError("only one issuer may answer for opaque tokens: others would be shown what is not theirs")
        return self


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
