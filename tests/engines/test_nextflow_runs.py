"""Real Nextflow scripts, run by the engine's program, with a TES that runs each task's command here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.engines.fake_tes import FakeTes
from tests.testbeds.nextflow.dist import nextflow
from wes_service.engines.launch import PACKAGES
from wes_service.engines.nextflow import CHILD

SECONDS = 120


@dataclass
class Flow:
    """A run's folder, and the program that runs it."""

    work: Path
    tes: FakeTes
    program: Path
    options: list[str] = field(default_factory=lambda: ["--default-image", "bash"])
    said: str = ""
    log: str = ""

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, script: str, params: dict[str, Any] | None = None, **parameters: Any) -> subprocess.Popen[str]:
        self.write("main.nf", script)
        home = self.work.parent
        request = {
            "workflow_url": "main.nf",
            "workflow_params": params or {},
            "workflow_engine_parameters": parameters,
        }
        (home / "request.json").write_text(json.dumps(request))
        (home / "token").write_text(self.tes.token)
        given = {
            "--request": home / "request.json",
            "--outcome": home / "outcome.json",
            "--tes": self.tes.url,
            "--token-file": home / "token",
            "--run-id": "R1",
            "--program": self.program,
        }
        words = [str(word) for pair in given.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, *words, *self.options],
            cwd=self.work,
            env={"PYTHONPATH": PACKAGES, "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        self.said, self.log = process.communicate(timeout=SECONDS)
        return process.returncode

    def run(self, script: str, params: dict[str, Any] | None = None, **parameters: Any) -> int:
        return self.end(self.start(script, params, **parameters))

    @property
    def files(self) -> list[str]:
        found: list[str] = json.loads((self.work.parent / "outcome.json").read_text())["files"]
        return found


@pytest.fixture
def flow() -> Iterator[Flow]:
    program = nextflow()
    with tempfile.TemporaryDirectory(prefix="weft-nextflow-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        with FakeTes(Path(folder) / "socket") as tes:
            yield Flow(work, tes, program)


WORDS = """
process say {
  container "image/${word}"
  cpus 2
  memory '1 GB'
  disk '3 GB'
  time '90s'
  tag "$word"
  input: val word
  output: path 'out.txt'
  script: "echo $params.greeting $word > out.txt"
}
process gather {
  publishDir 'results'
  input: path 'in?.txt'
  output: path 'all.txt'
  script: 'cat in*.txt | sort > all.txt'
}
workflow { Channel.of('a', 'b') | say | collect | gather }
"""


def test_each_process_is_a_task_with_its_directives_and_what_is_published_is_kept(flow: Flow) -> None:
    flow.options += ["--time-limit-parameter", "time_limit"]
    assert flow.run(WORDS, {"greeting": "hello"}) == 0, flow.said + flow.log
    assert flow.files == ["results/all.txt"]
    published = flow.work / "results/all.txt"
    assert (published.read_text(), published.is_symlink()) == ("hello a\nhello b\n", False)
    by_name = {document["name"]: document for document in flow.tes.documents}
    assert set(by_name) == {"say (a)", "say (b)", "gather"}
    said = by_name["say (a)"]
    assert (said["executors"][0]["image"], said["tags"]) == ("image/a", {"run": "R1", "process": "say"})
    assert said["resources"] == {
        "cpu_cores": 2,
        "ram_gb": 1.073741824,
        "disk_gb": 3.221225472,
        "backend_parameters": {"time_limit": "90"},
    }
    assert by_name["gather"]["executors"][0]["image"] == "bash"
    assert by_name["gather"]["resources"] == {"cpu_cores": 1}


def test_a_failing_process_ends_the_run_with_its_words(flow: Flow) -> None:
    assert flow.run("process bad { script: 'echo no luck >&2; exit 3' }\nworkflow { bad() }") == 1
    assert "terminated with an error exit status (3)" in flow.said
    assert "no luck" in flow.said
    assert flow.files == []


def test_a_task_that_never_ran_is_explained(flow: Flow) -> None:
    """A wrapper that is killed leaves no exit code."""
    flow.write("lost.config", "process.beforeScript = 'kill -9 $$'")
    assert flow.run("process lost { script: 'true' }\nworkflow { lost() }", config=["lost.config"]) == 1
    assert "TES task task-0 of lost ended in EXECUTOR_ERROR" in flow.log
    assert "TES task task-0 of lost ended in EXECUTOR_ERROR" in flow.said


def test_a_process_is_tried_again_as_its_directives_say(flow: Flow) -> None:
    script = """
        process flaky {
          errorStrategy 'retry'
          maxRetries 2
          memory { 1.GB * task.attempt }
          script: "[ $task.attempt -eq 2 ]"
        }
        workflow { flaky() }"""
    assert flow.run(script) == 0, flow.said + flow.log
    assert [document["resources"]["ram_gb"] for document in flow.tes.documents] == [1.073741824, 2.147483648]


def test_a_users_own_configuration_and_profile_cannot_take_tasks_elsewhere(flow: Flow) -> None:
    flow.write("nextflow.config", "process.executor = 'local'\nprofiles { docker { docker.enabled = true } }")
    assert flow.run("process one { script: 'true' }\nworkflow { one() }", profile="docker") == 0, flow.said
    assert [document["name"] for document in flow.tes.documents] == ["one"]


def test_a_process_that_sets_cluster_options_is_refused_in_words(flow: Flow) -> None:
    script = "process odd { clusterOptions '--qos=x'\n script: 'true' }\nworkflow { odd() }"
    assert flow.run(script) == 1
    assert "process odd sets clusterOptions" in flow.said
    assert flow.tes.documents == []


def test_at_most_so_many_tasks_at_once(flow: Flow) -> None:
    script = "process n { input: val i\n script: 'true' }\nworkflow { Channel.of(1..5) | n }"
    assert flow.run(script, jobs=1) == 0, flow.said + flow.log
    assert (len(flow.tes.documents), flow.tes.most_at_once) == (5, 1)


def test_cancelling_ends_nextflow_and_its_tasks(flow: Flow) -> None:
    process = flow.start("process slow { script: 'sleep 600' }\nworkflow { slow() }")
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING"], SECONDS)
    process.send_signal(signal.SIGTERM)
    assert flow.end(process) == 143
    assert flow.tes.states() == ["CANCELED"]


def test_a_parse_error_is_nextflows_own_message(flow: Flow) -> None:
    assert flow.run("workflow { (") == 1
    assert "Script compilation error" in flow.said
    assert "Traceback" not in flow.log
