"""The way out of a site: what a job of the hub made is copied, decided on, sent, and only then said to be there.

Until every file is decided on the hub hears that the job is still running and what it waits for. Anything may be
repeated after a death: copies are made again until the ledger is written, and parts may come to the hub twice.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from weft.clock import Clock
from weft.errors import Conflict, Forbidden, InvalidRequest, NotFound, TooLarge
from weft.federation.ledger import Item, Ledger, Ledgers
from weft.federation.release import Decision, judge
from weft.folders import Folders
from weft.model import Job, JsonObject, Kind
from weft.paths import LeadsOut, Tree
from weft.sections.service import ReleaseSettings
from weft.states import State

#: Sends one signed request to the hub.
Ask = Callable[[str, JsonObject], JsonObject]

_CHUNK = 4 << 20
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Lets files out of one site."""

    settings: ReleaseSettings
    ledgers: Ledgers
    folders: Folders
    clock: Clock

    def check(self, kind: Kind, document: JsonObject) -> None:
        """Refuse a task whose outputs would go to their URLs past this outbox.

        :raises Forbidden: says what to send instead.
        """
        if kind is Kind.TASK and document.get("outputs") and self.settings.policy != "auto":
            raise Forbidden(
                f"outputs: this site lets out nothing unseen (its release policy is {self.settings.policy}), and a "
                "task would store its outputs by itself",
                field="outputs",
                remedy="send a workflow run: its files are released one by one",
            )

    def settle(self, key: str, job: Job, report: JsonObject, ask: Ask) -> JsonObject:
        """Return what the hub may hear of a job: with the files that it has now, and the reason for every other one.

        :raises Unavailable: the hub does not answer; nothing is lost.
        """
        if not self.settings.logs:
            report = {name: value for name, value in report.items() if name != "tails"}
        if report.get("stage") != "ended" or job.kind is not Kind.RUN:
            return report
        if job.state is not State.COMPLETE:
            return {name: value for name, value in report.items() if name != "run_outputs"}
        ledger = self.ledgers.load(key) or self._opened(key, job)
        if ledger.pending:
            return _waiting(report, ledger)
        for index, item in enumerate(ledger.items):
            if item.decision is Decision.APPROVED and not item.sent:
                ledger = ledger.with_item(self._sent(key, index, item, ask))
                self.ledgers.save(ledger)
        self.ledgers.drop_files(key)
        return _settled(report, ledger)

    def abandon(self, key: str, reason: str) -> None:
        """Withhold what is not decided on: nobody wants it any more."""
        ledger = self.ledgers.load(key)
        if ledger is None or not ledger.pending:
            return
        for item in ledger.pending:
            ledger = ledger.with_item(replace(item, decision=Decision.WITHHELD, reason=reason, decided_at=self.clock()))
        self.ledgers.save(ledger)

    def _opened(self, key: str, job: Job) -> Ledger:
        items: list[Item] = []
        for path, source in self._files(job):
            with source:
                index = len(items)
                size, digest = self.ledgers.keep(key, index, source)
            verdict = judge(self.settings, path, self.ledgers.file(key, index))
            items.append(
                Item(path=path, size_bytes=size, sha256=digest, decision=verdict.decision, reason=verdict.reason)
            )
        ledger = Ledger(
            key=key,
            job_id=job.id,
            submitter=job.owner.partition("|")[2],
            opened_at=self.clock(),
            items=tuple(items),
        )
        if items:
            self.ledgers.save(ledger)
        return ledger

    def _files(self, job: Job) -> Iterator[tuple[str, BinaryIO]]:
        """Open the files below the run's folder that its outputs name."""
        root = self.folders.work(job.id)
        tree = Tree({str(root): root})
        for path in list(dict.fromkeys(_texts(job.outputs)))[:_MOST_FILES]:
            found = _open(tree, root, path)
            if found is not None:
                yield path, found

    def _sent(self, key: str, index: int, item: Item, ask: Ask) -> Item:
        """Send a file in parts; the hub puts it in its place when it has all and the hash is right."""
        if self.ledgers.hash_of(key, index) != item.sha256:
            return replace(item, decision=Decision.WITHHELD, reason="the file changed after it was decided on")
        try:
            with self.ledgers.file(key, index).open("rb") as stream:
                for offset in range(0, max(item.size_bytes, 1), _CHUNK):
                    part = base64.b64encode(stream.read(_CHUNK)).decode()
                    about = {"key": key, "path": item.path, "size_bytes": item.size_bytes, "sha256": item.sha256}
                    ask("release", about | {"offset": offset, "data": part})
        except (InvalidRequest, Forbidden, NotFound, Conflict, TooLarge) as error:
            return replace(item, decision=Decision.WITHHELD, reason=error.message)
        return replace(item, sent=True)


def _waiting(report: JsonObject, ledger: Ledger) -> JsonObject:
    names = ", ".join(item.path for item in ledger.pending[:5])
    said = f"the job has ended; {len(ledger.pending)} of its files wait for the site's review ({names})"
    kept = {name: value for name, value in report.items() if name not in ("run_outputs", "failure")}
    return {**kept, "stage": "taken", "phase": "RUNNING", "messages": [*report.get("messages", ()), said]}


def _settled(report: JsonObject, ledger: Ledger) -> JsonObject:
    sent = frozenset(item.path for item in ledger.items if item.sent)
    withheld = {item.path: item.reason for item in ledger.items if not item.sent}
    said = [f"{path} was withheld: {reason}" for path, reason in withheld.items()]
    outputs = _without(report.get("run_outputs") or {}, frozenset(withheld))
    metadata = {**report.get("metadata", {}), "released": str(len(sent)), "withheld": str(len(withheld))}
    more = {"run_outputs": {**outputs, "withheld": withheld} if withheld else outputs, "metadata": metadata}
    return {**report, **more, "messages": [*report.get("messages", ()), *said]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _without(value: Any, gone: frozenset[str]) -> Any:
    """Copy an output object without the files that did not come along."""
    if isinstance(value, dict):
        return {key: _without(item, gone) for key, item in value.items() if not _is_gone(item, gone)}
    if isinstance(value, list):
        return [_without(item, gone) for item in value if not _is_gone(item, gone)]
    return value


def _is_gone(item: Any, gone: frozenset[str]) -> bool:
    if isinstance(item, dict) and item.get("class") in ("File", "Directory"):
        return item.get("location") in gone
    return isinstance(item, str) and item in gone


def _open(tree: Tree, root: Path, path: str) -> BinaryIO | None:
    if not path or path.startswith("/") or "\0" in path:
        return None
    try:
        descriptor = tree.open(f"{root}/{path}")
    except (LeadsOut, OSError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")
