"""Real CWL documents, run by the engine's program, with a TES that runs each task's command here."""

from __future__ import annotations

import json
import os
import shutil
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
from wes_service.engines.cwl import CHILD
from wes_service.engines.launch import PACKAGES

pytest.importorskip("cwltool", reason="needs the extra weft[cwl]")

SECONDS = 60
NODE = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@dataclass
class Flow:
    """A run's folder, and the program that runs it."""

    work: Path
    tes: FakeTes
    options: list[str] = field(default_factory=lambda: ["--default-image", "busybox"])
    path: str = os.environ["PATH"]
    log: str = ""

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, url: str, job: dict[str, Any], parameters: dict[str, Any]) -> subprocess.Popen[str]:
        home = self.work.parent
        request = {"workflow_url": url, "workflow_params": job, "workflow_engine_parameters": parameters}
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
            env={"PYTHONPATH": PACKAGES, "PATH": self.path, "HOME": str(home), "LANG": "C.UTF-8"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        self.log = process.communicate(timeout=SECONDS)[1]
        return process.returncode

    def run(self, url: str, job: dict[str, Any] | None = None, **parameters: Any) -> int:
        return self.end(self.start(url, job or {}, parameters))

    def document(self, document: dict[str, Any], job: dict[str, Any] | None = None, **parameters: Any) -> int:
        self.write("main.cwl", json.dumps(document))
        return self.run("main.cwl", job, **parameters)

    @property
    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.work.parent / "outcome.json").read_text())
        return found

    def text(self, output: str) -> str:
        return (self.work / self.outputs[output]["location"]).read_text()

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [document["executors"][0] for document in self.tes.documents]


@pytest.fixture
def flow() -> Iterator[Flow]:
    with tempfile.TemporaryDirectory(prefix="weft-cwl-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        with FakeTes(Path(folder) / "socket") as tes:
            yield Flow(work, tes)


def tool(command: list[str], version: str = "v1.2", **more: Any) -> dict[str, Any]:
    return {
        "cwlVersion": version,
        "class": "CommandLineTool",
        "baseCommand": command,
        "inputs": {},
        "outputs": {},
    } | more


def sh(script: str, **more: Any) -> dict[str, Any]:
    return tool(["sh", "-c", script], **more)


STDOUT: dict[str, Any] = {"stdout": "out.txt", "outputs": {"out": "stdout"}}
NAMED = {"type": "File", "inputBinding": {}}


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
def test_one_tool_is_one_task_and_its_outputs_are_the_outcome(flow: Flow, version: str) -> None:
    message = {"type": "string", "inputBinding": {}}
    document = tool(["echo"], version, inputs={"message": message}, **STDOUT)
    assert flow.document(document, {"message": "hi there"}) == 0, flow.log
    out = flow.outputs["out"]
    assert (out["class"], out["location"], out["size"], out["basename"]) == ("File", "results/out.txt", 9, "out.txt")
    assert out["checksum"].startswith("sha1$")
    assert flow.text("out") == "hi there\n"
    assert [(step["command"], step["image"]) for step in flow.steps] == [(["echo", "hi there"], "busybox")]
    assert flow.tes.documents[0]["tags"]["run"] == "R1"
    assert flow.tes.documents[0]["name"] == "main.cwl"


def test_the_tools_image_cores_memory_disk_and_environment_are_the_tasks(flow: Flow) -> None:
    requirements = {
        "DockerRequirement": {"dockerPull": "alpine:3"},
        "ResourceRequirement": {"coresMin": 2, "ramMin": 100, "ramMax": 1000, "tmpdirMin": 10, "outdirMin": 20},
        "EnvVarRequirement": {"envDef": {"GREETING": "hello"}},
    }
    assert flow.document(sh("echo $GREETING $HOME", requirements=requirements, **STDOUT)) == 0, flow.log
    task = flow.tes.documents[0]
    mib = 2**20 / 10**9
    assert task["executors"][0]["image"] == "alpine:3"
    assert task["resources"] == {
        "cpu_cores": 2,
        "ram_gb": pytest.approx(1000 * mib),
        "disk_gb": pytest.approx(30 * mib),
    }
    assert flow.text("out").split() == ["hello", task["executors"][0]["workdir"]]
    assert set(task["executors"][0]["env"]) == {"GREETING", "HOME", "TMPDIR"}


def test_a_tool_that_says_nothing_of_memory_is_not_limited(flow: Flow) -> None:
    assert flow.document(sh("true")) == 0, flow.log
    assert flow.tes.documents[0]["resources"] == {"cpu_cores": 1}


def test_standard_streams_and_exit_codes(flow: Flow) -> None:
    flow.write("data/words.txt", "b\na\n")
    document = sh(
        "sort; echo done >&2; exit 3",
        inputs={"words": "File"},
        stdin="$(inputs.words.path)",
        stdout="logs/sorted.txt",
        stderr="err.txt",
        outputs={"sorted": "stdout", "said": "stderr"},
        successCodes=[3],
    )
    assert flow.document(document, {"words": {"class": "File", "path": "data/words.txt"}}) == 0, flow.log
    assert (flow.text("sorted"), flow.text("said")) == ("a\nb\n", "done\n")


def test_files_are_relative_to_the_runs_folder_wherever_the_document_is(flow: Flow) -> None:
    flow.write("data/x.txt", "x")
    flow.write("tools/cat.cwl", json.dumps(tool(["cat"], inputs={"file": NAMED}, **STDOUT)))
    assert flow.run("tools/cat.cwl", {"file": {"class": "File", "location": "data/x.txt"}}) == 0, flow.log
    assert flow.text("out") == "x"


def test_a_scatter_of_twenty_is_gathered(flow: Flow) -> None:
    meet = f"touch {flow.work}/begun.$0; until [ $(ls {flow.work} | grep -c begun) -gt 1 ]; do sleep 0.02; done"
    square = sh(f"{meet}; echo $(($0 * $0))", inputs={"n": {"type": "int", "inputBinding": {}}}, **STDOUT)
    add = sh('cat "$@"', arguments=["add"], inputs={"files": {"type": "File[]", "inputBinding": {"position": 1}}})
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"numbers": "int[]"},
        "outputs": {"all": {"type": "File", "outputSource": "gather/out"}},
        "steps": {
            "square": {"run": square, "in": {"n": "numbers"}, "scatter": "n", "out": ["out"]},
            "gather": {"run": add | STDOUT, "in": {"files": "square/out"}, "out": ["out"]},
        },
    }
    assert flow.document(workflow, {"numbers": list(range(20))}) == 0, flow.log
    assert flow.text("all").split() == [str(n * n) for n in range(20)]
    assert len(flow.steps) == 21
    assert flow.tes.most_at_once > 1


