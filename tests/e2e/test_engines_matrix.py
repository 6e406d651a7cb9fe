"""Every engine does what every engine must, through a real server, on this host and on a real Docker Engine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.conftest import environment
from tests.live import TERMINAL, LiveWeft

Files = Mapping[str, str]
SQUARES = [str(number * number) for number in range(20)]


@dataclass(frozen=True)
class Flow:
    """One workflow in one language: what is attached, which file is the workflow, and its parameters."""

    language: str
    version: str
    url: str
    files: Files
    params: Mapping[str, Any]

    def submit(self, weft: LiveWeft, **form: str) -> str:
        request = {
            "workflow_type": self.language,
            "workflow_type_version": self.version,
            "workflow_url": self.url,
            "workflow_params": json.dumps(self.params),
        }
        return weft.submit_run(request | form, {name: text.encode() for name, text in self.files.items()})


def smk(text: str, files: Files | None = None, url: str = "Snakefile", **params: Any) -> Flow:
    return Flow("SMK", "1.0", url, {url: text, **(files or {})}, params)


def cwl(document: dict[str, Any], files: Files | None = None, url: str = "main.cwl", **params: Any) -> Flow:
    return Flow("CWL", "v1.2", url, {url: json.dumps({"cwlVersion": "v1.2", **document}), **(files or {})}, params)


def wdl(text: str, files: Files | None = None, url: str = "main.wdl", **params: Any) -> Flow:
    return Flow("WDL", "1.0", url, {url: f"version 1.0\n{text}", **(files or {})}, params)


def nfl(script: str, files: Files | None = None, url: str = "main.nf", **params: Any) -> Flow:
    return Flow("NFL", "DSL2", url, {url: script, **(files or {})}, params)


def process(name: str, script: str, inputs: str = "", more: str = "") -> str:
    """Publishes what it prints."""
    return (
        f"process {name} {{\n publishDir 'out', saveAs: {{ '{name}.txt' }}\n {inputs}\n output: path 'said'\n {more}\n"
        f' script: """\n ({script}) > said\n """ }}\n'
    )


def tool(script: str, *words: str, **more: Any) -> dict[str, Any]:
    return {
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", script, "sh", *words],
        "inputs": {},
        "stdout": "out.txt",
        "outputs": {"out": "stdout"},
    } | more


def task(name: str, script: str, inputs: str = "") -> str:
    return f"task {name} {{ input {{ {inputs} }} command <<<\n{script}\n>>> output {{ File out = stdout() }} }}\n"


HELLO = {
    "SMK": smk("rule hello:\n    output: 'out.txt'\n    shell: 'echo hello {config[name]} > {output}'\n", name="weft"),
    "CWL": cwl(tool('echo hello "$1"', inputs={"name": {"type": "string", "inputBinding": {}}}), name="weft"),
    "WDL": wdl(task("hello", "echo hello ~{name}", "String name"), **{"hello.name": "weft"}),
    "NFL": nfl(process("hello", "echo hello $params.name") + "workflow { hello() }", name="weft"),
}

SCATTER = {
    "SMK": smk(
        "rule gather:\n    input: expand('{n}.txt', n=range(20))\n    output: 'all.txt'\n"
        "    shell: 'cat {input} > {output}'\n"
        "rule square:\n    output: '{n}.txt'\n    shell: 'echo $(({wildcards.n} * {wildcards.n})) > {output}'\n"
    ),
    "CWL": cwl(
        {
            "class": "Workflow",
            "requirements": {"ScatterFeatureRequirement": {}},
            "inputs": {"numbers": "int[]"},
            "outputs": {"all": {"type": "File", "outputSource": "gather/out"}},
            "steps": {
                "square": {
                    "run": tool("echo $(($1 * $1))", inputs={"n": {"type": "int", "inputBinding": {}}}),
                    "in": {"n": "numbers"},
                    "scatter": "n",
                    "out": ["out"],
                },
                "gather": {
                    "run": tool('cat "$@"', inputs={"files": {"type": "File[]", "inputBinding": {}}}),
                    "in": {"files": "square/out"},
                    "out": ["out"],
                },
            },
        },
        numbers=list(range(20)),
    ),
    "WDL": wdl(
        "workflow w { input { Array[Int] numbers } scatter (n in numbers) { call square { input: n = n } }\n"
        " call gather { input: files = square.out } output { File all = gather.out } }\n"
        + task("square", "echo $((~{n} * ~{n}))", "Int n")
        + task("gather", "cat ~{sep=' ' files}", "Array[File] files"),
        **{"w.numbers": list(range(20))},
    ),
    "NFL": nfl(
        "process square {\n input: val n\n output: path 'n'\n script: 'echo $((' + n + ' * ' + n + ')) > n' }\n"
        + process("gather", "cat n* | sort -n", "input: path 'n?'")
        + "workflow { Channel.fromList(params.numbers) | square | collect | gather }",
        numbers=list(range(20)),
    ),
}

_FAIL = "echo because >&2; exit 3"
FAILING = {
    "SMK": smk(f"rule bad:\n    output: 'out.txt'\n    shell: '{_FAIL}'\n"),
    "CWL": cwl(tool(_FAIL)),
    "WDL": wdl(task("bad", _FAIL)),
    "NFL": nfl(f"process bad {{ script: '{_FAIL}' }}\nworkflow {{ bad() }}"),
}

_SLEEP = "echo here >&2; sleep 300"
SLEEPING = {
    "SMK": smk(f"rule slow:\n    output: 'out.txt'\n    shell: '{_SLEEP}'\n"),
    "CWL": cwl(tool(_SLEEP)),
    "WDL": wdl(task("slow", _SLEEP)),
    "NFL": nfl(f"process slow {{ script: '{_SLEEP}' }}\nworkflow {{ slow() }}"),
}

_DATA = {"data/deep/a-b.txt": "nested\n"}
NESTED = {
    "SMK": smk(
        "include: 'rules/cat.smk'\nrule all:\n    input: 'made/out.txt'\n",
        _DATA
        | {
            "flow/rules/cat.smk": "rule cat:\n    input: 'data/deep/a-b.txt'\n    output: 'made/out.txt'\n"
            "    shell: 'cat \"{input}\" > {output}'\n"
        },
        url="flow/Snakefile",
    ),
    "CWL": cwl(
        {
            "class": "Workflow",
            "inputs": {"file": "File"},
            "outputs": {"out": {"type": "File", "outputSource": "cat/out"}},
            "steps": {"cat": {"run": "tools/cat.cwl", "in": {"file": "file"}, "out": ["out"]}},
        },
        _DATA
        | {
            "flow/tools/cat.cwl": json.dumps(
                {"cwlVersion": "v1.2", **tool('cat "$1"', inputs={"file": {"type": "File", "inputBinding": {}}})}
            )
        },
        url="flow/main.cwl",
        file={"class": "File", "path": "data/deep/a-b.txt"},
    ),
    "WDL": wdl(
        'import "tools/cat.wdl" as lib\n'
        "workflow w { input { File file } call lib.cat { input: file = file } output { File out = cat.out } }\n",
        _DATA | {"flow/tools/cat.wdl": "version 1.0\n" + task("cat", "cat '~{file}'", "File file")},
        url="flow/main.wdl",
        **{"w.file": "data/deep/a-b.txt"},
    ),
    "NFL": nfl(
        "include { cat } from './modules/cat.nf'\nworkflow { cat(file(params.file)) }",
        _DATA | {"flow/modules/cat.nf": process("cat", "cat '$given'", "input: path given")},
        url="flow/main.nf",
        file="data/deep/a-b.txt",
    ),
}

LANGUAGES = sorted(HELLO)


def urls_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [url for item in value.values() for url in urls_in(item)]
    if isinstance(value, list):
        return [url for item in value for url in urls_in(item)]
    return [value] if str(value).startswith("http") else []


def text_of(log: dict[str, Any]) -> str:
    """Fetch the one output file of a run by the URL in its output object."""
    (url,) = urls_in(log["outputs"])
    answer = requests.get(url, timeout=30)
    assert answer.status_code == 200, (url, answer.text)
    return answer.text


def said(log: dict[str, Any]) -> str:
    return requests.get(log["run_log"]["stderr"], timeout=30).text


def tasks_of(log: dict[str, Any]) -> list[dict[str, Any]]:
    answer = requests.get(log["task_logs_url"], params={"page_size": 100}, timeout=30)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["task_logs"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_hello_is_a_task_of_this_weft(weft: LiveWeft, language: str) -> None:
    log = weft.wait_run(HELLO[language].submit(weft))
    assert log["state"] == "COMPLETE", said(log)
    assert text_of(log) == "hello weft\n"
    (only,) = tasks_of(log)
    assert only["exit_code"] == 0
    assert only["name"]
    assert requests.get(only["tes_uri"], timeout=30).json()["state"] == "COMPLETE"
    listed = requests.get(f"{weft.wes}/runs/{log['run_id']}/outputs", timeout=30).json()["outputs"]
    assert [item["size"] for item in listed] == [len("hello weft\n")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_scatter_of_twenty_is_gathered(weft: LiveWeft, language: str) -> None:
    log = weft.wait_run(SCATTER[language].submit(weft))
    assert log["state"] == "COMPLETE", said(log)
    assert text_of(log).split() == SQUARES
    assert [entry["exit_code"] for entry in tasks_of(log)] == [0] * 21


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_failing_step_is_named_with_its_code_its_words_and_its_task(weft: LiveWeft, language: str) -> None:
    log = weft.wait_run(FAILING[language].submit(weft))
    assert log["state"] == "EXECUTOR_ERROR"
    (failed,) = tasks_of(log)
    assert failed["exit_code"] == 3
    assert requests.get(failed["stderr"], timeout=30).text == "because\n"
    assert f"TES task {failed['id']} of " in said(log)
    assert "ended in EXECUTOR_ERROR, exit code 3." in said(log)
    assert "Its stderr:\nbecause\n" in said(log)
    assert "Traceback" not in said(log)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cancelled_run_ends_with_its_tasks(weft: LiveWeft, language: str) -> None:
    run_id = SLEEPING[language].submit(weft)
    deadline = time.monotonic() + 60
    while not any("start_time" in entry for entry in tasks_of(weft.run_log(run_id))):
        assert time.monotonic() < deadline, weft.log()
        time.sleep(0.05)
    began = time.monotonic()
    assert requests.post(f"{weft.wes}/runs/{run_id}/cancel", timeout=30).status_code == 200
    log = weft.wait_run(run_id)
    assert log["state"] == "CANCELED"
    assert time.monotonic() - began < 10
    (ended,) = tasks_of(log)
    weft.wait(ended["id"], until=TERMINAL, seconds=10)
    assert weft.task(ended["id"])["state"] == "CANCELED"


@pytest.mark.parametrize("language", LANGUAGES)
def test_attachments_keep_their_folders(weft: LiveWeft, language: str) -> None:
    log = weft.wait_run(NESTED[language].submit(weft))
    assert log["state"] == "COMPLETE", said(log)
    assert text_of(log) == "nested\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_workflow_that_is_not_attached_fails_in_words(weft: LiveWeft, language: str) -> None:
    log = weft.wait_run(Flow(language, HELLO[language].version, "nowhere", {"other.txt": ""}, {}).submit(weft))
    assert log["state"] == "EXECUTOR_ERROR"
    assert "workflow_url 'nowhere' is none of the attached files: other.txt" in said(log)


@pytest.mark.parametrize("language", LANGUAGES)
def test_unknown_engine_parameters_are_refused_with_a_list(weft: LiveWeft, language: str) -> None:
    flow = HELLO[language]
    form = {
        "workflow_type": flow.language,
        "workflow_type_version": flow.version,
        "workflow_url": flow.url,
        "workflow_engine_parameters": json.dumps({"--shell": "; rm -rf /"}),
    }
    files = [("workflow_attachment", (name, text)) for name, text in flow.files.items()]
    answer = requests.post(f"{weft.wes}/runs", data=form, files=files, timeout=30)
    assert answer.status_code == 400
    assert "--shell" in answer.json()["msg"]


def test_service_info_names_the_languages(weft: LiveWeft) -> None:
    info = requests.get(f"{weft.wes}/service-info", timeout=30).json()
    versions = info["workflow_type_versions"]
    assert versions["CWL"]["workflow_type_version"] == ["v1.0", "v1.1", "v1.2"]
    assert versions["WDL"]["workflow_type_version"] == ["1.0", "1.1", "draft-2"]
    assert set(info["workflow_engine_versions"]) == {"snakemake", "cwltool", "miniwdl", "nextflow"}


# -- requests of other clients (shapes of the wes-client's and Toil's test data) -------------------------------------

MD5_TOOL = {
    "cwlVersion": "v1.0",
    "class": "CommandLineTool",
    "requirements": {"InlineJavascriptRequirement": {}},
    "inputs": {"input_file": {"type": "File", "inputBinding": {"position": 1}}},
    "outputs": {"output_file": {"type": "File", "outputBinding": {"glob": "md5sum.txt"}}},
    "baseCommand": ["sh", "-c", "md5sum < $0 | cut -d ' ' -f 1 > md5sum.txt"],
}
MD5_FLOW = {
    "cwlVersion": "v1.0",
    "class": "Workflow",
    "inputs": {"input_file": "File"},
    "outputs": {"output_file": {"type": "File", "outputSource": "md5sum/output_file"}},
    "steps": {
        "md5sum": {"run": "dockstore-tool-md5sum.cwl", "in": {"input_file": "input_file"}, "out": ["output_file"]}
    },
}


def test_the_wes_clients_md5sum_workflow_runs(weft: LiveWeft) -> None:
    files = {
        "md5sum.cwl": json.dumps(MD5_FLOW),
        "md5sum.input": "abc",
        "dockstore-tool-md5sum.cwl": json.dumps(MD5_TOOL),
    }
    params = {"input_file": {"path": "md5sum.input", "class": "File"}}
    log = weft.wait_run(Flow("CWL", "v1.0", "md5sum.cwl", files, params).submit(weft))
    assert log["state"] == "COMPLETE", said(log)
    assert text_of(log) == "900150983cd24fb0d6963f7d28e17f72\n"
    assert log["outputs"]["output_file"]["basename"] == "md5sum.txt"


def test_toils_engine_parameters_and_lower_case_type_are_taken(weft: LiveWeft) -> None:
    parameters = json.dumps({"--logLevel": "INFO", "--outdir": "/tmp/x", "--quiet": None})
    run_id = HELLO["CWL"].submit(weft, workflow_type="cwl", workflow_engine_parameters=parameters)
    log = weft.wait_run(run_id)
    assert log["state"] == "COMPLETE", said(log)
    assert log["request"]["workflow_type"] == "CWL"


def test_a_tool_finds_its_output_folder_where_its_image_has_it(weft: LiveWeft) -> None:
    docker = {"dockerPull": "bash", "dockerOutputDirectory": "/output"}
    made = {"made": {"type": "File", "outputBinding": {"glob": "made.txt"}}}
    document = tool("echo made > /output/made.txt", requirements={"DockerRequirement": docker}, outputs=made)
    log = weft.wait_run(cwl(document).submit(weft))
    assert log["state"] == "COMPLETE", said(log)
    assert text_of(log) == "made\n"


@pytest.mark.parametrize("language", ["CWL", "WDL"])
def test_an_input_on_the_web_is_fetched_by_weft(
    request: pytest.FixtureRequest, start_weft: Callable[..., LiveWeft], tmp_path: Path, language: str
) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.txt").write_text("from the web\n")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(tmp_path / "web"))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        serving = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            host = f"127.0.0.1:{web.server_port}"
            env = environment("process", request) | {"WEFT_FETCH__ALLOW_HOSTS": json.dumps([host])}
            weft = start_weft("--executor", "process", env=env)
            location = f"http://{host}/x.txt"
            flow = {
                "CWL": cwl(
                    tool('cat "$1"', inputs={"file": {"type": "File", "inputBinding": {}}}),
                    file={"class": "File", "location": location},
                ),
                "WDL": wdl(task("cat", "cat ~{file}", "File file"), **{"cat.file": location}),
            }[language]
            log = weft.wait_run(flow.submit(weft))
            assert log["state"] == "COMPLETE", said(log)
            assert text_of(log) == "from the web\n"
        finally:
            web.shutdown()
            serving.join()
