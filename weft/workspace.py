"""What is in a run's folder when its engine starts, beside the attachments: a workflow that is named by URL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

from weft.errors import Forbidden, InvalidRequest, StagingFailed, TooLarge
from weft.model import Run
from weft.paths import relative_name
from weft.staging.trs import FIELD, Tool


class Fetch(Protocol):
    """The part of the guarded HTTP client that is used here."""

    def download(self, url: str, target: Path) -> None:
        """Write what is at ``url`` to ``target``."""
        ...


class Tools(Protocol):
    """The part of the tool registries' client that is used here."""

    def named(self, workflow_url: str) -> Tool | None:
        """Return what the URL names in a registry, if it does."""
        ...

    def fetch(self, tool: Tool, workflow_type: str, folder: Path) -> str:
        """Write the workflow's files below ``folder`` and return the name of the one to run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where workflows come from that are not attached."""

    fetch: Fetch
    registries: Tools

    def fill(self, run: Run, workspace: Path) -> Run:
        """Bring the workflow into ``workspace``; return the run with ``workflow_url`` relative to it.

        :raises StagingFailed: it cannot be had; the words are for the run's submitter.
        :raises Unavailable: not now.
        """
        try:
            return replace(run, workflow_url=self._fetched(run, workspace))
        except (InvalidRequest, Forbidden, TooLarge, StagingFailed) as error:
            raise StagingFailed(f"{FIELD}: {error.message}") from error

    def _fetched(self, run: Run, workspace: Path) -> str:
        tool = self.registries.named(run.workflow_url)
        if tool is not None:
            return self.registries.fetch(tool, run.workflow_type, workspace)
        parts = urlsplit(run.workflow_url)
        if parts.scheme not in ("http", "https"):
            return run.workflow_url
        name = relative_name(PurePosixPath(parts.path).name or "workflow", FIELD)
        target = workspace / name
        if not target.exists():
            self.fetch.download(parts._replace(fragment="").geturl(), target)
        return f"{name}#{parts.fragment}" if parts.fragment else name
