"""Decide what a step's container looks like and what its end means. Pure: a Submission in, API documents out.

The documents are those of the Engine API (``ContainerCreate``, ``ContainerInspect``):
https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.model import JsonObject, Mount, Resources, Step, StepResult, Submission
from weft.ports import Failure

OWNER = "weft.owner"
KEY = "weft.key"
JOB = "weft.job"
ATTEMPT = "weft.attempt"
STEP = "weft.step"
STEPS = "weft.steps"
FOLDER = "weft.folder"

#: The least memory that the Engine takes (6 MiB since 20.10).
LEAST_MEMORY = 6 << 20
OPEN_FILES = 16_384
#: Steps of an image without a user of their own run as this one ("nobody") where weft is root and names none.
NOBODY = 65_534
#: "No limit" for json-file, which refuses 0 and -1; naming it keeps the Engine's own default from losing output.
UNLIMITED = "100000g"
#: Inside a container without a network, where the Engine writes no /etc/hosts.
HOSTS = "127.0.0.1\tlocalhost weft\n::1\tlocalhost ip6-localhost ip6-loopback\n"
HOSTNAME = "weft"
#: What a process tells by dying of a signal: exit code 128 + number, as shells and init processes count.
SIGNALS = {134: "aborted (SIGABRT)", 135: "bus error (SIGBUS)", 137: "killed (SIGKILL)", 139: "crashed (SIGSEGV)"}
GPUS = "gpus"
YES = frozenset({"true", "yes", "1", "on", "bridge"})
NO = frozenset({"false", "no", "0", "off", "none"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the settings and the host allow; sizes in bytes."""

    owner: str
    uid: int
    gid: int
    host_cpus: int | None
    host_memory: int | None
    default_memory: int
    pids: int
    tmpfs_mb: int
    max_log_bytes: int
    network: bool
    allow_network: bool
    max_gpus: int = 0
    init: bool = True


def limits_of(settings: Settings, owner: str, info: Mapping[str, Any]) -> Limits:
    """Put together what the settings and the Engine's ``SystemInfo`` document say."""
    uid = os.getuid()
    return Limits(
        owner=owner,
        uid=uid or NOBODY,
        gid=os.getgid() if uid else NOBODY,
        host_cpus=info.get("NCPU"),
        host_memory=info.get("MemTotal"),
        default_memory=int(settings.docker.default_ram_gb * 10**9),
        pids=settings.docker.pids,
        tmpfs_mb=settings.docker.tmpfs_mb,
        max_log_bytes=settings.max_log_bytes,
        network=settings.docker.network,
        allow_network=settings.docker.allow_network,
        max_gpus=settings.docker.max_gpus,
    )


def owner_of(data: Path) -> str:
    """Name the installation by its data folder."""
    return hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]


def container_name(owner: str, key: str, index: int) -> str:
    """Name step ``index`` of the native job ``key``; two installations on one Engine never meet, not even as copies."""
    return f"weft-{owner[:8]}-{key}-{index}"


def memory_limit(resources: Resources, limits: Limits) -> int:
    """Return the memory of one step in bytes: what was asked for, else the default.

    :raises ExecutorRefused: more than the host has.
    """
    asked = resources.ram_bytes
    if asked is None:
        return max(LEAST_MEMORY, limits.default_memory)
    if limits.host_memory is not None and asked > limits.host_memory:
        has = limits.host_memory / 10**9
        raise ExecutorRefused(f"the task asks for {asked / 10**9:g} GB of memory; this host has {has:.1f} GB")
    return max(LEAST_MEMORY, asked)


def wants_network(resources: Resources, limits: Limits) -> bool:
    """Tell whether the steps get a network.

    :raises ExecutorRefused: it is asked for and not allowed, or with a word that means nothing.
    """
    asked = next((value for key, value in resources.backend_parameters.items() if key.lower() == "network"), None)
    if asked is None:
        return limits.network
    if asked.lower() in NO:
        return False
    if asked.lower() not in YES:
        raise ExecutorRefused(f'backend parameter network: "{asked}" is neither true nor false')
    if not (limits.allow_network or limits.network):
        raise ExecutorRefused("backend parameter network: this server gives tasks no network")
    return True


