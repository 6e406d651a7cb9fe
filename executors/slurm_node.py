"""Run one job on a node of the cluster: claim its folder, supervise its steps, end as they ended.

Standard library only. Started by ``slurm_job.sh``. The folder's claim is made by link(2), which is atomic on NFS too:
should the same job ever be in the queue twice, the second one to start finds the claim, and runs nothing.
"""

# ruff: noqa: PTH118, PTH123
from __future__ import annotations

import json
import os
import socket
import sys

from executors import supervisor

CLAIM = "slurm.claim"
STATUS = "status.json"


def claim(control: str, job_id: str, node: str) -> bool:
    """Write that the Slurm job ``job_id`` runs this folder's steps; False where another one does or did."""
    temporary = os.path.join(control, f"{CLAIM}.{job_id}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"job_id": job_id, "node": node}, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, os.path.join(control, CLAIM))
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)  # noqa: PTH108
    return True


def exit_code(control: str) -> int:
    """Return what ``sacct`` should show: the last step's exit code, or 1 where there is none."""
    with open(os.path.join(control, STATUS), encoding="utf-8") as file:
        status = json.load(file)
    codes = [step["exit_code"] for step in status["steps"]]
    if "failure" in status or not codes or codes[-1] is None:
        return 1
    return int(codes[-1]) & 255


def main(control: str) -> None:
    """Run the job of the folder ``control``; never returns."""
    job_id = os.environ["SLURM_JOB_ID"]
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    if not claim(control, job_id, node):
        sys.stderr.write(f"weft: another job runs or ran the steps in {control}: job {job_id} does nothing\n")
        sys.exit(0)
    os.environ.clear()
    supervisor.supervise(control)
    os._exit(exit_code(control))
