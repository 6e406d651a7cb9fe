"""Snakemake runs end to end: every job of a workflow is a task of this weft, on this host and on Docker."""

from __future__ import annotations

import time
from typing import Any

import requests

from tests.live import LiveWeft

FORM = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
TWO_RULES = b"""
rule all:
    input: expand("out/{name}.txt", name=config["names"])
rule count:
    input: "data/{name}.txt"
    output: "counts/{name}.txt"
    threads: 2
    resources: mem_mb=100
    shell: "wc -c < {input} > {output}; echo counted {wildcards.name}"
rule report:
    input: "counts/{name}.txt"
    output: "out/{name}.txt"
    shell: "tr -d ' ' < {input} > {output}"
"""


def submit(weft: LiveWeft, snakefile: bytes, params: str = "{}", **attachments: bytes) -> str:
    return weft.submit_run(FORM | {"workflow_params": params}, {"Snakefile": snakefile} | attachments)


def tasks_of(weft: LiveWeft, run_id: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{weft.wes}/runs/{run_id}/tasks", timeout=30)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["task_logs"])


def test_each_job_of_a_workflow_is_a_task_and_its_outputs_can_be_fetched(weft: LiveWeft) -> None:
    data = {"data/a.txt": b"12345", "data/deep.txt": b"123"}
    run_id = submit(weft, TWO_RULES, '{"names": ["a", "deep"]}', **data)
    run = weft.wait_run(run_id)
    stderr = requests.get(run["run_log"]["stderr"], timeout=30).text
    assert run["state"] == "COMPLETE", stderr
    assert run["run_log"]["exit_code"] == 0
    assert "5 of 5 steps" in stderr
    tasks = tasks_of(weft, run_id)
    assert sorted(task["name"] for task in tasks) == [
        "count name=a",
        "count name=deep",
        "report name=a",
        "report name=deep",
    ]
    for task in tasks:
        document = requests.get(task["tes_uri"], params={"view": "FULL"}, timeout=30).json()
        assert (document["state"], task["exit_code"]) == ("COMPLETE", 0)
    said = {requests.get(task["stdout"], timeout=30).text for task in tasks if task["name"].startswith("count")}
    assert said == {"counted a\n", "counted deep\n"}
    counts = [requests.get(task["tes_uri"], params={"view": "BASIC"}, timeout=30).json() for task in tasks]
    asked = [document["resources"] for document in counts if document["name"].startswith("count")]
    assert [(item["cpu_cores"], item["ram_gb"]) for item in asked] == [(2, 0.1)] * 2
    files = {url.partition("/outputs/")[2]: url for url in run["outputs"]["files"]}
    assert requests.get(files["out/a.txt"], timeout=30).text == "5\n"
    assert requests.get(files["out/deep.txt"], timeout=30).text == "3\n"


def test_an_output_is_fetched_in_parts(weft: LiveWeft) -> None:
    run = weft.wait_run(submit(weft, b"rule a:\n    output: 'x'\n    shell: 'printf 0123456789 > {output}'\n"))
    (url,) = run["outputs"]["files"]
    part = requests.get(url, headers={"Range": "bytes=2-4"}, timeout=30)
    assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "234", "bytes 2-4/10")
    assert requests.get(url, headers={"Range": "bytes=-3"}, timeout=30).text == "789"
    assert requests.get(url, headers={"Range": "bytes=20-"}, timeout=30).status_code == 416
    assert requests.head(url, timeout=30).headers["Content-Length"] == "10"


def test_a_failing_rule_fails_the_run_and_says_which(weft: LiveWeft) -> None:
    run = weft.wait_run(submit(weft, b"rule bad:\n    output: 'x'\n    shell: 'echo because >&2; exit 7'\n"))
    assert run["state"] == "EXECUTOR_ERROR"
    assert run["run_log"]["exit_code"] == 1
    (task,) = run["task_logs"]
    assert (task["name"], task["exit_code"]) == ("bad", 7)
    assert requests.get(task["stderr"], timeout=30).text == "because\n"
    assert "because" in requests.get(run["run_log"]["stderr"], timeout=30).text
    why = "".join(run["run_log"]["system_logs"])
    assert f"task {task['id']} (bad) ended in EXECUTOR_ERROR with exit code 7; its stderr ends:\nbecause" in why


def test_a_workflow_that_cannot_be_read_is_explained_by_the_engines_own_words(weft: LiveWeft) -> None:
    run = weft.wait_run(submit(weft, b"rule bad:\n    outputt: 'x'\n"))
    assert run["state"] == "EXECUTOR_ERROR"
    why = "".join(run["run_log"]["system_logs"])
    assert "the engine failed and none of its tasks did; its stderr ends:" in why
    assert "outputt" in why
    assert "Traceback" not in why


def test_a_workflow_that_is_not_attached_fails_the_run_in_words(weft: LiveWeft) -> None:
    run = weft.wait_run(weft.submit_run(FORM | {"workflow_url": "other.smk"}, {"Snakefile": b""}))
    assert run["state"] in ("EXECUTOR_ERROR", "SYSTEM_ERROR")
    said = "".join(run["run_log"]["system_logs"]) + requests.get(run["run_log"]["stderr"], timeout=30).text
    assert "other.smk" in said


def test_a_cancelled_run_leaves_nothing(weft: LiveWeft) -> None:
    run_id = submit(weft, b"rule a:\n    output: 'x'\n    shell: 'echo begun; sleep 1000; touch {output}'\n")
    deadline = time.monotonic() + 60
    while not (tasks := tasks_of(weft, run_id)) or not requests.get(tasks[0]["stdout"], timeout=30).text:
        assert time.monotonic() < deadline, weft.log()
        time.sleep(0.05)
    begun = time.monotonic()
    answer = requests.post(f"{weft.wes}/runs/{run_id}/cancel", timeout=30)
    assert answer.json() == {"run_id": run_id}
    assert weft.wait_run(run_id)["state"] == "CANCELED"
    (task,) = tasks_of(weft, run_id)
    assert weft.wait(task["id"])["state"] == "CANCELED"
    assert time.monotonic() - begun < 5
    weft.assert_nothing_is_left(seconds=2)


def test_the_command_of_the_engine_is_told_after_the_end(weft: LiveWeft) -> None:
    run = weft.wait_run(submit(weft, b"rule a:\n    output: 'x'\n    shell: 'touch {output}'\n"))
    assert "snakemake" in " ".join(run["run_log"]["cmd"])