def gpus(resources: Resources, limits: Limits) -> int:
    """Return how many GPUs the steps get.

    :raises ExecutorRefused: more than the site gives, or no number.
    """
    asked = resources.backend_parameters.get(GPUS)
    if asked is None:
        return 0
    number = limits.max_gpus if asked.lower() == "all" else _whole(asked)
    if number is None:
        raise ExecutorRefused(f"backend parameter gpus: {asked!r} is neither a whole number nor all")
    if number > limits.max_gpus:
        raise ExecutorRefused(
            f"backend parameter gpus: {number} is more than the {limits.max_gpus} that this site gives"
        )
    return number


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None


def check(work: Submission, limits: Limits) -> None:
    """Refuse what can never run here.

    :raises ExecutorRefused: in words for the task's system log.
    """
    memory_limit(work.resources, limits)
    wants_network(work.resources, limits)
    gpus(work.resources, limits)
    for index, step in enumerate(work.steps):
        for stream in ("stdout", "stderr"):
            named = getattr(step, stream)
            mount = None if named is None else covering(work.mounts, named)
            if mount is not None and mount.read_only:
                raise ExecutorRefused(f"step {index}: {stream} {named} lies in a read-only input")


def covering(mounts: Sequence[Mount], path: str) -> Mount | None:
    """Return the deepest mount above ``path``."""
    above = [mount for mount in mounts if PurePosixPath(path).is_relative_to(mount.target)]
    return max(above, key=lambda mount: len(PurePosixPath(mount.target).parts), default=None)


def user(work: Submission, limits: Limits) -> tuple[int, int]:
    """Return the user and group that steps run as."""
    return limits.uid if work.uid is None else work.uid, limits.gid if work.gid is None else work.gid


