"""An executor in memory, for tests and examples: jobs end as a script says, and any call of the port can fail.

``ScriptedBackend`` is the world outside weft: it lives on when an executor object is thrown away, as a cluster does
when weft dies. ``ScriptedExecutor`` is weft's side of it and passes the same contract suite as the real ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from weft.config import Settings
from weft.folders import log_path
from weft.model import Handle, Step, StepResult, Submission
from weft.ports import Capabilities, Executor, Failure, Health, Observation, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a step does: its exit code (None: it runs until it is told to end) and what it writes."""

    exit_code: int | None = 0
    stdout: str = ""
    stderr: str = ""


Script = Callable[[Step], Played]


def create(settings: Settings) -> Executor:
    """Return a scripted executor with a world of its own; it looks at no setting."""
    del settings
    return ScriptedExecutor(ScriptedBackend())


def default_script(step: Step) -> Played:
    """Play three commands: ``sleep`` runs until told, ``sh -c "exit N"`` ends with N, ``echo`` writes its words."""
    match step.command:
        case ("sleep", *_):
            return Played(exit_code=None)
        case ("sh", "-c", script) if script.startswith("exit "):
            return Played(exit_code=int(script.removeprefix("exit ")))
        case ("echo", *words):
            return Played(stdout=" ".join(words) + "\n")
        case _:
            return Played()


@dataclass(slots=True)
class _Native:
    work: Submission
    observation: Observation
    next_step: int = 0


