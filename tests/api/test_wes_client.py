"""The reference client, ``wes-client`` of PyPI's ``wes-service`` 5.0, against a live weft.

That distribution has a package named ``wes_service`` too, so the client runs in an interpreter that does not see
weft's: WEFT_WES_CLIENT_PYTHON, ``.venv-clients/bin/python``, or this one in isolated mode.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.api.wes_site import Site, running_site
from tests.unit.spec_compare import REPOSITORY

_CALL = """
import json, sys
from wes_client.util import WESClient
client = WESClient({"auth": {}, "proto": "http", "host": sys.argv[1]})
print(json.dumps(getattr(client, sys.argv[2])(*json.loads(sys.argv[3]))))
"""


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that can import the client."""
    named = os.environ.get("WEFT_WES_CLIENT_PYTHON")
    for candidate in (named, str(REPOSITORY / ".venv-clients" / "bin" / "python"), sys.executable):
        if candidate is not None and Path(candidate).exists():
            probe = subprocess.run([candidate, "-I", "-c", "import wes_client.util"], capture_output=True, check=False)
            if probe.returncode == 0:
                return candidate
    pytest.skip("wes-client (wes-service 5.0) is in none of WEFT_WES_CLIENT_PYTHON, .venv-clients and this environment")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path / "data") as site:
        yield site


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    folder = tmp_path / "workflow"
    (folder / "inputs").mkdir(parents=True)
    (folder / "echo.cwl").write_text("cwlVersion: v1.0\nclass: CommandLineTool\n")
    (folder / "inputs" / "a.txt").write_text("a\n")
    (folder / "in.json").write_text('{"message": "hello"}')
    return folder


def _call(python: str, site: Site, folder: Path, method: str, *arguments: Any) -> dict[str, Any]:
    host = site.url.removeprefix("http://")
    done = subprocess.run(
        [python, "-I", "-c", _CALL, host, method, json.dumps(arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_wes_client_creates_follows_and_cancels(python: str, site: Site, workflow: Path) -> None:
    assert "CWL" in _call(python, site, workflow, "get_service_info")["workflow_type_versions"]
    attachments = [f"file://{workflow}/inputs/a.txt"]
    arguments = (f"file://{workflow}/echo.cwl", f"file://{workflow}/in.json", attachments)
    run_id = _call(python, site, workflow, "run", *arguments)["run_id"]
    run = site.job(run_id).run
    assert (run.workflow_url, run.workflow_params) == ("echo.cwl", {"message": "hello"})
    assert (site.folders.work(run_id) / "inputs" / "a.txt").read_text() == "a\n"
    assert [item["run_id"] for item in _call(python, site, workflow, "list_runs")["runs"]] == [run_id]
    assert _call(python, site, workflow, "get_run_status", run_id)["state"] == "QUEUED"
    log = _call(python, site, workflow, "get_run_log", run_id)
    assert log["outputs"] == {}
    assert site.get(log["run_log"]["stderr"].removeprefix(site.wes)).status_code == 200
    assert _call(python, site, workflow, "cancel", run_id) == {"run_id": run_id}
    assert _call(python, site, workflow, "get_run_status", run_id)["state"] == "CANCELED"


def test_wes_client_sends_a_remote_workflow_urlencoded(python: str, site: Site, workflow: Path) -> None:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(workflow))
    handler.func.log_message = lambda *_: None  # type: ignore[method-assign]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/echo.cwl"
        try:
            answer = _call(python, site, workflow, "run", url, '{"message": "hello"}', [])
        finally:
            server.shutdown()
            thread.join()
    run = site.job(answer["run_id"]).run
    assert (run.workflow_url, run.workflow_params) == (url, {"message": "hello"})
