"""The tables of ``weft.toml`` about what runs jobs: executors, and the engines of workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from weft.sections.section import Section


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
