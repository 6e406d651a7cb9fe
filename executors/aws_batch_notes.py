"""What the executor notes of an attempt, in the attempt's own folder: whole or not at all."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace

import orjson

from weft.folders import AttemptFolder

_NAME = "aws_batch.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Without ``job_id``: a submission was begun, and its answer may have been lost."""

    job_id: str | None = None
    forgotten: bool = False
    messages: tuple[str, ...] = ()

    def with_job(self, job_id: str) -> Notes:
        """Return the same with a job."""
        return replace(self, job_id=job_id)


@dataclass(frozen=True, slots=True)
class NotesFile:
    """The notes of one attempt; without a folder there are none, and none are kept."""

    folder: AttemptFolder | None

    def read(self) -> Notes | None:
        """Return the notes; None where nothing was noted."""
        if self.folder is None:
            return None
        try:
            document = orjson.loads((self.folder.control / _NAME).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Notes(**{**document, "messages": tuple(document["messages"])})

    def write(self, notes: Notes) -> None:
        """Keep the notes on disk, where the attempt has a folder."""
        if self.folder is None or not self.folder.root.is_dir():
            return
        self.folder.control.mkdir(exist_ok=True)
        part = self.folder.control / f".{_NAME}"
        with part.open("wb") as stream:
            stream.write(orjson.dumps(asdict(notes)))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self.folder.control / _NAME)
