"""Stand before the executor of a hub, and make of one request to several nodes one job for each of them.

The parts are ordinary jobs whose parent is the request: they are claimed, driven, recovered and cancelled as any
other. A handle whose native id begins with ``*`` is a fan-out (``*KEY:cz,ee``); all others are passed on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from weft.clock import Clock
from weft.errors import Bug, Conflict, ExecutorRefused, Unavailable, WeftError
from weft.federation import fanout
from weft.federation.fanout import Child, FanOut
from weft.folders import Folders
from weft.model import Event, Handle, Job, JsonObject, Kind, NewJob, Submission
from weft.paths import relative_name
from weft.ports import Capabilities, Executor, Health, Observation, Phase
from weft.store.store import Store

_MARK = "*"
#: How long one cancel waits for the parts to end, in seconds, and how often it looks.
_CANCEL_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class AtHub(Executor, Protocol):
    """An executor that works with the hub's own store."""

    def attach(self, store: Store) -> None:
        """Use the hub's store."""
        ...


class FanOutExecutor:
    """The executor of a hub, for one node and for many."""

    def __init__(
        self,
        inner: AtHub,
        *,
        folders: Folders,
        clock: Clock,
        sleep: Callable[[float], None] = time.sleep,
        cancel_seconds: float = _CANCEL_SECONDS,
    ) -> None:
        """Keep who serves single nodes; ``attach`` gives the store."""
        self._inner = inner
        self._folders = folders
        self._clock = clock
        self._sleep = sleep
        self._cancel_seconds = cancel_seconds
        self._attached: Store | None = None
        self._wake: Callable[[Handle], None] | None = None
        self._open: set[Handle] = set()

    def attach(self, store: Store) -> None:
        """Use the hub's store; the end of a part wakes who watches the whole."""
        self._attached = store
        store.tells_ends = True
        store.on_change(self._rung)
        self._inner.attach(store)

    @property
    def capabilities(self) -> Capabilities:
        """As for one node, and the parameters of a fan-out."""
        able = self._inner.capabilities
        return replace(able, backend_parameters=able.backend_parameters | {fanout.NODES, fanout.REQUIRE})

    def check(self) -> Health:
        """Ask the inner executor."""
        return self._inner.check()

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Begin to listen."""
        self._wake = wake
        self._inner.start(wake)

    def stop(self) -> None:
        """Stop listening."""
        self._wake = None
        self._inner.stop()

    def submit(self, work: Submission) -> Handle:
        """Make a job for each node, each of them once; a request to one node is passed on."""
        wish = None if work.document is None else self._wish(work.kind, work.document)
        if wish is None or work.document is None:
            return self._inner.submit(work)
        job = self._store.get(work.job_id)
        if job is None:
            raise ExecutorRefused("the job is gone")
        for node in wish.nodes:
            self._create(job, work.attempt, node, fanout.child_document(work.kind, work.document, node))
        handle = self._handle(work.key, wish)
        self._open.add(handle)
        return handle

    def find(self, key: str) -> Handle | None:
        """Return the fan-out of this key if all its parts were made."""
        job_id, _, attempt = key.rpartition("-")
        job = self._store.get(job_id)
        wish = None if job is None else self._wish(job.kind, job.document)
        if wish is None:
            return self._inner.find(key)
        parts = (self._store.get(fanout.child_id(job_id, int(attempt), node)) for node in wish.nodes)
        return self._handle(key, wish) if all(part is not None for part in parts) else None

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Say what the parts come to."""
        single = [handle for handle in handles if not _is_fan(handle)]
        seen = dict(self._inner.observe(single)) if single else {}
        for handle in handles:
            if _is_fan(handle):
                found = self._seen(handle)
                if found is not None:
                    seen[handle] = found
        return seen

    def cancel(self, handle: Handle) -> None:
        """Cancel every part.

        :raises Unavailable: some have not ended yet.
        """
        if not _is_fan(handle):
            self._inner.cancel(handle)
            return
        deadline = time.monotonic() + self._cancel_seconds
        for part in self._parts(handle):
            if not part.state.terminal:
                self._store.request_cancel(part.id, now=self._clock(), message="cancelled with the whole fan-out")
        while live := [part for part in self._parts(handle) if not part.state.terminal]:
            if time.monotonic() > deadline:
                raise Unavailable(f"{len(live)} nodes have not stopped yet")
            self._sleep(_LOOK_SECONDS)

    def forget(self, handle: Handle) -> None:
        """Cancel what still runs; the parts stay, as jobs of their own, for who wants to read them."""
        if not _is_fan(handle):
            self._inner.forget(handle)
            return
        self._open.discard(handle)
        self.cancel(handle)

    # -- the parts ---------------------------------------------------------------------------------------------

    @property
    def _store(self) -> Store:
        if self._attached is None:
            raise Bug("the fan-out is attached to no store")
        return self._attached

    @staticmethod
    def _wish(kind: Kind, document: JsonObject) -> FanOut | None:
        try:
            return fanout.read(kind, document)
        except WeftError as error:
            raise ExecutorRefused(error.message, field=error.field, remedy=error.remedy) from error

    def _create(self, job: Job, attempt: int, node: str, document: JsonObject) -> None:
        part = fanout.child_id(job.id, attempt, node)
        if self._store.get(part) is not None:
            return
        if job.kind is Kind.RUN and self._folders.work(job.id).is_dir():
            shutil.copytree(self._folders.work(job.id), self._folders.work(part), symlinks=True, dirs_exist_ok=True)
        new = NewJob(
            id=part,
            kind=job.kind,
            owner=job.owner,
            document=document,
            created_at=self._clock(),
            name=job.name,
            tags=document.get("tags") or {},
            parent=job.id,
            max_attempts=job.max_attempts,
            priority=job.priority,
            idempotency_key=f"fanout:{job.id}:{attempt}:{node}",
            messages=(f"the part of node {node} in the fan-out {job.id}",),
        )
        try:
            self._store.create(new)
        except Conflict as error:  # the whole was cancelled meanwhile
            raise ExecutorRefused(error.message) from error

    def _parts(self, handle: Handle) -> list[Job]:
        job_id, attempt, nodes = _read(handle)
        found = (self._store.get(fanout.child_id(job_id, attempt, node)) for node in nodes)
        return [part for part in found if part is not None]

    def _seen(self, handle: Handle) -> Observation | None:
        job_id, attempt, nodes = _read(handle)
        whole = self._store.get(job_id)
        wish = None if whole is None else self._wish(whole.kind, whole.document)
        if wish is None or wish.nodes != nodes:
            return None
        ids = {node: fanout.child_id(job_id, attempt, node) for node in nodes}
        parts = {node: self._store.get(part) for node, part in ids.items()}
        over = [part for part in parts.values() if part is not None and part.state.terminal]
        attempts = self._store.attempts([part.id for part in over])
        events = self._store.events_of([part.id for part in over])
        all_over = len(over) == sum(1 for part in parts.values() if part is not None)
        children = [
            Child(
                node=node,
                job=part,
                attempt=(attempts.get(part.id) or (None,))[-1] if part is not None else None,
                reason=None if part is None else _reason(part, events.get(part.id, ())),
                outputs=self._gathered(job_id, node, part) if part is not None and all_over else None,
            )
            for node, part in parts.items()
        ]
        seen = fanout.merged(wish, children)
        if seen.phase is not Phase.ENDED:
            self._open.add(handle)
        return seen

    def _gathered(self, job_id: str, node: str, part: Job) -> JsonObject | None:
        """Link the files of a part below the whole's folder, and return the part's outputs with these paths."""
        source, target = self._folders.work(part.id), self._folders.work(job_id)

        def moved(text: str) -> str | None:
            try:
                path = relative_name(text, "outputs")
            except WeftError:
                return None
            if not _is_plain_file(source, path):
                return None
            place = target / "nodes" / node / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.link(source / path, place, follow_symlinks=False)
            return f"nodes/{node}/{path}"

        found = fanout.with_paths(part.outputs, moved)
        return found if isinstance(found, dict) else None

    def _handle(self, key: str, wish: FanOut) -> Handle:
        return Handle(executor=self._inner.capabilities.name, native_id=f"{_MARK}{key}:{','.join(wish.nodes)}")

    def _rung(self) -> None:
        wake = self._wake
        if wake is not None:
            for handle in tuple(self._open):
                wake(handle)

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return what the inner executor has: the parts are there, under their own keys."""
        return self._inner.list()


def _is_fan(handle: Handle) -> bool:
    return handle.native_id.startswith(_MARK)


def _read(handle: Handle) -> tuple[str, int, tuple[str, ...]]:
    """Return the job, the attempt and the nodes."""
    key, _, nodes = handle.native_id.removeprefix(_MARK).partition(":")
    job_id, _, attempt = key.rpartition("-")
    return job_id, int(attempt), tuple(nodes.split(","))


def _reason(part: Job, events: Sequence[Event]) -> str | None:
    """Return why a part ended as it did."""
    return next((event.message for event in reversed(events) if event.target is part.state and event.message), None)


def _is_plain_file(folder: Path, path: str) -> bool:
    """Tell whether a path below ``folder`` is a file, and no part of it is a link."""
    place = folder
    for name in Path(path).parts:
        place = place / name
        if place.is_symlink():
            return False
    return place.is_file()
