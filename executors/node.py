"""The executor of a hub: each attempt becomes an assignment of a node, which the node fetches by itself.

Nothing native lives here. The assignment's row is all: ``submit`` writes it, the node's claims and reports change it
(``weft.federation.hub``), ``observe`` reads many in one query. What a node that fell silent has stays with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from executors.fanout import FanOutExecutor
from weft.clock import Clock, system_clock
from weft.config import Settings
from weft.errors import Bug, Unavailable
from weft.federation import reports
from weft.federation.feasibility import candidates
from weft.federation.routing import Ask, Candidate, choose_node
from weft.federation.wishes import GIVE_UP_AFTER, OWN_PARAMETERS, give_up_after, without_wishes
from weft.folders import Folders
from weft.logs import get_logger
from weft.model import Handle, Submission
from weft.ports import Capabilities, Executor, Failure, Health, Observation, Phase
from weft.store import assignments, nodes
from weft.store.assignments import Assignment, Stage
from weft.store.store import Store

log = get_logger(__name__)

NAME = "node"
#: How long a cancel waits for a node that is there to say that the job has ended, in seconds.
CANCEL_SECONDS = 2.0
#: How long what nodes declare is good enough, in seconds.
_FRESH_SECONDS = 5.0


def create(settings: Settings) -> Executor:
    """Return the executor of a hub; it works once it is attached to the hub's store."""
    return FanOutExecutor(
        NodeExecutor(settings, clock=system_clock), folders=Folders(settings.data), clock=system_clock
    )


