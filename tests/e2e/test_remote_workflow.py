"""A workflow that is named by URL or lies in a tool registry: fetched by weft, guarded, never by the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.live import LiveWeft
from tests.staging.conftest import Web
from tests.staging.trs_server import TrsSite

FORM = {"workflow_type": "Snakemake", "workflow_type_version": "9", "workflow_params": "{}"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server that has one Snakefile; its ``host:port``."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "hello.smk").write_text("rule hello:\n    output: 'hello.txt'\n    shell: 'echo hello > {output}'\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(pages)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weft(web: str, start_weft: Callable[..., LiveWeft]) -> LiveWeft:
    return start_weft("--executor", "process", env={"WEFT_FETCH__ALLOW_HOSTS": json.dumps([web])})


def test_a_workflow_by_url_is_fetched_and_run(weft: LiveWeft, web: str) -> None:
    run = weft.wait_run(weft.submit_run(FORM | {"workflow_url": f"http://{web}/hello.smk"}, {}))
    assert run["state"] == "COMPLETE", run
    (url,) = run["outputs"]["files"]
    assert requests.get(url, timeout=30).text == "hello\n"
    assert run["request"]["workflow_url"] == f"http://{web}/hello.smk"


def test_a_workflow_url_that_is_gone_is_said_with_its_status(weft: LiveWeft, web: str) -> None:
    run = weft.wait_run(weft.submit_run(FORM | {"workflow_url": f"http://{web}/none.smk"}, {}))
    assert run["state"] == "SYSTEM_ERROR"
    assert f"404 at http://{web}/none.smk" in "".join(run["run_log"]["system_logs"])


def test_a_workflow_url_of_a_private_address_is_refused_at_once(weft: LiveWeft) -> None:
    form = FORM | {"workflow_url": "http://169.254.169.254/latest/meta-data"}
    answer = requests.post(f"{weft.wes}/runs", data=form, timeout=30)
    assert answer.status_code in (400, 403), answer.text
    assert "169.254.169.254" in answer.json()["msg"]


MAIN = """\
cwlVersion: v1.2
class: Workflow
inputs: {word: string}
outputs: {said: {type: File, outputSource: say/said}}
steps:
  say: {run: tools/say.cwl, in: {word: word}, out: [said]}
"""
SAY = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: echo
inputs: {word: {type: string, inputBinding: {}}}
stdout: said.txt
outputs: {said: stdout}
"""


@pytest.fixture
def registry() -> Iterator[TrsSite]:
    """A tool registry with one workflow of two files."""
    web = Web()
    web.start()
    site = TrsSite(web)
    site.add("#workflow/group/say", {"1.0": {"main.cwl": MAIN, "tools/say.cwl": SAY}})
    yield site
    web.stop()


def test_a_workflow_of_a_tool_registry_is_run_with_all_its_files(
    registry: TrsSite, start_weft: Callable[..., LiveWeft]
) -> None:
    env = {"WEFT_FETCH__ALLOW_HOSTS": [registry.host], "WEFT_TRS__HTTP_HOSTS": [registry.host]}
    weft = start_weft("--executor", "process", env={name: json.dumps(value) for name, value in env.items()})
    form = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_params": json.dumps({"word": "hello"})}
    name = "#workflow/group/say"
    urls = [registry.url(name, "1.0"), registry.descriptor(name, "1.0", "CWL"), registry.url(name, "2.0")]
    ids = [weft.submit_run(form | {"workflow_url": url}, {}) for url in urls]
    for run in (weft.wait_run(ids[0]), weft.wait_run(ids[1])):
        assert run["state"] == "COMPLETE", run
        assert requests.get(run["outputs"]["said"]["location"], timeout=30).text == "hello\n"
    assert run["request"]["workflow_url"] == urls[1]
    missing = weft.wait_run(ids[2])
    assert missing["state"] == "SYSTEM_ERROR"
    assert f"404 at http://{registry.host}/ga4gh/trs/v2" in "".join(missing["run_log"]["system_logs"])


WDL_MAIN = """\
version 1.0
import "%s" as say
workflow w { call say.say output { File said = say.said } }
"""
WDL_SAY = """\
version 1.0
import "nested.wdl" as nested
task say { command <<< echo hello >>> output { File said = stdout() } }
"""


@pytest.mark.parametrize("language", ["CWL", "WDL"])
def test_documents_that_a_workflow_imports_by_url_are_fetched_by_weft(
    weft: LiveWeft, web: str, tmp_path: Path, language: str
) -> None:
    pages = {"say.cwl": SAY, "say.wdl": WDL_SAY, "nested.wdl": "version 1.0\ntask t { command {} }\n"}
    for name, text in pages.items():
        (tmp_path / "pages" / name).write_text(text)
    texts = {"CWL": MAIN.replace("tools/", f"http://{web}/"), "WDL": WDL_MAIN % f"http://{web}/say.wdl"}
    form = {"workflow_type": language, "workflow_type_version": {"CWL": "v1.2", "WDL": "1.0"}[language]}
    form |= {"workflow_url": "main", "workflow_params": json.dumps({"word": "hello"} if language == "CWL" else {})}
    run = weft.wait_run(weft.submit_run(form, {"main": texts[language].encode()}))
    assert run["state"] == "COMPLETE", run
    refused = texts[language].replace(web, "169.254.169.254")
    run = weft.wait_run(weft.submit_run(form, {"main": refused.encode()}))
    assert run["state"] == "EXECUTOR_ERROR"
    stderr = requests.get(run["run_log"]["stderr"], timeout=30).text
    assert "Fetching failed" in stderr
    assert "169.254.169.254" in stderr