@dataclass(slots=True)
class ScriptedBackend:
    """The world: native jobs by key, and who is told when one ends. Its methods may be called from any thread."""

    script: Script = default_script
    clock: Callable[[], float] = time.time
    #: Accept jobs without starting them; ``begin`` starts one.
    holds: bool = False
    _jobs: dict[str, _Native] = field(default_factory=dict)
    _listeners: list[Callable[[str], None]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def submit(self, work: Submission) -> None:
        """Take a job and, unless the world holds jobs, run it as far as the script goes by itself."""
        with self._lock:
            if work.key in self._jobs:
                return
            messages = tuple(f"image {step.image} was not used: this executor is scripted" for step in work.steps)
            self._jobs[work.key] = _Native(work, Observation(phase=Phase.WAITING, messages=messages))
        if not self.holds:
            self.begin(work.key)

    def begin(self, key: str) -> None:
        """Start a job that waits."""
        with self._lock:
            self._set(key, phase=Phase.RUNNING)
        self._advance(key)

    def finish(self, key: str, exit_code: int = 0) -> None:
        """End the step that runs, and go on with the next one."""
        with self._lock:
            if self._end_step(key, exit_code):
                self._set(key, phase=Phase.ENDED)
        self._advance(key)

    def fail(self, key: str, failure: Failure) -> None:
        """End a job for a reason that is not an exit code."""
        self._set(key, phase=Phase.ENDED, failure=failure)
        self._tell(key)

    def lose(self, key: str) -> None:
        """Forget that there ever was such a job, as a backend does that was set up anew."""
        with self._lock:
            self._jobs.pop(key, None)

    def known(self) -> list[str]:
        """Return the keys of all jobs that the world knows."""
        with self._lock:
            return list(self._jobs)

    def observation(self, key: str) -> Observation:
        """Return what is true of a job now."""
        with self._lock:
            native = self._jobs.get(key)
            return Observation(phase=Phase.UNSEEN) if native is None else native.observation

    def cancel(self, key: str) -> None:
        """Stop a job that has not ended."""
        with self._lock:
            if key not in self._jobs or self.observation(key).phase is Phase.ENDED:
                return
            if self.observation(key).phase is Phase.RUNNING:
                self._end_step(key, 143)
            self._set(key, phase=Phase.ENDED, failure=Failure(reason="the job was cancelled"))
        self._tell(key)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the key of every job that ends."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[str], None]) -> None:
        """Undo ``listen``."""
        with self._lock:
            self._listeners.remove(listener)

    def _advance(self, key: str) -> None:
        with self._lock:
            while self.observation(key).phase is Phase.RUNNING:
                native = self._jobs[key]
                if native.next_step == len(native.work.steps):
                    self._set(key, phase=Phase.ENDED)
                    break
                played = self._begin_step(native)
                if played.exit_code is None:
                    return
                if self._end_step(key, played.exit_code):
                    self._set(key, phase=Phase.ENDED)
        self._tell(key)

    def _begin_step(self, native: _Native) -> Played:
        index = native.next_step
        native.next_step += 1
        started = StepResult(started_at=self.clock())
        native.observation = replace(native.observation, steps=(*native.observation.steps, started))
        played = self.script(native.work.steps[index])
        for stream in ("stdout", "stderr"):
            path = log_path(native.work.folder, native.work.mounts, native.work.steps, index, stream)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(getattr(played, stream), encoding="utf-8")
        return played

    def _end_step(self, key: str, exit_code: int) -> bool:
        """Write the end of the step that runs; tell whether the rest must not run."""
        native = self._jobs[key]
        last = replace(native.observation.steps[-1], ended_at=self.clock(), exit_code=exit_code)
        native.observation = replace(native.observation, steps=(*native.observation.steps[:-1], last))
        return exit_code != 0 and not native.work.steps[native.next_step - 1].ignore_error

    def _set(self, key: str, *, phase: Phase, failure: Failure | None = None) -> None:
        with self._lock:
            native = self._jobs[key]
            native.observation = replace(native.observation, phase=phase, failure=failure)

    def _tell(self, key: str) -> None:
        with self._lock:
            listeners = list(self._listeners) if self.observation(key).phase is Phase.ENDED else []
        for listener in listeners:
            listener(key)


class ScriptedExecutor:
    """weft's side of a ``ScriptedBackend``."""

    def __init__(self, backend: ScriptedBackend, capabilities: Capabilities | None = None) -> None:
        """Keep the world; ``capabilities`` may claim anything a test needs."""
        self.backend = backend
        self.capabilities = capabilities or Capabilities(name="scripted", uses_image=False, wakes=True)
        #: Every call so far: (name, key or "").
        self.calls: list[tuple[str, str]] = []
        self._faults: dict[tuple[str, str], deque[BaseException]] = {}
        self._wake: Callable[[Handle], None] | None = None

    def fail_at(self, call: str, error: BaseException, *, after: bool = False) -> None:
        """Raise ``error`` once at the next call named ``call``: before it does anything, or after it has done it all.

        Faults for the same place are raised in the order in which they were given.
        """
        self._faults.setdefault((call, "after" if after else "before"), deque()).append(error)

    def check(self) -> Health:
        """Be usable."""
        return Health(usable=True, detail="jobs end as a script says")

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Begin to listen to the world."""
        if self._wake is None:
            self._wake = wake
            self.backend.listen(self._ended)

    def stop(self) -> None:
        """Stop listening; the world goes on."""
        if self._wake is not None:
            self._wake = None
            self.backend.unlisten(self._ended)

    def submit(self, work: Submission) -> Handle:
        """Hand the job to the world, once for each key."""
        self._enter("submit", work.key)
        self.backend.submit(work)
        self._leave("submit")
        return self._handle(work.key)

    def find(self, key: str) -> Handle | None:
        """Ask the world for a job of this key."""
        self._enter("find", key)
        found = self._handle(key) if key in self.backend.known() else None
        self._leave("find")
        return found

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Say what is true of each handle now."""
        self._enter("observe", "")
        seen = {handle: self.backend.observation(handle.native_id) for handle in handles}
        self._leave("observe")
        return seen

    def cancel(self, handle: Handle) -> None:
        """Stop a job."""
        self._enter("cancel", handle.native_id)
        self.backend.cancel(handle.native_id)
        self._leave("cancel")

    def forget(self, handle: Handle) -> None:
        """Stop a job if it runs, and remove it from the world."""
        self._enter("forget", handle.native_id)
        self.backend.cancel(handle.native_id)
        self.backend.lose(handle.native_id)
        self._leave("forget")

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return every job of the world."""
        self._enter("list", "")
        found = [(key, self._handle(key)) for key in self.backend.known()]
        self._leave("list")
        return found

    def _handle(self, key: str) -> Handle:
        return Handle(executor=self.capabilities.name, native_id=key)

    def _ended(self, key: str) -> None:
        wake = self._wake
        if wake is not None:
            wake(self._handle(key))

    def _enter(self, call: str, key: str) -> None:
        self.calls.append((call, key))
        self._raise(call, "before")

    def _leave(self, call: str) -> None:
        self._raise(call, "after")

    def _raise(self, call: str, moment: str) -> None:
        waiting = self._faults.get((call, moment))
        if waiting:
            raise waiting.popleft()
