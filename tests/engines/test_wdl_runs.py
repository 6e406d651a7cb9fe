"""Real WDL documents, run by the engine's program, with a TES that runs each task's command here."""

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
from wes_service.engines.launch import PACKAGES
from wes_service.engines.wdl import CHILD

SECONDS = 60


@dataclass
class Flow:
    """A run's folder, and the program that runs it."""

    work: Path
    tes: FakeTes
    options: list[str] = field(default_factory=lambda: ["--default-image", "busybox"])
    log: str = ""

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, document: str | None, inputs: dict[str, Any], url: str = "main.wdl", **parameters: Any) -> Any:
        if document is not None:
            self.write("main.wdl", document)
        home = self.work.parent
        request = {"workflow_url": url, "workflow_params": inputs, "workflow_engine_parameters": parameters}
        (home / "request.json").write_text(json.dumps(request))
        (home / "token").write_text(self.tes.token)
        given = {
            "--request": home / "request.json",
            "--outcome": home / "outcome.json",
            "--tes": self.tes.url,
            "--token-file": home / "token",
            "--run-id": "R1",
        }
        words = [str(word) for pair in given.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, *words, *self.options],
            cwd=self.work,
            env={"PYTHONPATH": PACKAGES, "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        self.log = process.communicate(timeout=SECONDS)[1]
        return process.returncode

    def run(self, document: str | None, inputs: dict[str, Any] | None = None, **more: Any) -> int:
        return self.end(self.start(document, inputs or {}, **more))

    @property
    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.work.parent / "outcome.json").read_text())
        return found

    def text(self, output: str) -> str:
        return (self.work / self.outputs[output]).read_text()

    @property
    def names(self) -> list[str]:
        return [document["name"] for document in self.tes.documents]


