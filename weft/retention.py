"""Remove ended jobs with their files: when their owner asks, or once they are older than the site keeps them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from weft.clock import Clock
from weft.folders import Folders
from weft.logs import get_logger
from weft.states import STORED, TERMINAL
from weft.store.store import Store

log = get_logger(__name__)

#: Jobs that are removed in one go; the rest has its turn at the next sweep.
BATCH = 1000


def remove(store: Store, folders: Folders, job_id: str) -> bool:
    """Remove an ended job, the tasks of an ended run with it; False where there is none such.

    What stands at the URLs of its outputs stays. Tasks go before their run, and a record before its files: after a
    death in between, the rest has its turn at the next sweep, and at worst files are left that nobody can name.
    """
    job = store.get(job_id)
    if job is None or not job.state.terminal or store.children(job_id, STORED - TERMINAL):
        return False
    for task_id in store.children(job_id, TERMINAL):
        remove(store, folders, task_id)
    if not store.delete(job_id):
        return False
    shutil.rmtree(folders.job(job_id), ignore_errors=True)
    log.info("job removed", job=job_id)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Removes what ended more than ``seconds`` ago."""

    store: Store
    folders: Folders
    clock: Clock
    seconds: float

    def sweep(self) -> None:
        """Remove at most ``BATCH`` jobs, the oldest first; tasks of a run go with it."""
        for job_id in self.store.ended_before(self.clock() - self.seconds, BATCH):
            remove(self.store, self.folders, job_id)
