"""WES, and weft's own addresses beside it, as services of the one application."""

from __future__ import annotations

import io
from typing import Any

from flask import Response

from weft.http.api import Service, spec_path
from weft.http.files import send_file
from weft.http.request import Request
from weft.model import JsonObject
from wes_service.api import WesApi
from wes_service.runfiles import RunFiles, Served
from wes_service.translate import WES, Links

#: What clients ask for again and again (``weft.http.express``).
EXPRESS = ("GetRunStatus", "ListRuns")


class FileHandlers:
    """The operations of ``openapi/weft.yaml``: files go out by the web framework's own means."""

    def __init__(self, files: RunFiles) -> None:
        """Keep who opens the files."""
        self.files = files

    def get_run_stdout(self, request: Request, run_id: str) -> Any:
        """Send what the engine wrote to standard output."""
        return self._read(request, "log", run_id, self.files.run_log(request.principal, run_id, "stdout"))

    def get_run_stderr(self, request: Request, run_id: str) -> Any:
        """Send what the engine wrote to standard error."""
        return self._read(request, "log", run_id, self.files.run_log(request.principal, run_id, "stderr"))

    def get_task_stdout(self, request: Request, run_id: str, task_id: str) -> Any:
        """Send what a task wrote to standard output."""
        served = self.files.task_log(request.principal, run_id, task_id, "stdout")
        return self._read(request, "log", task_id, served)

    def get_task_stderr(self, request: Request, run_id: str, task_id: str) -> Any:
        """Send what a task wrote to standard error."""
        served = self.files.task_log(request.principal, run_id, task_id, "stderr")
        return self._read(request, "log", task_id, served)

    def list_run_outputs(self, request: Request, run_id: str) -> JsonObject:
        """List the output files of a run."""
        return self.files.outputs(request.principal, run_id, Links(request.base_url))

    def get_run_output(self, request: Request, run_id: str, path: str) -> Any:
        """Send one file of a run."""
        return self._read(request, "output", run_id, self.files.output(request.principal, run_id, path))

    def _read(self, request: Request, what: str, job_id: str, served: Served) -> Any:
        """Send a file after it is recorded who reads it."""
        authority = self.files.api.authority
        try:
            authority.record(authority.act(f"run.read_{what}", request.principal, request.id, job=job_id))
        except BaseException:
            served.file.close()
            raise
        return _sent(served)


def services(api: WesApi) -> tuple[Service, Service]:
    """Return WES and the service of its files, which stands at the same base path."""
    files = FileHandlers(RunFiles(api))
    return (
        Service(name="WES", spec=spec_path("wes.yaml"), base_paths=(WES,), handler=api, express=EXPRESS, scope="wes"),
        Service(name="weft", spec=spec_path("weft.yaml"), base_paths=(WES,), handler=files, ui=False, scope="wes"),
    )


def _sent(served: Served) -> Any:
    if isinstance(served.file, io.BytesIO):  # the end of a log, where no file is left
        return Response(served.file.getvalue(), content_type=served.media_type)
    return send_file(served.file, served.media_type)