class NodeExecutor:
    """Gives attempts to nodes."""

    def __init__(self, settings: Settings, *, clock: Clock, cancel_seconds: float = CANCEL_SECONDS) -> None:
        """Assign; ``attach`` gives the store."""
        self._settings = settings
        self._cancel_seconds = cancel_seconds
        self._clock = clock
        self._folders = Folders(settings.data)
        self._attached: Store | None = None
        self._wake: Callable[[Handle], None] | None = None
        self._rung = threading.Event()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._known: dict[str, tuple[Stage, int]] = {}
        self._tails: dict[str, object] = {}
        self._able: tuple[float, Capabilities] | None = None

    def attach(self, store: Store) -> None:
        """Use the hub's store."""
        self._attached, self._able = store, None
        store.on_change(self._rung.set)

    @property
    def _store(self) -> Store:
        if self._attached is None:
            raise Bug("the node executor is attached to no store")
        return self._attached

    @property
    def capabilities(self) -> Capabilities:
        """A node moves inputs and outputs by itself, and takes whole runs. Asked often, so it is looked up rarely."""
        now = self._clock()
        if self._able is None or not 0 <= now - self._able[0] < _FRESH_SECONDS:
            self._able = now, self._looked_up()
        return self._able[1]

    def _looked_up(self) -> Capabilities:
        theirs: set[str] = set()
        if self._attached is not None:
            for node in self._store.read(nodes.every):
                theirs |= set(node.declared.get("executor", {}).get("backend_parameters", ()))
        return Capabilities(
            name=NAME,
            stages=True,
            runs=True,
            shared_filesystem=False,
            wakes=True,
            backend_parameters=OWN_PARAMETERS | frozenset(theirs),
        )

    def check(self) -> Health:
        """Say that a hub works, with or without nodes: jobs wait for the first one."""
        return Health(usable=True, detail="jobs go to the nodes that joined this hub; weft node list shows them")

    def start(self, wake: Callable[[Handle], None]) -> None:
        """Listen to the store's bell."""
        self._wake = wake
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._listen, name="assignments", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self._rung.set()
            thread.join()

    def submit(self, work: Submission) -> Handle:
        """Choose a node and write the assignment."""
        known = self.find(work.key)
        if known is not None:
            return known
        if work.document is None:
            raise Bug("a submission to a node has no document")
        choice = choose_node(self._candidates(), Ask(kind=work.kind, document=work.document))
        job = self._store.get(work.job_id)
        offer = partial(
            assignments.offer,
            key=work.key,
            node=choice.node,
            kind=work.kind,
            owner="" if job is None else job.owner,
            document=without_wishes(work.kind, work.document),
            reason=choice.reason,
            now=self._clock(),
        )
        self._store.write(offer, rings=True)
        return _handle(choice.node, work.key)

    def find(self, key: str) -> Handle | None:
        """Return where an attempt went."""
        found = self._store.read(partial(assignments.find, key=key))
        return None if found is None or found.stage is Stage.WITHDRAWN else _handle(found.node, found.key)

    def observe(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation]:
        """Say what the nodes have said of all these."""
        wanted = {_key(handle): handle for handle in handles}
        found = self._store.read(partial(assignments.of_keys, keys=list(wanted)))
        return {wanted[key]: self._seen(assignment) for key, assignment in found.items()}

    def cancel(self, handle: Handle) -> None:
        """Ask the node to stop it, and wait a little for its word.

        :raises Unavailable: the node has not said yet that it stopped; nothing else may count as an end.
        """
        key = _key(handle)
        self._store.write(partial(assignments.cancel, key=key), rings=True)
        assignment = self._store.read(partial(assignments.find, key=key))
        if assignment is None or self._is_over(assignment):
            return
        patience = 0.0 if self._silence(assignment) else self._cancel_seconds
        with self._changed:
            if self._changed.wait_for(lambda: self._ended(key), patience):
                return
        raise Unavailable(self._silence(assignment) or f"node {assignment.node} has not stopped the job yet")

    def forget(self, handle: Handle) -> None:
        """Drop the assignment; a node that may still have it is told so."""
        key = _key(handle)
        self._tails.pop(key, None)
        self._store.write(partial(assignments.forget, key=key), rings=True)

    # -- what is known -----------------------------------------------------------------------------------------

    def _candidates(self) -> list[Candidate]:
        return candidates(self._store, now=self._clock(), silent_seconds=self._settings.hub.silent_seconds)

    def _seen(self, assignment: Assignment) -> Observation:
        if assignment.stage is Stage.WITHDRAWN:
            reason = assignment.reason or f"the job was taken back from node {assignment.node}"
            return Observation(phase=Phase.ENDED, failure=Failure(reason=reason, retry=True))
        said: tuple[str, ...] = (assignment.reason,) if assignment.reason else ()
        silence = None if assignment.stage is Stage.ENDED else self._silence(assignment)
        if silence is not None:
            said += (silence,)
            if self._gives_up(assignment):
                reason = f"given up by its own rule ({GIVE_UP_AFTER}): {silence}"
                self._store.write(partial(assignments.withdraw, key=assignment.key, reason=reason), rings=True)
                return Observation(phase=Phase.ENDED, failure=Failure(reason=reason, retry=True))
        if assignment.report is None:
            return Observation(phase=Phase.WAITING, messages=said, metadata={"node": assignment.node})
        self._write_tails(assignment)
        seen = reports.to_observation(assignment.report, node=assignment.node)
        return _with(seen, said)

    def _silence(self, assignment: Assignment) -> str | None:
        """Say since when the node is silent; None while it is not."""
        if assignment.heard_at is None:
            return f"node {assignment.node} is no node of this hub any more"
        if self._clock() - assignment.heard_at <= self._settings.hub.silent_seconds:
            return None
        since = datetime.fromtimestamp(assignment.heard_at, UTC)
        return f"node {assignment.node} has not been heard from since {since:%Y-%m-%d %H:%M} UTC; the job waits for it"

    def _gives_up(self, assignment: Assignment) -> bool:
        job = self._store.get(assignment.key.rpartition("-")[0])
        patience = None if job is None else give_up_after(job.kind, job.document)
        heard_at = assignment.heard_at if assignment.heard_at is not None else assignment.created_at
        return patience is not None and self._clock() - heard_at > patience

    def _ended(self, key: str) -> bool:
        assignment = self._store.read(partial(assignments.find, key=key))
        return assignment is None or self._is_over(assignment)

    @staticmethod
    def _is_over(assignment: Assignment) -> bool:
        return assignment.stage in (Stage.ENDED, Stage.WITHDRAWN)

    def _write_tails(self, assignment: Assignment) -> None:
        """Keep the end of the logs where the worker reads live logs from."""
        tails = reports.tails_of(assignment.report or {})
        if not tails or self._tails.get(assignment.key) == tails:
            return
        self._tails[assignment.key] = tails
        job_id, _, number = assignment.key.rpartition("-")
        logs = self._folders.attempt(job_id, int(number)).logs
        for step, stdout, stderr in tails:
            _write(logs, f"{step}.stdout", stdout)
            _write(logs, f"{step}.stderr", stderr)

    # -- the bell ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._stopping:
            self._rung.wait()
            self._rung.clear()
            if self._stopping:
                return
            try:
                self._tell_news()
            except Exception as error:  # the next ring, or the worker's own look, finds it
                log.warning("assignments could not be looked at", error=repr(error))

    def _tell_news(self) -> None:
        before, self._known = self._known, dict(self._store.read(assignments.progress))
        news = [key for key, progress in self._known.items() if before.get(key) != progress]
        if not news:
            return
        with self._changed:
            self._changed.notify_all()
        if self._wake is None:
            return
        for key, assignment in self._store.read(partial(assignments.of_keys, keys=news)).items():
            self._wake(_handle(assignment.node, key))

    def list(self) -> Iterable[tuple[str, Handle]]:
        """Return all assignments but those that were given up."""
        every = self._store.read(assignments.every)
        return [(one.key, _handle(one.node, one.key)) for one in every if one.stage is not Stage.WITHDRAWN]


def _handle(node: str, key: str) -> Handle:
    return Handle(executor=NAME, native_id=f"{node}:{key}")


def _key(handle: Handle) -> str:
    return handle.native_id.partition(":")[2]


def _with(seen: Observation, said: tuple[str, ...]) -> Observation:
    return Observation(
        phase=seen.phase,
        steps=seen.steps,
        failure=seen.failure,
        metadata=seen.metadata,
        messages=(*said, *seen.messages),
        outputs=seen.outputs,
        run_outputs=seen.run_outputs,
    )


def _write(folder: Path, name: str, text: str) -> None:
    if not folder.is_dir():  # the job was removed meanwhile
        return
    temporary = folder / f".{name}"
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(folder / name)
