"""Measure creates and reads on SQLite and on PostgreSQL, for docs/database.md: ``python -m tests.store.measure``.

Both keep their promise: every create that is counted is on disk. Clients are threads of the one measuring process.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.builders import a_new_job, a_task
from tests.testbeds.postgres import private_server
from weft.store.store import Store

SECONDS, ROUNDS = 2.0, 3


def rate(action: Callable[[], object], clients: int) -> float:
    """Return how often a second ``action`` is done by so many clients at once."""
    counts = [0] * clients
    end = time.monotonic() + SECONDS

    def work(client: int) -> None:
        while time.monotonic() < end:
            action()
            counts[client] += 1

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def create(store: Store) -> None:
    """Create a task with a tag: a row, its first event, a tag."""
    store.create(a_new_job(task=a_task(tags={"project": "x"})))


def measure(name: str, url: str) -> None:
    """Print a row of the table: medians."""
    store = Store(url)
    store.start()
    try:
        create(store)
        job = store.create(a_new_job())
        actions = [(partial(create, store), 32), (partial(create, store), 1), (partial(store.get, job.id), 1)]
        rates = [statistics.median(rate(action, clients) for _ in range(ROUNDS)) for action, clients in actions]
        sys.stdout.write(f"| {name} | " + " | ".join(f"{value:.0f}" for value in rates) + " |\n")
    finally:
        store.stop()


def main() -> None:
    """Measure both, each in a fresh database on the disk of the temporary folder."""
    sys.stdout.write(
        "| database | creates/s, 32 clients | creates/s, 1 client | reads/s, 1 client |\n|---|---|---|---|\n"
    )
    with tempfile.TemporaryDirectory(prefix="weft-measure-") as folder:
        measure("SQLite", f"sqlite:///{folder}/weft.db")
    with private_server(fsync="on", full_page_writes="on") as server:
        measure("PostgreSQL 15, same machine", server.url(server.create_database()))


if __name__ == "__main__":
    main()
