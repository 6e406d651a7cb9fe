"""A real server on AWS Batch (that of the tests, with real containers): tasks and workflows with files in S3 alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live import LiveWeft
from tests.testbeds.batch_site import BUCKET, REGION, BatchSite
from weft.config import Settings

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]

FORM = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
WORKFLOW = b"""
rule all:
    input: "out/report.txt"
rule count:
    input: "data/{name}.txt"
    output: "counts/{name}.txt", directory("seen/{name}")
    log: "logs/{name}.log"
    shell: "wc -c < {input} > {output[0]}; mkdir -p {output[1]}; cp {input} {output[1]}/; echo {wildcards.name} > {log}"
rule report:
    input: "counts/a.txt", "counts/b.txt", "seen/a"
    output: "out/report.txt", touch("out/done")
    shell: "cat {input[0]} {input[1]} {input[2]}/a.txt > {output[0]}"
"""


@pytest.fixture(scope="module")
def server(batch_site: BatchSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeft]:
    batch = batch_site.batch(storage=f"s3://{BUCKET}/e2e").model_dump(mode="json", exclude_none=True)
    env = {
        "WEFT_EXECUTOR": "aws_batch",
        "WEFT_AWS_BATCH": json.dumps(batch),
        "WEFT_S3": json.dumps({"endpoint_url": batch_site.endpoint, "region": REGION, "profile": "weft-test"}),
        "WEFT_ENGINE__STORAGE": f"s3://{BUCKET}/runs",
        "WEFT_ENGINE__DEFAULT_IMAGE": "busybox",
        "WEFT_BEAT_SECONDS": "0.2",
        "AWS_SHARED_CREDENTIALS_FILE": str(batch_site.credentials),
    }
    weft = LiveWeft(tmp_path_factory.mktemp("batch") / "data", env=env)
    weft.start()
    yield weft
    weft.end()


def test_a_task_runs_from_s3_to_s3(server: LiveWeft, batch_site: BatchSite) -> None:
    s3 = batch_site.client("s3")
    s3.put_object(Bucket=BUCKET, Key="e2e-in/words/a", Body=b"one\n")
    s3.put_object(Bucket=BUCKET, Key="e2e-in/words/sub/b", Body=b"two\n")
    task = server.wait(
        server.create(
            {
                "inputs": [{"url": f"s3://{BUCKET}/e2e-in/words", "path": "/in/words", "type": "FILE"}],
                "outputs": [
                    {"url": f"s3://{BUCKET}/e2e-out", "path": "/out/*.txt", "path_prefix": "/out"},
                    {"url": f"s3://{BUCKET}/e2e-out/folder", "path": "/out/folder", "type": "DIRECTORY"},
                ],
                "executors": [
                    {
                        "image": "busybox",
                        "command": [
                            "sh",
                            "-c",
                            "mkdir /out/folder; cat /in/words/a /in/words/sub/b > /out/1.txt; echo hi",
                        ],
                    },
                    {"image": "busybox", "command": ["sh", "-c", "exit 3"], "ignore_error": True},
                    {"image": "busybox", "command": ["cp", "/out/1.txt", "/out/folder/2"]},
                ],
            }
        )
    )
    assert task["state"] == "COMPLETE", task
    (log,) = task["logs"]
    assert [step["exit_code"] for step in log["logs"]] == [0, 3, 0]
    assert log["logs"][0]["stdout"] == "hi\n"
    assert sorted(output["url"] for output in log["outputs"]) == [
        f"s3://{BUCKET}/e2e-out/1.txt",
        f"s3://{BUCKET}/e2e-out/folder/2",
    ]
    assert batch_site.read("e2e-out/folder/2") == b"one\ntwo\n"
    assert any("type corrected to DIRECTORY" in line for line in log["system_logs"])
    assert task["inputs"][0]["type"] == "DIRECTORY"


def the_weft_program(server: LiveWeft, *arguments: str) -> str:
    """Run a command of `weft` as the server was started, and return what it printed."""
    env = os.environ | server.env | {"WEFT_SERVER": server.url}
    argv = [sys.executable, "-m", "weft.cli", *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_says_what_check_prints(server: LiveWeft) -> None:
    page = (ROOT / "docs" / "aws-batch.md").read_text()
    blocks = re.findall(r"^<!-- test on AWS Batch -->\n```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ((command, expected),) = [block.splitlines() for block in blocks]
    assert command == '$ weft check | grep "executor aws_batch"'
    lines = [line for line in the_weft_program(server, "check").splitlines() if "executor aws_batch" in line]
    wanted = ".*".join(re.escape(part) for part in expected.split("…"))
    assert [line for line in lines if re.fullmatch(wanted, line)] == lines
    assert len(lines) == 1


def test_the_example_runs(server: LiveWeft, batch_site: BatchSite, tmp_path: Path) -> None:
    batch_site.client("s3").put_object(Bucket=BUCKET, Key="project/words.txt", Body=b"one\ntwo\n")
    text = (ROOT / "examples" / "aws-batch" / "task.json").read_text()
    (tmp_path / "task.json").write_text(text.replace("BUCKET", BUCKET).replace("REGISTRY/weft-busybox:1", "busybox"))
    the_weft_program(server, "task", "submit", "--wait", str(tmp_path / "task.json"))
    assert batch_site.read("project/count.txt").split() == [b"2"]


def test_the_examples_settings_are_settings() -> None:
    Settings(**tomllib.loads((ROOT / "examples" / "aws-batch" / "weft.toml").read_text()))


def test_what_goes_wrong_is_said_in_words(server: LiveWeft) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "no such bucket": {"inputs": [{"url": "s3://weft-no-such-bucket/x", "path": "/in/x"}]},
        "the task did not write it": {"outputs": [{"url": f"s3://{BUCKET}/none", "path": "/out/none"}]},
        "the image cannot be pulled": {"executors": [{"image": "registry.invalid/none:1", "command": ["true"]}]},
    }
    ids = {
        words: server.create({"executors": [{"image": "busybox", "command": ["true"]}], **fields})
        for words, fields in wrong.items()
    }
    for words, task_id in ids.items():
        task = server.wait(task_id)
        assert task["state"] == "SYSTEM_ERROR", task
        assert words in "".join(task["logs"][0]["system_logs"])


def test_a_workflow_runs_with_its_files_in_s3(server: LiveWeft, batch_site: BatchSite) -> None:
    files = {"Snakefile": WORKFLOW, "data/a.txt": b"12345", "data/b.txt": b"123"}
    run_id = server.submit_run(FORM, files)
    run = server.wait_run(run_id)
    stderr = requests.get(run["run_log"]["stderr"], timeout=30).text
    assert run["state"] == "COMPLETE", stderr
    urls = {url.partition("/outputs/")[2]: url for url in run["outputs"]["files"]}
    assert requests.get(urls["out/report.txt"], timeout=30).text == "5\n3\n12345"
    tasks = requests.get(f"{server.wes}/runs/{run_id}/tasks", timeout=30).json()["task_logs"]
    assert sorted(task["name"] for task in tasks) == ["count name=a", "count name=b", "report"]
    assert {key.removeprefix(f"runs/runs/{run_id}/") for key in batch_site.keys(f"runs/runs/{run_id}/")} >= {
        "data/a.txt",
        "counts/a.txt",
        "seen/a/a.txt",
        "logs/a.log",
        "out/report.txt",
    }


def test_a_rule_that_needs_the_folder_is_refused_in_words(server: LiveWeft, tmp_path: Path) -> None:
    run = server.wait_run(
        server.submit_run(FORM, {"Snakefile": b"rule a:\n    output: 'x'\n    run: open(output[0], 'w')\n"})
    )
    assert run["state"] == "EXECUTOR_ERROR"
    stderr = requests.get(run["run_log"]["stderr"], timeout=30).text
    assert "tasks do not see that folder" in stderr