def test_jobs_limits_the_tasks_at_once(flow: Flow) -> None:
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"numbers": "int[]"},
        "outputs": {},
        "steps": {"one": {"run": sh("true", inputs={"n": "int"}), "in": {"n": "numbers"}, "scatter": "n", "out": []}},
    }
    assert flow.document(workflow, {"numbers": [1, 2, 3]}, jobs="1") == 0, flow.log
    assert (flow.tes.most_at_once, len(flow.steps)) == (1, 3)


def subworkflow(inner: Any) -> dict[str, Any]:
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"SubworkflowFeatureRequirement": {}},
        "inputs": {},
        "outputs": {"out": {"type": "File", "outputSource": "inner/out"}},
        "steps": {"inner": {"run": inner, "in": {}, "out": ["out"]}},
    }


def test_subworkflows_and_documents_in_other_folders(flow: Flow) -> None:
    flow.write("tools/hello.cwl", json.dumps(sh("echo hello", **STDOUT)))
    flow.write("inner.cwl", json.dumps(subworkflow("tools/hello.cwl")))
    assert flow.document(subworkflow("inner.cwl")) == 0, flow.log
    assert flow.text("out") == "hello\n"


@pytest.mark.parametrize(("url", "said"), [("packed.cwl", "main\n"), ("./packed.cwl#other", "other\n")])
def test_a_packed_document_runs_main_or_what_the_fragment_names(flow: Flow, url: str, said: str) -> None:
    graph = [{**sh(f"echo {name}", **STDOUT), "id": name} for name in ("main", "other")]
    for process in graph:
        del process["cwlVersion"]
    flow.write("packed.cwl", json.dumps({"cwlVersion": "v1.2", "$graph": graph}))
    assert flow.run(url) == 0, flow.log
    assert flow.text("out") == said


def test_the_initial_work_directory_is_staged(flow: Flow) -> None:
    flow.write("kept.txt", "kept")
    flow.write("changed.txt", "before")
    listing = [
        {"entryname": "literal.txt", "entry": "text of $(inputs.kept.basename)"},
        {"entryname": "sub/linked.txt", "entry": "$(inputs.kept)"},
        {"entryname": "mine.txt", "entry": "$(inputs.changed)", "writable": True},
    ]
    document = sh(
        "cat literal.txt sub/linked.txt; echo after > mine.txt; cat mine.txt",
        inputs={"kept": "File", "changed": "File"},
        requirements={"InitialWorkDirRequirement": {"listing": listing}},
        stdout="out.txt",
        outputs={"out": "stdout", "mine": {"type": "File", "outputBinding": {"glob": "mine.txt"}}},
    )
    job = {name: {"class": "File", "path": f"{name}.txt"} for name in ("kept", "changed")}
    assert flow.document(document, job) == 0, flow.log
    assert flow.text("out").replace("\n", "") == "text of kept.txtkeptafter"
    assert flow.text("mine") == "after\n"
    assert (flow.work / "changed.txt").read_text() == "before"