def create_document(work: Submission, index: int, image: str, hosts: Path, limits: Limits) -> JsonObject:
    """Return the body of ``POST /containers/create`` for one step, closed by default (tests/contract/test_docker.py).

    :param image: the id that the tag was resolved to.
    :param hosts: a host file with ``HOSTS`` in it.
    """
    step = work.steps[index]
    network = wants_network(work.resources, limits)
    uid, gid = user(work, limits)
    return {
        "Image": image,
        "Entrypoint": [""],  # cleared: TES says that ``command`` is the whole argv
        "Cmd": list(step.command),
        "Env": [f"{name}={value}" for name, value in step.env.items()],
        "WorkingDir": step.workdir or "",
        "User": f"{uid}:{gid}",
        "Hostname": HOSTNAME,
        "Labels": _labels(work, index, limits.owner),
        "Healthcheck": {"Test": ["NONE"]},
        # Without NetworkDisabled a start takes twice as long; "none" holds where an engine does not know it.
        "NetworkDisabled": not network,
        "Tty": False,
        "OpenStdin": step.stdin is not None,
        "StdinOnce": step.stdin is not None,
        "AttachStdin": step.stdin is not None,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": "bridge" if network else "none",
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "IpcMode": "private",
            "Init": limits.init,
            "PidsLimit": limits.pids,
            **_compute(work.resources, limits),
            "DeviceRequests": _device_requests(work.resources, limits),
            "Ulimits": [
                {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "Tmpfs": _tmpfs(work.mounts, limits),
            "Mounts": _mounts(work.mounts, None if network else hosts),
            "LogConfig": {"Type": "json-file", "Config": _log_options(step, limits)},
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
        },
    }


def _labels(work: Submission, index: int, owner: str) -> dict[str, str]:
    return {
        OWNER: owner,
        KEY: work.key,
        JOB: work.job_id,
        ATTEMPT: str(work.attempt),
        STEP: str(index),
        STEPS: str(len(work.steps)),
        FOLDER: str(work.folder),
    }


def _compute(resources: Resources, limits: Limits) -> JsonObject:
    memory = memory_limit(resources, limits)
    document: JsonObject = {"Memory": memory, "MemorySwap": memory}
    if resources.cpu_cores is not None:
        document["NanoCpus"] = min(resources.cpu_cores, limits.host_cpus or resources.cpu_cores) * 10**9
    return document


def _device_requests(resources: Resources, limits: Limits) -> list[JsonObject]:
    number = gpus(resources, limits)
    return [{"Driver": "", "Count": number, "Capabilities": [["gpu"]]}] if number else []


def _tmpfs(mounts: Sequence[Mount], limits: Limits) -> dict[str, str]:
    if covering(mounts, "/tmp") is not None:  # noqa: S108
        return {}
    return {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.tmpfs_mb}m"}  # noqa: S108


def _mounts(mounts: Sequence[Mount], hosts: Path | None) -> list[JsonObject]:
    bound = [
        {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}
        for mount in mounts
    ]
    if hosts is not None and covering(mounts, "/etc/hosts") is None:
        bound.append({"Type": "bind", "Source": str(hosts), "Target": "/etc/hosts", "ReadOnly": True})
    return bound


def _log_options(step: Step, limits: Limits) -> dict[str, str]:
    """Bound the Engine's copy, read only after a restart; the end is all that is kept of each stream."""
    bounded = step.stdout is None and step.stderr is None
    return {"max-size": str(2 * limits.max_log_bytes) if bounded else UNLIMITED, "max-file": "2"}


def parse_time(text: str) -> float | None:
    """Read the Engine's time; None for its zero value."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text).timestamp()


def step_result(inspected: Mapping[str, Any], command: Sequence[str], stderr_end: bytes) -> StepResult:
    """Say what became of a container that has stopped, from its ``ContainerInspect`` document."""
    state = inspected["State"]
    started_at, ended_at = parse_time(state["StartedAt"]), parse_time(state["FinishedAt"])
    if started_at is not None and ended_at is not None:
        started_at = min(started_at, ended_at)  # the Engine notes the start of a quick one after its end
    return StepResult(
        started_at=started_at,
        ended_at=ended_at,
        exit_code=state["ExitCode"],
        reason=_reason(state, inspected["HostConfig"].get("Memory") or 0, command, stderr_end),
    )


def was_killed(inspected: Mapping[str, Any]) -> bool:
    """Tell whether a container ended as by SIGTERM or SIGKILL, or with the Engine (255), and had memory enough."""
    state = inspected["State"]
    return state["ExitCode"] in (137, 143, 255) and not state.get("OOMKilled")


def _reason(state: Mapping[str, Any], memory: int, command: Sequence[str], stderr_end: bytes) -> str | None:
    code = state["ExitCode"]
    # OOMKilled alone is no evidence: it is true also when only a child died and the command went on.
    if code == 137 and state.get("OOMKilled"):
        return f"killed: out of memory, limit {memory / 10**6:g} MB"
    if code in (126, 127) and b"[FATAL tini" in stderr_end:  # the init process could not start the command
        return _cannot_start(code, command)
    return SIGNALS.get(code) or state.get("Error") or None


def _cannot_start(code: int, command: Sequence[str]) -> str:
    return f"command {'not found' if code == 127 else 'cannot be executed'}: {command[0]}"


def start_error(message: str, command: Sequence[str], now: float) -> StepResult | Failure:
    """Judge why a container did not start: a wrong command is the step's own failure, all else is the system's."""
    code = None
    if "docker-init" not in message and "exec: " in message:
        if "executable file not found" in message or "no such file or directory" in message:
            code = 127
        elif "permission denied" in message:
            code = 126
    if "could not select device driver" in message:
        return Failure(reason="the task asks for GPUs, and this Docker Engine offers none")
    if code is None:
        return Failure(reason=f"the container did not start: {message}")
    return StepResult(started_at=now, ended_at=now, exit_code=code, reason=_cannot_start(code, command))


def lacks_init(message: str) -> bool:
    """Tell whether a start failed because the Engine's host has no init program."""
    return "docker-init" in message and ("not found" in message or "no such file" in message)
