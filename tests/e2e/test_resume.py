"""A run that begins where an earlier one ended: finished steps are not repeated, what changed is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.live import LiveWeft

SMK = """\
rule all:
    input: "both.txt"
rule make:
    input: "word.txt"
    output: "made-{n}.txt"
    shell: "cat {input} > {output}; echo {wildcards.n} >> {output}"
rule join:
    input: "made-1.txt", "made-2.txt"
    output: "both.txt"
    shell: "cat {input} > {output}; %s"
"""
CWL_MAIN = {
    "cwlVersion": "v1.2",
    "class": "Workflow",
    "requirements": {"ScatterFeatureRequirement": {}, "MultipleInputFeatureRequirement": {}},
    "inputs": {"word": "File", "numbers": "string[]"},
    "outputs": {
        "both": {"type": "File", "outputSource": "join/both"},
        "made": {"type": "File[]", "outputSource": "make/made"},
    },
    "steps": {
        "make": {"run": "make.cwl", "scatter": "n", "in": {"word": "word", "n": "numbers"}, "out": ["made"]},
        "join": {"run": "join.cwl", "in": {"files": "make/made"}, "out": ["both"]},
    },
}
CWL_MAKE = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": ["sh", "-c", 'cat "$1"; echo "$2"', "sh"],
    "inputs": {
        "word": {"type": "File", "inputBinding": {"position": 1}},
        "n": {"type": "string", "inputBinding": {"position": 2}},
    },
    "stdout": "made.txt",
    "outputs": {"made": "stdout"},
}
CWL_JOIN = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "inputs": {"files": {"type": "File[]", "inputBinding": {}}},
    "stdout": "both.txt",
    "outputs": {"both": "stdout"},
}
WDL = """\
version 1.0
workflow w {
  input { File word Array[String] numbers }
  scatter (n in numbers) { call make { input: word = word, n = n } }
  call join { input: files = make.made }
  output { File both = join.both Array[File] made = make.made }
}
task make {
  input { File word String n }
  command <<< cat ~{word}; echo ~{n} >>>
  output { File made = stdout() }
}
task join {
  input { Array[File] files }
  command <<< cat ~{sep=" " files}; %s >>>
  output { File both = stdout() }
}
"""


def smk(end: str) -> dict[str, str]:
    return {"Snakefile": SMK % end, "word.txt": "hello\n"}


def cwl(end: str) -> dict[str, str]:
    join = CWL_JOIN | {"baseCommand": ["sh", "-c", f'cat "$@"; {end}', "sh"]}
    tools = {"main.cwl": CWL_MAIN, "make.cwl": CWL_MAKE, "join.cwl": join}
    return {name: json.dumps(tool) for name, tool in tools.items()} | {"word.txt": "hello\n"}


def wdl(end: str) -> dict[str, str]:
    return {"main.wdl": WDL % end, "word.txt": "hello\n"}


NUMBERS = ["1", "2"]
LANGUAGES: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "SMK": (smk, "1.0", "Snakefile", {}),
    "CWL": (cwl, "v1.2", "main.cwl", {"word": {"class": "File", "path": "word.txt"}, "numbers": NUMBERS}),
    "WDL": (wdl, "1.0", "main.wdl", {"word": "word.txt", "numbers": NUMBERS}),
}


def submit(weft: LiveWeft, language: str, end: str, earlier: str | None = None, **changed: str) -> str:
    files, version, url, params = LANGUAGES[language]
    form = {
        "workflow_type": language,
        "workflow_type_version": version,
        "workflow_url": url,
        "workflow_params": json.dumps(params),
        "workflow_engine_parameters": json.dumps({} if earlier is None else {"resume_from": earlier}),
    }
    return weft.submit_run(form, {name: text.encode() for name, text in (files(end) | changed).items()})


def tasks(run: dict[str, Any]) -> list[str]:
    """Return the names of a run's tasks without their numbers."""
    return sorted(task["name"].removeprefix("call-")[:4] for task in run["task_logs"])


def both(run: dict[str, Any]) -> str:
    (url,) = [
        word for word in json.dumps(run["outputs"]).split('"') if word.startswith("http") and word.endswith("both.txt")
    ] or [run["outputs"]["w.both"]]
    return requests.get(url, timeout=30).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_finished_steps_are_not_repeated(live_weft: LiveWeft, language: str) -> None:
    first = live_weft.wait_run(submit(live_weft, language, "exit 1"))
    assert (first["state"], tasks(first)) == ("EXECUTOR_ERROR", ["join", "make", "make"]), first
    second = live_weft.wait_run(submit(live_weft, language, "echo end", first["run_id"]))
    assert (second["state"], tasks(second)) == ("COMPLETE", ["join"]), second
    expected = "hello\n1\nhello\n2\n"
    assert both(second).startswith(expected)
    changed = live_weft.wait_run(submit(live_weft, language, "echo end", first["run_id"], **{"word.txt": "bye\n"}))
    assert (changed["state"], tasks(changed)) == ("COMPLETE", ["join", "make", "make"]), changed
    assert both(changed).startswith("bye\n1\nbye\n2\n")
    assert both(second).startswith(expected)