@NODE
def test_expressions_run_in_the_engine_and_are_no_tasks(flow: Flow) -> None:
    document = {
        "cwlVersion": "v1.2",
        "class": "ExpressionTool",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"n": "int"},
        "outputs": {"twice": "int"},
        "expression": "${return {twice: inputs.n * 2};}",
    }
    assert flow.document(document, {"n": 21}) == 0, flow.log
    assert flow.outputs == {"twice": 42}
    assert flow.steps == []


def test_a_missing_node_is_named(flow: Flow) -> None:
    flow.path = "/nonexistent"
    document = sh("true", requirements={"InlineJavascriptRequirement": {}}, arguments=[{"valueFrom": "${return 'x';}"}])
    assert flow.document(document) == 1
    assert "the workflow has JavaScript expressions, and node is not installed here" in flow.log


def test_what_is_written_where_the_image_has_its_output_folder_is_taken(flow: Flow) -> None:
    docker = {"dockerPull": "busybox", "dockerOutputDirectory": "/output"}
    assert flow.document(sh("echo x", requirements={"DockerRequirement": docker}, **STDOUT)) == 0, flow.log
    task = flow.tes.documents[0]
    outdir = task["executors"][0]["workdir"]
    assert task["outputs"] == [{"type": "DIRECTORY", "path": "/output", "url": f"file://{outdir}"}]


def test_an_absolute_entry_of_the_work_directory_is_refused(flow: Flow) -> None:
    requirements = {
        "DockerRequirement": {"dockerPull": "busybox"},
        "InitialWorkDirRequirement": {"listing": [{"entryname": "/etc/x.conf", "entry": "x"}]},
    }
    assert flow.document(sh("true", requirements=requirements)) != 0
    assert "InitialWorkDirRequirement: '/etc/x.conf' is an absolute path" in flow.log
    assert flow.steps == []


def test_directories_and_secondary_files_come_out(flow: Flow) -> None:
    document = sh(
        "mkdir -p made/deep; echo 1 > made/a; echo 2 > made/deep/b; echo x > x.bam; echo i > x.bam.bai",
        outputs={
            "made": {"type": "Directory", "outputBinding": {"glob": "made"}},
            "bam": {"type": "File", "secondaryFiles": [".bai"], "outputBinding": {"glob": "x.bam"}},
        },
    )
    assert flow.document(document) == 0, flow.log
    assert flow.outputs["made"]["location"] == "results/made"
    assert (flow.work / "results/made/deep/b").read_text() == "2\n"
    assert [file["location"] for file in flow.outputs["bam"]["secondaryFiles"]] == ["results/x.bam.bai"]


def test_an_output_that_is_an_input_is_copied(flow: Flow) -> None:
    flow.write("x.txt", "x")
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {"file": "File"},
        "outputs": {"same": {"type": "File", "outputSource": "file"}},
        "steps": {},
    }
    assert flow.document(document, {"file": {"class": "File", "path": "x.txt"}}) == 0, flow.log
    assert flow.text("same") == "x"
    assert (flow.work / "x.txt").read_text() == "x"


def test_a_failing_tool_is_explained(flow: Flow) -> None:
    assert flow.document(sh("echo because >&2; exit 4", **STDOUT)) == 1
    assert "TES task task-0 of main.cwl ended in EXECUTOR_ERROR, exit code 4." in flow.log
    assert "Its stderr:\nbecause\n" in flow.log
    assert "Traceback" not in flow.log


def test_a_missing_output_is_explained(flow: Flow) -> None:
    output = {"type": "File", "outputBinding": {"glob": "nothing.txt"}}
    assert flow.document(sh("true", outputs={"out": output})) == 1
    assert "Did not find output file with glob pattern" in flow.log
    assert "Traceback" not in flow.log


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (sh("true", inputs={"n": "int"}), "Missing required input parameter"),
        ({"cwlVersion": "v1.2", "class": "Nonsense"}, "Nonsense"),
        (sh("true", cwlVersion="v9"), "v1.2.0-dev5"),
        (sh("true", requirements={"DockerRequirement": {"dockerFile": "FROM x"}}), "dockerFile"),
        (tool([]), "empty command line"),
    ],
)
def test_what_cannot_run_is_said_without_a_traceback(flow: Flow, document: dict[str, Any], said: str) -> None:
    assert flow.document(document) != 0
    assert said in flow.log
    assert "Traceback" not in flow.log
    assert flow.steps == []


