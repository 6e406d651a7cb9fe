"""Turn what servers show of a job's output into pieces of text to print, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from weft.client.connection import JsonObject
from weft.client.errors import Missing
from weft.client.watch import news
from weft.client.wes import WesClient

Stream = Literal["stdout", "stderr", "system"]
STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some text of one stream; ``step`` counts from 0 within ``attempt``, which counts from 1."""

    attempt: int
    step: int
    stream: Stream
    text: str


@dataclass(slots=True)
class TaskLog:
    """Remembers what was shown of a TES task (FULL view) and gives what is new."""

    _shown: dict[tuple[int, int, str], str] = field(default_factory=dict)

    def pieces(self, task: JsonObject) -> Iterator[Piece]:
        """Yield what ``task`` shows that earlier documents of it did not."""
        for attempt, log in enumerate(task.get("logs") or (), start=1):
            for step, entry in enumerate(log.get("logs") or ()):
                for stream in STREAMS:
                    yield from self._piece(attempt, step, stream, entry.get(stream) or "")
            lines = "".join(f"{line}\n" for line in log.get("system_logs") or ())
            yield from self._piece(attempt, 0, "system", lines)

    def _piece(self, attempt: int, step: int, stream: Stream, text: str) -> Iterator[Piece]:
        key = (attempt, step, stream)
        added = news(self._shown.get(key, ""), text)
        if text:
            self._shown[key] = text
        if added:
            yield Piece(attempt=attempt, step=step, stream=stream, text=added)


@dataclass(slots=True)
class RunLog:
    """Remembers how much of a run's stdout and stderr was fetched and fetches the rest."""

    client: WesClient
    _seen: dict[str, int] = field(default_factory=dict)
    _system: str = ""

    def pieces(self, log: JsonObject) -> Iterator[Piece]:
        """Yield what is new behind the URLs of a WES ``Log``; some servers put the text itself there."""
        for stream in STREAMS:
            text = self._new(stream, log.get(stream) or "")
            if text:
                yield Piece(attempt=1, step=0, stream=stream, text=text)
        lines = "".join(f"{line}\n" for line in log.get("system_logs") or ())
        added, self._system = news(self._system, lines), lines or self._system
        if added:
            yield Piece(attempt=1, step=0, stream="system", text=added)

    def _new(self, stream: str, place: str) -> str:
        seen = self._seen.get(stream, 0)
        if not place:
            return ""
        if "\n" in place or " " in place:
            data = place.encode()[seen:]
        else:
            try:
                data = self.client.connection.fetch(self.client.absolute(place), start=seen)
            except Missing:
                return ""
        whole = data[: _whole_characters(data)]
        self._seen[stream] = seen + len(whole)
        return whole.decode("utf-8", errors="replace")


def _whole_characters(data: bytes) -> int:
    """Length of ``data`` without a UTF-8 character that is cut off at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            needed = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
            return len(data) if needed <= back else len(data) - back
    return len(data)
