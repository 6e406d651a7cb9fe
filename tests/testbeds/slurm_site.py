"""A real Slurm of a few virtual nodes on this machine: munged, slurmctld, slurmd, from Debian's packages.

By hand: ``python -m tests.testbeds.slurm_site`` starts one, prints its ``SLURM_CONF`` and stops it on Ctrl-C.
Everything is in one folder, listens on loopback, and is stopped by its own process id.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: What is needed, and the Debian package that it comes from.
TOOLS = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "squeue": "slurm-wlm",
    "scancel": "slurm-wlm",
    "unshare": "util-linux",
}
#: Jobs run as this account: every Debian has it, and it owns nothing that matters.
ACCOUNT = "games"
_READY_WITHIN = 60.0


def missing_tools() -> str | None:
    """Say what keeps this machine from running a Slurm; None when nothing does."""
    if os.geteuid() != 0:
        return "a private Slurm with cgroups needs root"
    missing = [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class SlurmSite:
    """One cluster, whose controller can die and come again."""

    def __init__(self, nodes: int = 2, extra: Sequence[str] = (), cpus: int = 8) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="weft-slurm-"))
        self.conf = self.folder / "slurm.conf"
        self._nodes = [f"w{secrets.token_hex(2)}n{number}" for number in range(1, nodes + 1)]
        self._extra, self._cpus = extra, cpus
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to reach this cluster."""
        return {"PATH": os.environ["PATH"], "SLURM_CONF": str(self.conf)}

    @property
    def account(self) -> pwd.struct_passwd:
        """Whose jobs these are."""
        return pwd.getpwnam(ACCOUNT)

    def start(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        self._make_folders()
        self._write_conf()
        munge = self.folder / "munge"
        flags = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={munge / file}" for name, file in flags.items()]
        self._spawn("munged", "munged", "--foreground", *options, user="munge")
        self._until(lambda: (munge / "socket").exists())
        self.start_controller()
        for name in self._nodes:
            inside = f"hostname {name} && exec slurmd -D -N {name}"
            self._spawn(name, "unshare", "--uts", "sh", "-c", inside)
        self._until(
            lambda: self.run("sinfo", "-h", "-o", "%D", "-t", "idle", "-p", "debug").strip() == str(len(self._nodes))
        )

    def start_controller(self, *flags: str) -> None:
        """Start ``slurmctld`` and wait until it answers; ``-c`` forgets all jobs."""
        self._spawn("slurmctld", "slurmctld", "-D", *flags)
        self._until(lambda: "UP" in self.run("scontrol", "ping"))

    def stop_controller(self) -> None:
        """Let the controller be down."""
        self._end("slurmctld")

    def lose_all_jobs(self) -> None:
        """Lose what the controller has saved: it begins again with its first job id."""
        self.stop_controller()
        shutil.rmtree(self.folder / "state")
        self._make_state()
        self.start_controller("-c")

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return list(self._nodes)

    def run(self, *argv: str) -> str:
        """Run one of Slurm's commands; its output, or "" where it failed."""
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """Cancel all jobs, stop all daemons by their own ids, remove the folder."""
        if "slurmctld" in self._daemons:
            self.run("scancel", "--user", ACCOUNT)
            with suppress(AssertionError):
                self._until(lambda: not self.run("squeue", "-h").strip(), 10)
        for name in (*self._nodes, "slurmctld", "munged"):
            self._end(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, name: str, *argv: str, user: str | None = None) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                argv, cwd="/", env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=user, group=user, extra_groups=[] if user else None, start_new_session=True,
            )  # fmt: skip

    def _end(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _until(self, done: Callable[[], bool], seconds: float = _READY_WITHIN) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"the cluster is not ready:\n{self._logs()}"
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            assert not dead, f"{dead} ended:\n{self._logs()}"
            time.sleep(0.05)

    def _logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in (self.folder / "log").iterdir())

    def _make_folders(self) -> None:
        self.folder.chmod(0o755)
        for name in ("log", "munge"):
            (self.folder / name).mkdir(exist_ok=True)
        self._make_state()
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for path in (key.parent, key):
            shutil.chown(path, "munge", "munge")
        (self.folder / "log").chmod(0o777)

    def _make_state(self) -> None:
        (self.folder / "state").mkdir()
        shutil.chown(self.folder / "state", "slurm")

    def _write_conf(self) -> None:
        here = socket.gethostname().partition(".")[0]
        controller, *ports = _free_ports(1 + len(self._nodes))
        nodes = [
            f"NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={self._cpus} RealMemory=4000 State=UNKNOWN"
            for name, port in zip(self._nodes, ports, strict=True)
        ]
        lines = [
            "ClusterName=weft",
            f"SlurmctldHost={here}(127.0.0.1)",
            f"SlurmctldPort={controller}",
            "SlurmUser=slurm",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self.folder}/munge/socket",
            "CredType=cred/munge",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool.%n",
            f"SlurmctldLogFile={self.folder}/log/slurmctld.log",
            f"SlurmdLogFile={self.folder}/log/slurmd.%n.log",
            f"SlurmctldPidFile={self.folder}/log/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/log/slurmd.%n.pid",
            "ProctrackType=proctrack/cgroup",
            "TaskPlugin=task/cgroup",
            "JobAcctGatherType=jobacct_gather/linux",
            "JobAcctGatherFrequency=1",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "ReturnToService=2",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=batch_sched_delay=0,sched_min_interval=1,sched_interval=1,bf_interval=1",
            f"FirstJobId={10_000 + secrets.randbelow(50_000) * 1000}",  # two sites share one tree of cgroups
            "MinJobAge=300",
            "KillWait=5",
            "DefMemPerCPU=100",
            "SlurmdParameters=config_overrides",
            "AccountingStorageType=accounting_storage/none",
            "JobCompType=jobcomp/none",
            *nodes,
            "PreemptType=preempt/partition_prio",
            "PreemptMode=CANCEL",
            "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1",
            "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10",
            f"PartitionName=short Nodes={self._nodes[0]} MaxTime=00:01:00 State=UP",
            *self._extra,
        ]
        self.conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
        cgroup = ["CgroupAutomount=no", "CgroupMountpoint=/sys/fs/cgroup", "ConstrainRAMSpace=yes", "ConstrainCores=no"]
        (self.folder / "cgroup.conf").write_text("\n".join(cgroup) + "\n", encoding="utf-8")


@contextmanager
def private_site(nodes: int = 2, extra: Sequence[str] = (), cpus: int = 8) -> Iterator[SlurmSite]:
    """Run a cluster with ``extra`` lines of ``slurm.conf``."""
    site = SlurmSite(nodes, extra, cpus)
    try:
        site.start()
        yield site
    finally:
        site.stop()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def main() -> None:
    """Run one cluster until Ctrl-C."""
    with private_site() as site:
        sys.stdout.write(f"export SLURM_CONF={site.conf} WEFT_SLURM__USER={ACCOUNT}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