@pytest.fixture
def flow() -> Iterator[Flow]:
    with tempfile.TemporaryDirectory(prefix="weft-wdl-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        with FakeTes(Path(folder) / "socket") as tes:
            yield Flow(work, tes)


def task(
    command: str, inputs: str = "", outputs: str = "File out = stdout()", runtime: str = "", name: str = "t"
) -> str:
    section = f"runtime {{ {runtime} }}" if runtime else ""
    return f"task {name} {{ input {{ {inputs} }} command <<<\n{command}\n>>> output {{ {outputs} }} {section} }}\n"


HELLO = task("echo hello ~{name}", "String name")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_one_task_is_one_tes_task_and_its_outputs_are_the_outcome(flow: Flow, version: str) -> None:
    assert flow.run(f"version {version}\n{HELLO}", {"t.name": "you"}) == 0, flow.log
    assert flow.outputs == {"t.out": "results/out/stdout.txt"}
    assert flow.text("t.out") == "hello you\n"
    document = flow.tes.documents[0]
    assert (document["name"], document["tags"]["run"]) == ("t", "R1")
    assert document["executors"][0]["image"] == "busybox"
    assert document["resources"] == {"cpu_cores": 1}


def test_draft_2_is_understood_and_inputs_may_leave_out_the_workflows_name(flow: Flow) -> None:
    flow.write("in.txt", "abc")
    draft = """
        task md5 {
          File file
          command { md5sum < ${file} | cut -d ' ' -f 1 }
          output { String sum = read_string(stdout()) }
        }
        workflow w { File file  call md5 { input: file = file }  output { String sum = md5.sum } }
    """
    assert flow.run(draft, {"file": "in.txt"}) == 0, flow.log
    assert flow.outputs == {"w.sum": "900150983cd24fb0d6963f7d28e17f72"}


def test_the_runtime_section_is_the_tasks(flow: Flow) -> None:
    runtime = 'docker: "alpine:3" cpu: 2 memory: "1 GiB" disks: "local-disk 10 SSD"'
    assert flow.run(f"version 1.0\n{task('true', runtime=runtime)}") == 0, flow.log
    document = flow.tes.documents[0]
    assert document["executors"][0]["image"] == "alpine:3"
    assert document["resources"] == {
        "cpu_cores": 2,
        "ram_gb": pytest.approx(2**30 / 10**9),
        "disk_gb": pytest.approx(10 * 2**30 / 10**9),
    }


SCATTER = (
    "version 1.0\n"
    "workflow w { input { Array[Int] numbers }\n"
    " scatter (n in numbers) { call square { input: n = n } }\n"
    " call gather { input: files = square.out }\n"
    " output { File all = gather.out Array[File] each = square.out } }\n"
    + task("echo $((~{n} * ~{n}))", "Int n", name="square")
    + task("cat ~{sep=' ' files}", "Array[File] files", name="gather")
)


def test_a_scatter_of_twenty_is_gathered(flow: Flow) -> None:
    assert flow.run(SCATTER, {"w.numbers": list(range(20))}) == 0, flow.log
    assert flow.text("w.all").split() == [str(n * n) for n in range(20)]
    assert len(flow.outputs["w.each"]) == 20
    assert len(flow.names) == 21
    assert flow.tes.most_at_once > 1


def test_jobs_limits_the_tasks_at_once(flow: Flow) -> None:
    assert flow.run(SCATTER, {"w.numbers": [1, 2, 3]}, jobs="1") == 0, flow.log
    assert (flow.tes.most_at_once, len(flow.names)) == (1, 4)


def test_imports_and_inputs_in_other_folders(flow: Flow) -> None:
    flow.write("tasks/cat.wdl", "version 1.0\n" + task("cat ~{file}", "File file", name="cat"))
    flow.write("data/x.txt", "x")
    flow.write(
        "flows/main.wdl",
        'version 1.0\nimport "../tasks/cat.wdl" as lib\n'
        "workflow w { input { File file } call lib.cat { input: file = file } output { File out = cat.out } }",
    )
    assert flow.run(None, {"w.file": "data/x.txt"}, url="./flows/main.wdl") == 0, flow.log
    assert flow.text("w.out") == "x"


def test_a_task_may_change_its_copy_of_nothing_but_make_links_to_its_inputs(flow: Flow) -> None:
    flow.write("x.txt", "x")
    document = "version 1.0\n" + task("ln -s ~{file} linked.txt", "File file", 'File out = "linked.txt"')
    assert flow.run(document, {"t.file": "x.txt"}) == 0, flow.log
    assert flow.text("t.out") == "x"


def test_globs_written_files_and_optional_outputs(flow: Flow) -> None:
    document = "version 1.0\n" + task(
        "while read word; do echo $word > $word.txt; done < ~{write_lines(words)}",
        "Array[String] words",
        'Array[File] made = glob("*.txt") File? missing = "missing"',
    )
    assert flow.run(document, {"t.words": ["b", "a"]}) == 0, flow.log
    assert [Path(name).name for name in flow.outputs["t.made"]] == ["a.txt", "b.txt"]
    assert flow.outputs["t.missing"] is None


def test_a_failing_task_is_explained(flow: Flow) -> None:
    workflow = "version 1.0\nworkflow w { call bad }\n" + task("echo because >&2; exit 4", name="bad")
    assert flow.run(workflow) == 1
    assert "TES task task-0 of call-bad ended in EXECUTOR_ERROR, exit code 4." in flow.log
    assert "Its stderr:\nbecause\n" in flow.log
    assert "Traceback" not in flow.log
    assert flow.outputs == {}


def test_a_failed_task_is_tried_again_as_its_runtime_says(flow: Flow) -> None:
    document = "version 1.0\n" + task(
        "test -e ../seen || { touch ../seen; touch left; exit 1; }; test ! -e left; echo again", runtime="maxRetries: 1"
    )
    assert flow.run(document) == 0, flow.log
    assert flow.text("t.out") == "again\n"
    assert len(flow.names) == 2


@pytest.mark.parametrize(
    ("document", "inputs", "said"),
    [
        ("version 1.0\nworkflow w {", {}, "main.wdl Ln 2"),
        (f"version 1.0\nworkflow w {{ call t }}\n{HELLO}", {}, "missing required inputs"),
        (f"version 1.0\n{HELLO}", {"t.name": "x", "t.other": 1}, "unknown input/output: t.other"),
        ("version 1.0\n" + task("true", "File f"), {"t.f": "nowhere.txt"}, "File not found: nowhere.txt"),
        ("version 1.0\n" + task("true", "File f"), {"t.f": "/etc/passwd"}, "must be located within"),
        ('version 1.0\nimport "gone.wdl"\nworkflow w {}', {}, "gone.wdl"),
    ],
)
def test_what_cannot_run_is_said_without_a_traceback(
    flow: Flow, document: str, inputs: dict[str, Any], said: str
) -> None:
    assert flow.run(document, inputs) == 1
    assert said in flow.log
    assert "Traceback" not in flow.log
    assert flow.names == []


def test_a_task_without_an_image_needs_the_default_one(flow: Flow) -> None:
    flow.options = []
    assert flow.run(f"version 1.0\n{HELLO}", {"name": "x"}) == 1
    assert "no default one (engine.default_image)" in flow.log


def test_a_remote_input_is_fetched_by_a_task(flow: Flow) -> None:
    document = "version 1.0\n" + task("cat ~{f}", "File f")
    assert flow.run(document, {"t.f": "https://data.example.org/x.txt?key=secret"}) == 1
    assert flow.names == ["fetch inputs"]
    assert flow.tes.documents[0]["inputs"][1]["url"] == "https://data.example.org/x.txt?key=secret"
    assert "Fetching failed: TES task task-0 ended in EXECUTOR_ERROR" in flow.log


def test_sigterm_cancels_all_live_tasks(flow: Flow) -> None:
    workflow = "version 1.0\nworkflow w { call a call b }\n" + "".join(task("sleep 60", name=name) for name in "ab")
    process = flow.start(workflow, {})
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING", "RUNNING"])
    process.send_signal(signal.SIGTERM)
    assert flow.end(process) == 143, flow.log
    assert flow.tes.states() == ["CANCELED", "CANCELED"]


def test_nothing_but_the_results_is_left(flow: Flow) -> None:
    assert flow.run(f"version 1.0\n{HELLO}", {"name": "x"}) == 0, flow.log
    assert sorted(path.name for path in flow.work.iterdir()) == ["main.wdl", "results"]


def test_the_program_can_be_primed_and_then_runs() -> None:
    code = f"import {CHILD} as child, threading; child.prime(); assert threading.active_count() == 1"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": PACKAGES}, check=True, timeout=SECONDS)
