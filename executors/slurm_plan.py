"""Plan the steps of a job for a node of the cluster: as the account that the job runs as, in bubblewrap if wanted.

The plan is made where weft runs and carried out on the node, so ``bwrap`` and the system's folders must be the same
on both. A node where the sandbox cannot be made fails the job in these words; it never runs a step without.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from executors import bubblewrap, slurm_images
from executors.host import Place, look, plan_for
from weft.config import Settings
from weft.errors import ExecutorRefused
from weft.model import Mount, Step, Submission

if TYPE_CHECKING:
    from executors.supervisor import Plan

#: How long a step may take to end after SIGTERM, in seconds; Slurm's own KillWait must be longer.
GRACE_SECONDS = 0.5
#: Size of a step's /tmp in memory, where no mount lies there and no memory was asked for.
_TMP_BYTES = 1 << 30
_BWRAP = "/usr/bin/bwrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who jobs run as."""

    name: str
    uid: int
    gid: int


def account(user: str | None) -> Account:
    """Return who jobs run as: the account of the settings where weft is root, else weft's own.

    :raises ExecutorRefused: it would be root, or nobody.
    """
    remedy = "set slurm.user to a service account that all nodes know, or run weft as that account"
    if os.geteuid() != 0:
        found = pwd.getpwuid(os.geteuid())
        if user is not None and user != found.pw_name:
            raise ExecutorRefused(f"weft runs as {found.pw_name} and cannot submit as {user}", remedy=remedy)
    elif user is None:
        raise ExecutorRefused("weft runs as root, and Slurm jobs never do: slurm.user is not set", remedy=remedy)
    else:
        try:
            found = pwd.getpwnam(user)
        except KeyError as error:
            raise ExecutorRefused(f"slurm.user: there is no account {user!r}", remedy=remedy) from error
    if found.pw_uid == 0:
        raise ExecutorRefused("Slurm jobs never run as root", remedy=remedy)
    return Account(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid)


@dataclass(frozen=True)
class NodePlanner:
    """Plans for nodes like this machine."""

    settings: Settings

    @cached_property
    def sandbox(self) -> bubblewrap.Host | None:
        """What a sandbox shows of a node; None where the settings want none."""
        wanted = self.settings.slurm
        if not wanted.sandbox:
            return None
        host = look(shutil.which("bwrap") or _BWRAP, network=wanted.network)
        return replace(host, root=False, setpriv=None, visible=wanted.visible)

    def _in_image(self, step: Step, mounts: Sequence[Mount]) -> tuple[Step, bubblewrap.Host, tuple[Mount, ...]]:
        """Show a step the files of its image, and nothing of the node but what the settings say."""
        wanted = self.settings.slurm
        if self.sandbox is None or wanted.images is None:
            raise ExecutorRefused("slurm.images needs slurm.sandbox")
        image = slurm_images.find(wanted.images, step.image)
        targets = [mount.target for mount in mounts] + [str(path) for path in wanted.visible]
        if step.workdir is not None and not (image / step.workdir.lstrip("/")).is_dir():
            targets.append(step.workdir)
        shown = slurm_images.show(image, targets)
        host = replace(self.sandbox, system=shown.links, etc=())
        return replace(step, env={**shown.env, **step.env}), host, shown.mounts

    @property
    def words(self) -> str:
        """Say what steps run in."""
        if not self.settings.slurm.sandbox:
            return "the sandbox is switched off by the setting slurm.sandbox"
        images = self.settings.slurm.images
        return "a bubblewrap sandbox" if images is None else f"a bubblewrap sandbox with images from {images}"

    def plan(self, work: Submission, who: Account) -> Plan:
        """Decide everything that the supervisor on the node will do.

        :raises ExecutorRefused: an argument that no program can be given, or a path that cannot be mounted.
        """
        host = self.sandbox
        if host is None and os.geteuid() == 0:
            raise ExecutorRefused(
                "without a sandbox a step could change files that weft reads, and weft is root",
                remedy="run weft as the account that jobs run as, or set slurm.sandbox",
            )
        if host is not None:
            host = replace(host, tmp_bytes=work.resources.ram_bytes or _TMP_BYTES)
        place = Place(
            where="this weft runs steps on the nodes of a cluster (executor slurm)",
            host=host,
            words=self.words,
            become=None,
            identity=(who.uid, who.gid),
            grace_seconds=GRACE_SECONDS,
            max_log_bytes=self.settings.max_log_bytes,
            image=None if self.settings.slurm.images is None else self._in_image,
        )
        return plan_for(place, work, {"CORE": 0})
