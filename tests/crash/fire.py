"""A load of jobs whose steps keep count of their starts, and a client that does not give up.

Each job appends one line to a file of its own when it starts, in a folder that is mounted where it lies; so a second
start is seen whatever the server says. The client sends each request again with the same ``Idempotency-Key`` until it
is answered: a server that died in between must neither lose the job nor make two of it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.crash.promise import ends_of
from tests.live import LiveWeft
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store

#: What a job does after it has noted its start -> how it ends. ``forever`` is cancelled by the client.
SCRIPTS = {
    "quick": ("echo made > /out/made", State.COMPLETE),
    "slow": ("sleep 0.$NUMBER; echo made > /out/made; sleep 0.3", State.COMPLETE),
    "fails": ("sleep 0.2; exit 3", State.EXECUTOR_ERROR),
    "forever": ("sleep 1000", State.CANCELED),
}
SNAKEFILE = b"""
rule all:
    input: "b"
rule a:
    output: "a"
    shell: "echo start >> starts; sleep 0.5; echo made > {output}"
rule b:
    input: "a"
    output: "b"
    shell: "echo start >> starts; cat {input} > {output}"
"""


@dataclass
class Fire:
    """One server under load, and what it was given."""

    server: LiveWeft
    dice: random.Random
    #: Processes of ``weft work`` where the server is ``weft api``.
    workers: list[LiveWeft] = field(default_factory=list)
    #: Name of a job -> its id, once the server has answered.
    ids: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _trouble: list[BaseException] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def starts(self) -> Path:
        return self.server.files / "starts"

    @property
    def made(self) -> Path:
        return self.server.files / "made"

    def light(self, clients: int = 2) -> None:
        """Begin to send jobs, from several clients, one after the other each."""
        for folder in (self.starts, self.made):
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        for number in range(clients):
            thread = threading.Thread(target=self._guarded, args=(number, random.Random(self.dice.random())))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Send no more; each request that was begun gets its answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert not self._trouble, self._trouble

    def _guarded(self, client: int, dice: random.Random) -> None:
        try:
            self._send_jobs(client, dice)
        except BaseException as error:
            self._trouble.append(error)

    def _send_jobs(self, client: int, dice: random.Random) -> None:
        number = 0
        while not self._over.is_set():
            kind = dice.choice(list(SCRIPTS))
            name = f"{client}-{number}-{kind}"
            self.ids[name] = self._answer(lambda name=name: self._create(name))["id"]
            if number % 12 == 5:
                run = f"{client}-{number}-run"
                self.runs[run] = self._answer(lambda run=run: self._run(run))["run_id"]
            if kind == "forever":
                self._over.wait(dice.random())
                self.cancel(name)
            number += 1
            self._over.wait(0.1 * dice.random())

    def cancel(self, name: str) -> None:
        """Cancel the job of this name."""
        url = f"{self.server.tes}/tasks/{self.ids[name]}:cancel"
        self._answer(lambda: requests.post(url, timeout=10))
        self._cancelled.add(name)

    def _answer(self, ask: Callable[[], requests.Response]) -> Any:
        """Ask until there is an answer: the server may be dead, or die while it answers."""
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = ask()
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                assert time.monotonic() < deadline, "the server does not come back"
                time.sleep(0.05)
                continue
            if answer.status_code == 503 and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            return answer.json()

    def _create(self, name: str) -> requests.Response:
        number, kind = name.split("-")[1:]
        document = {
            "name": name,
            "inputs": [{"path": "/starts", "url": f"file://{self.starts}", "type": "DIRECTORY"}],
            "outputs": [{"path": "/out/made", "url": f"file://{self.made}/{name}"}],
            "executors": [
                {
                    "image": "busybox",
                    "command": ["sh", "-c", f"echo $NAME; echo start >> /starts/$NAME; {SCRIPTS[kind][0]}"],
                    "env": {"NAME": name, "NUMBER": number},
                }
            ],
        }
        headers = {"Idempotency-Key": name}
        return requests.post(f"{self.server.tes}/tasks", json=document, headers=headers, timeout=10)

    def _run(self, name: str) -> requests.Response:
        form = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
        files = [("workflow_attachment", ("Snakefile", SNAKEFILE))]
        headers = {"Idempotency-Key": name}
        return requests.post(f"{self.server.wes}/runs", data=form, files=files, headers=headers, timeout=10)

    # -- afterwards --------------------------------------------------------------------------------------------

    def settle(self, seconds: float = 90) -> None:
        """Wait until every job has ended."""
        for name in self.ids.keys() - self._cancelled:
            if name.endswith("forever"):
                self.cancel(name)
        deadline = time.monotonic() + seconds
        for task_id in self.ids.values():
            self.server.wait(task_id, seconds=deadline - time.monotonic())
        for run_id in self.runs.values():
            self.server.wait_run(run_id, seconds=deadline - time.monotonic())

    def assert_the_promise(self) -> None:
        """Check all that was promised, by the answers, by the files, by the database, and by what is left."""
        for name, task_id in self.ids.items():
            self._check_task(name, self.server.task(task_id))
        for run_id in self.runs.values():
            self._check_run(self.server.run_log(run_id))
        self.server.assert_nothing_is_left()
        for process in (*self.workers, self.server):
            process.stop()
        store = Store(self.server.env.get("WEFT_DATABASE", f"sqlite:///{self.server.data / 'weft.db'}"))
        store.start()
        try:
            self._check_store(store)
        finally:
            store.stop()

    def _check_task(self, name: str, task: dict[str, Any]) -> None:
        kind = name.rpartition("-")[2]
        assert task["state"] == SCRIPTS[kind][1].value, (name, task, self.server.log())
        (attempt,) = task["logs"] or [{"logs": []}]
        started = self.starts / name
        times = len(started.read_text().splitlines()) if started.exists() else 0
        assert times == 1 or (kind == "forever" and times == 0), f"{name} was started {times} times\n{task}"
        if kind != "forever":
            (step,) = attempt["logs"]
            assert (step["exit_code"], step["stdout"]) == (3 if kind == "fails" else 0, f"{name}\n"), task
        if kind in ("quick", "slow"):
            assert (self.made / name).read_text() == "made\n"

    def _check_run(self, run: dict[str, Any]) -> None:
        assert run["state"] == "COMPLETE", (run, self.server.log())
        starts = self.server.data / "jobs" / run["run_id"] / "work" / "starts"
        assert starts.read_text() == "start\n" * 2, run

    def _check_store(self, store: Store) -> None:
        known = [job.id for job in store.page(Kind.TASK, Filters(), 2000, None).jobs]
        assert len(known) == len(set(self.ids.values())) + 2 * len(self.runs), "a job was lost, or made twice"
        ends_of(store, known)
        ends_of(store, list(self.runs.values()))