def test_a_workflow_that_was_not_attached_is_named_with_what_was(flow: Flow) -> None:
    flow.write("input.txt", "")
    assert flow.run("nonexistent.cwl") == 1
    assert "workflow_url 'nonexistent.cwl' is none of the attached files: input.txt" in flow.log


def test_a_tool_without_an_image_needs_the_default_one(flow: Flow) -> None:
    flow.options = []
    assert flow.document(sh("true")) != 0
    assert "no default image (engine.default_image)" in flow.log


def test_a_remote_input_is_fetched_by_a_task(flow: Flow) -> None:
    job = {"file": {"class": "File", "location": "https://data.example.org/a%20b.txt?key=secret"}}
    assert flow.document(tool(["cat"], inputs={"file": NAMED}, **STDOUT), job) == 1
    task = flow.tes.documents[0]
    assert task["name"] == "fetch inputs"
    assert task["inputs"][1:] == [
        {"url": "https://data.example.org/a%20b.txt?key=secret", "path": "/weft-fetched/0/a b.txt"}
    ]
    assert "Fetching failed: TES task task-0 ended in EXECUTOR_ERROR" in flow.log
    assert "secret" not in flow.log


def test_a_failed_step_stops_the_workflow_or_not(flow: Flow) -> None:
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "outputs": {"good": {"type": "File", "outputSource": "good/out"}},
        "steps": {
            "bad": {"run": sh("exit 1"), "in": {}, "out": []},
            "good": {"run": sh("echo good", **STDOUT), "in": {}, "out": ["out"]},
        },
    }
    assert flow.document(workflow, **{"on-error": "continue"}) == 1
    assert flow.text("good") == "good\n"


def test_a_target_runs_alone(flow: Flow) -> None:
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "outputs": {name: {"type": "File", "outputSource": f"{name}/out"} for name in ("a", "b")},
        "steps": {name: {"run": sh(f"echo {name}", **STDOUT), "in": {}, "out": ["out"]} for name in ("a", "b")},
    }
    assert flow.document(workflow, target="b") == 0, flow.log
    assert (list(flow.outputs), len(flow.steps)) == (["b"], 1)


def test_sigterm_cancels_all_live_tasks(flow: Flow) -> None:
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "outputs": {},
        "steps": {name: {"run": sh("sleep 60"), "in": {}, "out": []} for name in ("a", "b")},
    }
    flow.write("main.cwl", json.dumps(workflow))
    process = flow.start("main.cwl", {}, {})
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING", "RUNNING"])
    process.send_signal(signal.SIGTERM)
    assert flow.end(process) == 143, flow.log
    assert flow.tes.states() == ["CANCELED", "CANCELED"]
    assert flow.outputs == {}


def test_a_task_over_its_time_limit_is_ended(flow: Flow) -> None:
    document = sh("sleep 60", requirements={"ToolTimeLimit": {"timelimit": 1}})
    assert flow.document(document) == 1
    assert "is over its time limit of 1 seconds" in flow.log
    assert flow.tes.states() == ["CANCELED"]


def test_an_executor_that_knows_time_limits_and_networks_is_told(flow: Flow) -> None:
    flow.options += ["--time-limit-parameter", "time_limit", "--network-parameter", "network"]
    requirements = {"ToolTimeLimit": {"timelimit": 9}, "NetworkAccess": {"networkAccess": True}}
    assert flow.document(sh("true", requirements=requirements)) == 0, flow.log
    assert flow.tes.documents[0]["resources"]["backend_parameters"] == {"time_limit": "9", "network": "true"}


def test_harmless_parameters_are_taken_and_said_to_have_no_effect(flow: Flow) -> None:
    parameters = {"--outdir": "/tmp/x", "--quiet": None, "--logLevel": "INFO"}
    assert flow.document(sh("true"), **parameters) == 0, flow.log
    assert "engine parameter outdir has no effect" in flow.log
    assert "INFO" not in flow.log


def test_nothing_but_the_results_is_left(flow: Flow) -> None:
    assert flow.document(sh("echo x > scratch; echo y", **STDOUT)) == 0, flow.log
    assert sorted(path.name for path in flow.work.rglob("*")) == ["main.cwl", "out.txt", "results"]


def test_the_program_can_be_primed_and_then_runs() -> None:
    code = f"import {CHILD} as child, threading; child.prime(); assert threading.active_count() == 1"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": PACKAGES}, check=True, timeout=SECONDS)
