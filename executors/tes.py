"""Pass tasks on to a TES server that somebody else runs; that server moves inputs and outputs by itself.

A task bears two tags: ``weft-key`` names the attempt and ``weft-site`` this installation, so that a worker that takes
over finds what was started. The native id of a handle is the key, a colon, and the server's id of the task: where the
logs of a task are kept here never depends on what the server says.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from executors import tes_words
from executors.tes_server import TesServer
from weft.config import Settings
from weft.errors import Unavailable, WeftError
from weft.folders import AttemptFolder, Folders
from weft.model import Handle, JsonObject, Submission
from weft.ports import Capabilities, Executor, Health, Observation, Phase

KEY = "weft-key"
SITE = "weft-site"
_NATIVE = re.compile(r"(?P<key>[A-Za-z0-9]+-[0-9]{1,9}):(?P<id>.+)", re.DOTALL)
_LIVE = ("QUEUED", "INITIALIZING", "RUNNING", "PAUSED", "CANCELING")
#: So many tasks are asked for one by one; more are read from lists.
_FEW = 4
#: Requests at once where each task has to be asked for by itself.
_AT_ONCE = 8
#: Running tasks whose logs are read in one call of ``observe``.
_MOST_LOGS = 32
_MARK = "tes-forgotten"
_CAPABILITIES = Capabilities(name="tes", stages=True, shared_filesystem=False)
#: Pauses while a cancelled task comes to its end, in seconds; the last one is repeated.
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)


def create(settings: Settings) -> Executor:
    """Return the executor ``tes``.

    :raises InvalidRequest: ``tes.url`` is not set, or is no address.
    """
    site = hashlib.sha256(str(settings.data.resolve()).encode()).hexdigest()[:16]
    return TesExecutor(
        server=TesServer(settings.tes, settings.fetch),
        folders=Folders(settings.data),
        site=site,
        timeout_seconds=settings.tes.timeout_seconds,
        log_seconds=settings.tes.log_seconds,
    )


@dataclass(slots=True, kw_only=True)
class TesExecutor:
    """One TES server as an executor."""

    server: TesServer
    folders: Folders
    site: str
    timeout_seconds: float = 20.0
    log_seconds: float = 5.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    capabilities: Capabilities = _CAPABILITIES
    _sent: dict[str, Handle] = field(default_factory=dict)
    #: Of running tasks: when the logs were read, and what they said.
    _read: dict[Handle, tuple[float, Observation]] = field(default_factory=dict)
    #: One thread at a time submits a key.
    _turns: tuple[threading.Lock, ...] = field(default_factory=lambda: tuple(threading.Lock() for _ in range(64)))

    def check(self) -> Health:
        """Ask the server for its service-info."""
        try:
            about = self.server.service_info()
        except WeftError as error:
            return Health(usable=False, detail=error.message, remedy=error.remedy)
        version = (about.get("type") or {}).get("version") or "1.0"
        return Health(usable=True, detail=f"{about.get('name') or 'a server'} at {self.server.address}, TES {version}")

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Learn which backend parameters the server knows; it is polled, so nothing is listened to."""
        with contextlib.suppress(Unavailable):
            known = self.server.service_info().get("tesResources_backend_parameters") or ()
            names = frozenset(str(name).lower() for name in known)
            self.capabilities = replace(self.capabilities, backend_parameters=names)

    def stop(self) -> None:
        """Nothing listens."""

    def submit(self, work: Submission) -> Handle:
        """Create the task there, once for each key."""
        with self._turns[hash(work.key) % len(self._turns)]:
            known = self._sent.get(work.key)
            if known is not None:
                return known
            handle = self._handle(work.key, self.server.create(self._document(work), f"{self.site}-{work.key}"))
            self._sent[work.key] = handle
            return handle

    def find(self, key: str) -> Handle | None:
        """Ask the server for a task with this key's tag."""
        if self._is_forgotten(key):
            return None
        for task in self.server.tasks({KEY: key}, "BASIC"):
            tags = task.get("tags") or {}
            if tags.get(KEY) == key and tags.get(SITE) == self.site and task.get("id"):
                return self._handle(key, str(task["id"]))
        return None

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Read the states from the server's list, and the whole of those tasks alone that ended or write logs."""
        ours = [handle for handle in handles if _NATIVE.fullmatch(handle.native_id)]
        states = self._states([handle for handle in ours if not self._is_forgotten(_key(handle))])
        seen = {handle: self._running(handle, state) for handle, state in states.items()}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tes") as pool:
            seen.update(pool.map(self._whole, self._to_read(states)))
        return {handle: found for handle, found in seen.items() if found is not None}

    def cancel(self, handle: Handle) -> None:
        """Cancel the task, and wait until the server says that it is over.

        :raises Unavailable: the server does not say so in time.
        """
        if not _NATIVE.fullmatch(handle.native_id):
            return
        deadline = self.now() + self.timeout_seconds
        if self._is_over(handle):
            return
        self.server.cancel(_id(handle))
        tries = 0
        while not self._is_over(handle):
            if self.now() > deadline:
                raise Unavailable(f"{self.server.address} has not ended task {_id(handle)} yet")
            self.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def forget(self, handle: Handle) -> None:
        """Remove the task from the server; where it cannot, remember here that it is of no interest any more."""
        if not _NATIVE.fullmatch(handle.native_id):
            return
        if not self._is_forgotten(_key(handle)):
            self.cancel(handle)
            if not self.server.delete(_id(handle)):
                self._mark(_key(handle))
        self._read.pop(handle, None)
        self._sent.pop(_key(handle), None)

    def _document(self, work: Submission) -> JsonObject:
        document = dict(work.document) if work.document is not None else {}
        return {**document, "tags": {**document.get("tags", {}), KEY: work.key, SITE: self.site}}

    def _states(self, handles: Sequence[Handle]) -> dict[Handle, str]:
        """Return the state of each task that the server knows, by as few requests as it can be done with."""
        left = {_id(handle): handle for handle in handles}
        states = {}
        if len(left) > _FEW:
            for task in self.server.tasks({SITE: self.site}, "MINIMAL"):
                found = left.pop(str(task.get("id")), None)
                if found is not None:
                    states[found] = str(task.get("state"))
                if not left:
                    return states
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tes") as pool:
            answers = pool.map(lambda task_id: self.server.get(task_id, "MINIMAL"), left)
            for handle, answer in zip(left.values(), answers, strict=True):
                if answer is not None:
                    states[handle] = str(answer.get("state"))
        return states

    def _to_read(self, states: Mapping[Handle, str]) -> list[Handle]:
        """Choose the tasks to read whole: all that ended, and of those that run the ones read longest ago."""
        ended = [handle for handle, state in states.items() if tes_words.phase(state) is Phase.ENDED]
        running = [handle for handle, state in states.items() if tes_words.phase(state) is Phase.RUNNING]
        never = float("-inf")
        due = sorted(running, key=lambda handle: self._read[handle][0] if handle in self._read else never)
        old = [h for h in due if h not in self._read or self.now() - self._read[h][0] >= self.log_seconds]
        return [*ended, *old[:_MOST_LOGS]]

    def _running(self, handle: Handle, state: str) -> Observation | None:
        """Say what is known of a task without reading it whole."""
        known = self._read.get(handle)
        phase = tes_words.phase(state)
        if phase is Phase.RUNNING:
            return known[1] if known is not None else tes_words.observation({"state": state})
        return Observation(phase=Phase.WAITING, metadata=self._where(handle))

    def _whole(self, handle: Handle) -> tuple[Handle, Observation | None]:
        task = self.server.get(_id(handle), "FULL")
        if task is None:
            return handle, None
        self._keep_logs(handle, task)
        seen = tes_words.observation(task)
        seen = replace(seen, metadata={**seen.metadata, **self._where(handle)})
        if seen.phase is Phase.RUNNING:
            self._read[handle] = (self.now(), seen)
        return handle, seen

    def _keep_logs(self, handle: Handle, task: JsonObject) -> None:
        """Write what the steps wrote where the worker reads it."""
        logs = self._folder(_key(handle)).logs
        if not logs.is_dir():
            return
        for index, step in enumerate(tes_words.step_logs(task)):
            for stream in ("stdout", "stderr"):
                text = str(step.get(stream) or "").encode(errors="replace")
                path = logs / f"{index}.{stream}"
                if text and (not path.exists() or path.read_bytes() != text):
                    path.write_bytes(text)

    def _where(self, handle: Handle) -> dict[str, str]:
        return {"tes_server": self.server.address, "tes_task": _id(handle)}

    def _is_over(self, handle: Handle) -> bool:
        task = self.server.get(_id(handle), "MINIMAL")
        return task is None or tes_words.phase(task.get("state")) is Phase.ENDED

    def _folder(self, key: str) -> AttemptFolder:
        job_id, _, number = key.rpartition("-")
        return self.folders.attempt(job_id, int(number))

    def _mark(self, key: str) -> None:
        folder = self._folder(key)
        if folder.root.is_dir():
            folder.control.mkdir(exist_ok=True)
            (folder.control / _MARK).touch()

    def _is_forgotten(self, key: str) -> bool:
        return bool(re.fullmatch(r"[A-Za-z0-9]+-[0-9]{1,9}", key)) and (self._folder(key).control / _MARK).exists()

    def _handle(self, key: str, task_id: str) -> Handle:
        return Handle(executor=self.capabilities.name, native_id=f"{key}:{task_id}")

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return this installation's tasks that are not over."""
        found = {}
        for state in _LIVE:
            for task in self.server.tasks({SITE: self.site}, "BASIC", state):
                tags = task.get("tags") or {}
                live = task.get("state") in _LIVE and tags.get(SITE) == self.site
                if live and task.get("id") and _NATIVE.fullmatch(f"{tags.get(KEY)}:{task['id']}"):
                    found[str(tags[KEY])] = self._handle(str(tags[KEY]), str(task["id"]))
        return list(found.items())


def _key(handle: Handle) -> str:
    return handle.native_id.partition(":")[0]


def _id(handle: Handle) -> str:
    return handle.native_id.partition(":")[2]
