"""Wait for all tasks of one run with one list request a beat, however many there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from wes_service.engines.tes_client import TesRefused, TesUnavailable

#: (task id, state); the state is "UNKNOWN" when the server was away for longer than ``PATIENCE`` or lost the task.
Ended = Callable[[str, str], None]

#: TES 1.1.0, ``tesState``: from these no task comes back.
TERMINAL = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED"})
LIVE = ("QUEUED", "INITIALIZING", "RUNNING", "PAUSED")
#: Seconds between looks: a tenth of the time since anything happened, within these bounds.
SHORTEST, LONGEST = 0.01, 0.5
#: How long an engine waits for a server that is away (a restart of weft), in seconds.
PATIENCE = 3600.0
#: Most pages of a list in one look; tasks that are not on them are asked for one by one.
_PAGES = 2


class Lister(Protocol):
    """The part of ``TesClient`` that is used here."""

    def get(self, task_id: str, *, view: str = "FULL") -> dict[str, object]:
        """Return one task."""
        ...

    def list(
        self, *, tags: Mapping[str, str], state: str | None = None, page_size: int = 256, page_token: str | None = None
    ) -> tuple[Collection[Mapping[str, object]], str | None]:
        """Return a page of tasks."""
        ...

    def cancel(self, task_id: str) -> None:
        """Cancel one task."""
        ...


class TaskWatch:
    """Calls back once for each task that ends; callbacks come from one thread of its own."""

    def __init__(self, client: Lister, tags: Mapping[str, str], failed: Callable[[Exception], None]) -> None:
        """Watch tasks with ``tags``; ``failed`` gets what a callback raised."""
        self._client = client
        self._tags = dict(tags)
        self._failed = failed
        self._active: dict[str, Ended] = {}
        self._changed = time.monotonic()
        self._wake = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def add(self, task_id: str, ended: Ended) -> None:
        """Begin to watch a task."""
        with self._wake:
            self._active[task_id] = ended
            self._changed = time.monotonic()
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._loop, name="task-watch", daemon=True)
                self._thread.start()
            self._wake.notify()

    def stop(self) -> None:
        """Stop watching; tasks go on. May be called twice and from a callback."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def cancel_all(self) -> None:
        """Cancel every live task of the run, known here or not, and call nothing back any more."""
        with self._wake:
            known = set(self._active)
            self._active.clear()
        for task_id in known | self._live_tasks():
            try:
                self._client.cancel(task_id)
            except (TesRefused, TesUnavailable):
                continue  # the server cancels the tasks of a run that ended by itself

    def _live_tasks(self) -> set[str]:
        """Find also a task whose creation was interrupted before its id was known."""
        found: set[str] = set()
        try:
            for state in LIVE:
                token: str | None = None
                while True:
                    page, token = self._client.list(tags=self._tags, state=state, page_size=2047, page_token=token)
                    found.update(str(task["id"]) for task in page)
                    if token is None:
                        break
        except (TesRefused, TesUnavailable):
            pass
        return found

    def _loop(self) -> None:
        away_since: float | None = None
        while (ids := self._wait(away_since)) is not None:
            try:
                states = self._look(ids)
                away_since = None
            except TesUnavailable:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since < PATIENCE:
                    continue
                states = dict.fromkeys(ids, "UNKNOWN")
            self._tell(states)

    def _wait(self, away_since: float | None) -> list[str] | None:
        """Sleep until the next look is due; the ids to look for, or None at the end."""
        with self._wake:
            while not self._active and not self._stopped:
                self._wake.wait()
            quiet = time.monotonic() - (away_since or self._changed)
            if not self._stopped:
                self._wake.wait(min(LONGEST if away_since is None else 5.0, max(SHORTEST, quiet / 10)))
            return None if self._stopped else list(self._active)

    def _look(self, ids: Collection[str]) -> dict[str, str]:
        missing = set(ids)
        states: dict[str, str] = {}
        token: str | None = None
        for _ in range(_PAGES):
            page, token = self._client.list(tags=self._tags, page_size=min(2047, 16 + 2 * len(ids)), page_token=token)
            states.update((str(task["id"]), str(task["state"])) for task in page if task["id"] in missing)
            missing.difference_update(states)
            if not missing or token is None:
                break
        for task_id in missing:
            states[task_id] = self._state_of(task_id)
        return states

    def _state_of(self, task_id: str) -> str:
        try:
            return str(self._client.get(task_id, view="MINIMAL")["state"])
        except TesRefused:
            return "UNKNOWN"

    def _tell(self, states: Mapping[str, str]) -> None:
        for task_id, state in states.items():
            if state not in TERMINAL and state != "UNKNOWN":
                continue
            with self._wake:
                ended = self._active.pop(task_id, None)
                self._changed = time.monotonic()
            if ended is None:
                continue
            try:
                ended(task_id, state)
            except Exception as error:
                self._failed(error)
