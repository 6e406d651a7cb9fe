"""The calls of WES 1.1.0, on any server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urljoin

from weft.client.attach import Attachment
from weft.client.connection import Connection, JsonObject
from weft.client.errors import ServerFailed
from weft.client.tes import pages


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What ``POST /runs`` takes."""

    workflow_url: str
    workflow_type: str
    workflow_type_version: str
    workflow_params: JsonObject = field(default_factory=dict)
    engine_parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()

    def fields(self) -> dict[str, str]:
        """Return the text fields of the form; objects are JSON in text, as WES has it."""
        fields = {
            "workflow_url": self.workflow_url,
            "workflow_type": self.workflow_type,
            "workflow_type_version": self.workflow_type_version,
            "workflow_params": json.dumps(self.workflow_params),
            "tags": json.dumps(dict(self.tags)),
        }
        if self.engine_parameters:
            fields["workflow_engine_parameters"] = json.dumps(dict(self.engine_parameters))
        return fields


class WesClient:
    """Runs of one server."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def service_info(self) -> JsonObject:
        """Return the server's description of itself."""
        return self.connection.json("GET", "/service-info")

    def submit(self, request: RunRequest) -> str:
        """Submit a run, always as multipart (the one form that every server reads), and return its id."""
        parts: list[tuple[str, tuple[str | None, str | bytes]]] = [
            (name, (None, value)) for name, value in request.fields().items()
        ]
        parts += [("workflow_attachment", (item.name, item.source.read_bytes())) for item in request.attachments]
        answer = self.connection.json("POST", "/runs", files=parts)
        if not answer.get("run_id"):
            raise ServerFailed("the server accepted the run but gave no run_id")
        return str(answer["run_id"])

    def get(self, run_id: str) -> JsonObject:
        """Return the run's full log."""
        return self.connection.json("GET", f"/runs/{quote(run_id, safe='')}")

    def status(self, run_id: str) -> JsonObject:
        """Return the run's id and state."""
        return self.connection.json("GET", f"/runs/{quote(run_id, safe='')}/status")

    def cancel(self, run_id: str) -> None:
        """Ask for the run's end; asking again is harmless on weft."""
        self.connection.json("POST", f"/runs/{quote(run_id, safe='')}/cancel")

    def list(self, *, limit: int | None = None) -> Iterator[JsonObject]:
        """Yield runs in the server's order, at most ``limit``."""
        yield from pages(self.connection, "/runs", "runs", {}, limit)

    def tasks(self, run_id: str, *, limit: int | None = None) -> Iterator[JsonObject]:
        """Yield the task logs of a run."""
        yield from pages(self.connection, f"/runs/{quote(run_id, safe='')}/tasks", "task_logs", {}, limit)

    def task(self, run_id: str, task_id: str) -> JsonObject:
        """Return the log of one task of a run."""
        return self.connection.json("GET", f"/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}")

    def download(self, url: str, target: Path) -> int:
        """Write the file at ``url`` to ``target`` (complete or not at all) and return its size in bytes."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as stream:
                for piece in self.connection.stream(url):
                    stream.write(piece)
            size = partial.stat().st_size
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def absolute(self, url: str) -> str:
        """Return ``url`` as it can be fetched: some servers give log URLs relative to the API's base."""
        return urljoin(self.connection.base + "/", url)
