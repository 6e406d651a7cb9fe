"""What weft serves beside WES: the logs of a run and of its tasks, and the files in a run's work folder."""

from __future__ import annotations

import io
import mimetypes
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from weft.errors import NotFound
from weft.folders import Folders
from weft.model import Job, JsonObject, Principal
from weft.store.store import Store
from wes_service import translate
from wes_service.api import WesApi
from wes_service.checksums import Checksums
from wes_service.translate import Links
from wes_service.workfolder import WorkFolder

_LONGEST_LIST = 10_000
_PLAIN = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
#: What a browser may show; nothing that a run made may become a page of this origin (HTML, SVG, XML).
_SHOWN = {"text/plain": _PLAIN} | {
    name: name
    for name in ("text/csv", "text/tab-separated-values", "application/json", "image/png", "image/jpeg", "image/gif")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An open file, or the end of a log where there is no file; whoever serves it closes it."""

    file: BinaryIO
    media_type: str
    name: str


class RunFiles:
    """Opens files for their owner."""

    def __init__(self, api: WesApi) -> None:
        """Keep who knows whose run it is."""
        self.api = api
        self.store: Store = api.store
        self.folders: Folders = api.folders

    def run_log(self, principal: Principal, run_id: str, stream: str) -> Served:
        """Open what the engine wrote to ``stream``, "stdout" or "stderr"; empty before it has started."""
        return self._log(self.api.run(principal, run_id), 0, stream)

    def task_log(self, principal: Principal, run_id: str, task_id: str, stream: str) -> Served:
        """Open what the step that stands for the task wrote to ``stream``."""
        job = self.api.task(principal, run_id, task_id)
        return self._log(job, translate.shown_step(job, self.api.attempts(job)), stream)

    def outputs(self, principal: Principal, run_id: str, links: Links) -> JsonObject:
        """List the files that the ended run's outputs name, else all that lie in its work folder."""
        job = self.api.run(principal, run_id)
        files = self._named(job) or dict(islice(self._work(run_id).walk(), _LONGEST_LIST + 1))
        paths = sorted(files)[:_LONGEST_LIST]
        sums = self._checksums(run_id).of(paths) if job.state.terminal else {}
        listed = [
            {
                "path": path,
                "size": files[path],
                "url": links.output(run_id, path),
                "checksums": [{"type": "sha-256", "checksum": sums[path]}] if path in sums else [],
            }
            for path in paths
        ]
        return {"outputs": listed, "truncated": len(files) > _LONGEST_LIST}

    def output(self, principal: Principal, run_id: str, path: str) -> Served:
        """Open a file in the run's work folder.

        :raises NotFound: there is no regular file at ``path``, or it lies outside.
        """
        self.api.run(principal, run_id)
        file = self._work(run_id).open(path)
        if file is None:
            raise NotFound(
                f"run {run_id} has no file '{path[:200]}'", field="path", remedy="see /runs/{run_id}/outputs"
            )
        name = path.rpartition("/")[2]
        guessed, encoding = mimetypes.guess_type(name)
        media_type = _SHOWN.get(guessed or "", _BYTES) if encoding is None else _BYTES
        return Served(file=file, media_type=media_type, name=name)

    def _named(self, job: Job) -> dict[str, int]:
        """Return the files that the outputs of an ended run name; those of a folder with everything in it."""
        if not job.state.terminal or not job.outputs:
            return {}
        work = self._work(job.id)
        found: dict[str, int] = {}
        for text in translate.strings_in(job.outputs):
            path = translate.plain_path(text)
            size = work.size(path)
            if size is not None:
                found[path] = size
            elif work.is_folder(path):
                found.update(islice(work.walk(path), _LONGEST_LIST))
        return found

    def _checksums(self, run_id: str) -> Checksums:
        return Checksums(self._work(run_id), self.folders.job(run_id) / "checksums.json")

    def _work(self, run_id: str) -> WorkFolder:
        return WorkFolder(self.folders.work(run_id))

    def _log(self, job: Job, step: int, stream: str) -> Served:
        """Open the captured log of the newest attempt; where the step named a file of its own, the tail is kept."""
        file = WorkFolder(self.folders.attempt(job.id, job.attempt).logs).open(f"{step}.{stream}")
        if file is None:
            tails = [tail for tail in self.store.tails(job.id) if (tail.attempt, tail.step) == (job.attempt, step)]
            file = io.BytesIO(getattr(tails[-1], stream).encode() if tails else b"")
        return Served(file=file, media_type=_PLAIN, name=f"{job.id}.{stream}")
