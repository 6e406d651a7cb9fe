"""Real Snakemake workflows, run by the engine's program, with a TES that runs each task's command here."""

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
from wes_service.engines.snakemake import CHILD

SECONDS = 60


@dataclass
class Flow:
    """A run's folder, and the program that runs it."""

    work: Path
    tes: FakeTes
    options: list[str] = field(default_factory=lambda: ["--default-image", "busybox", "--weft-image", "host"])
    log: str = ""

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.work / name).read_text()

    def start(self, snakefile: str | None = None, url: str = "Snakefile", **request: Any) -> subprocess.Popen[str]:
        if snakefile is not None:
            self.write("Snakefile", snakefile)
        self.write(".weft/request.json", json.dumps({"workflow_url": url, **request}))
        self.write("../token", self.tes.token)
        given = {
            "--request": ".weft/request.json",
            "--outcome": ".weft/outcome.json",
            "--tes": self.tes.url,
            "--token-file": "../token",
            "--run-id": "R1",
        }
        words = [word for pair in given.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, *words, *self.options],
            cwd=self.work,
            env={"PYTHONPATH": PACKAGES, "PATH": os.environ["PATH"], "HOME": str(self.work.parent), "LANG": "C.UTF-8"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        self.log = process.communicate(timeout=SECONDS)[1]
        return process.returncode

    def run(self, snakefile: str | None = None, parameters: dict[str, Any] | None = None, **request: Any) -> int:
        return self.end(self.start(snakefile, workflow_engine_parameters=parameters or {}, **request))

    @property
    def files(self) -> list[str]:
        found: list[str] = json.loads(self.read(".weft/outcome.json"))["files"]
        return found

    @property
    def names(self) -> list[str]:
        return [document["name"] for document in self.tes.documents]


@pytest.fixture
def flow() -> Iterator[Flow]:
    with tempfile.TemporaryDirectory(prefix="weft-run-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        with FakeTes(Path(folder) / "socket") as tes:
            yield Flow(work, tes)


def rule(name: str, *lines: str) -> str:
    return f"rule {name}:\n" + "".join(f"    {line}\n" for line in lines)


ONE = rule("one", "output: 'x'", "shell: 'echo made > {output}'")


def test_one_rule_is_one_task_and_its_output_is_the_outcome(flow: Flow) -> None:
    assert flow.run(ONE) == 0, flow.log
    assert (flow.read("x"), flow.files, flow.names) == ("made\n", ["x"], ["one"])
    assert "1 of 1 steps (100%) done" in flow.log


def test_jobs_that_can_run_at_once_do(flow: Flow) -> None:
    wait = "while [ ! -e a.here ] || [ ! -e b.here ]; do sleep 0.01; done"
    meet = f"shell: 'touch {{wildcards.s}}.here; {wait}; touch {{output}}'"
    first = rule("all", "input: 'a.txt', 'b.txt'") + rule("each", "output: '{s}.txt'", meet)
    assert flow.run(first, {"cores": "2"}) == 0, flow.log
    assert flow.files == ["a.txt", "b.txt"]
    assert sorted(flow.names) == ["each s=a", "each s=b"]


def test_jobs_limits_the_tasks_at_once(flow: Flow) -> None:
    first = rule("all", "input: expand('{n}.txt', n=range(4))") + rule(
        "each", "output: '{n}.txt'", "shell: 'touch {output}'"
    )
    assert flow.run(first, {"--jobs": "1", "cores": "8"}) == 0, flow.log
    assert (flow.tes.most_at_once, len(flow.names)) == (1, 4)


def test_a_graph_of_rules_runs_in_order(flow: Flow) -> None:
    flow.write("data/words.txt", "b\na\n")
    snakefile = (
        rule("report", "input: 'sorted.txt', 'count.txt'", "output: 'report.txt'", "shell: 'cat {input} > {output}'")
        + rule("sorted", "input: 'data/words.txt'", "output: 'sorted.txt'", "shell: 'sort {input} > {output}'")
        + rule("count", "input: 'sorted.txt'", "output: 'count.txt'", "shell: 'grep -c . {input} > {output}'")
    )
    assert flow.run(snakefile) == 0, flow.log
    assert (flow.read("report.txt"), flow.names) == ("a\nb\n2\n", ["sorted", "count", "report"])


def test_a_failing_rule_is_explained(flow: Flow) -> None:
    snakefile = rule("bad", "output: 'x'", "shell: 'touch {output}; echo because >&2; exit 3'")
    assert flow.run(snakefile) == 1
    assert "TES task task-0 of bad ended in EXECUTOR_ERROR, exit code 3." in flow.log
    assert "Its stderr:\nbecause\n" in flow.log
    assert "Error in rule bad:" in flow.log
    assert "tes_task: task-0" in flow.log
    assert "Traceback" not in flow.log
    assert not (flow.work / "x").exists()
    assert flow.files == []


def test_a_failing_pipe_fails_the_rule_as_under_bash(flow: Flow) -> None:
    assert flow.run(rule("bad", "output: 'x'", "shell: 'false | cat > {output}'")) == 1
    assert flow.run(rule("bad", "output: 'x'", "shell: 'echo $UNSET > {output}'")) == 1


def test_what_is_left_of_a_failed_run_is_the_files_of_its_targets(flow: Flow) -> None:
    snakefile = rule("all", "input: 'good', 'bad'") + rule("good", "output: 'good'", "shell: 'touch {output}'")
    snakefile += rule("bad", "output: 'bad'", "input: 'good'", "shell: 'exit 1'")
    assert flow.run(snakefile, {"keep-going": None}) == 1
    assert flow.files == ["good"]


def test_threads_resources_container_and_tags_reach_the_task(flow: Flow) -> None:
    flow.options += ["--time-limit-parameter", "time_limit"]
    snakefile = rule(
        "big",
        "output: 'x.{n}'",
        "threads: 3",
        "resources: mem_mb=1500, disk_mb=250, runtime=2",
        "container: 'docker://debian:stable-slim'",
        "shell: 'echo {threads} $OMP_NUM_THREADS > {output}'",
    )
    assert flow.run(snakefile, {"targets": "x.1", "cores": "4"}) == 0, flow.log
    (task,) = flow.tes.documents
    assert task["name"] == "big n=1"
    assert task["tags"] == {"run": "R1", "rule": "big", "wildcards.n": "1"}
    assert task["resources"] == {
        "cpu_cores": 3,
        "ram_gb": 1.5,
        "disk_gb": 0.25,
        "backend_parameters": {"time_limit": "120"},
    }
    assert task["inputs"] == [{"type": "DIRECTORY", "url": flow.work.as_uri(), "path": str(flow.work)}]
    (step,) = task["executors"]
    assert (step["image"], step["workdir"]) == ("debian:stable-slim", str(flow.work))
    assert flow.read("x.1") == "3 3\n"
    assert "Singularity" not in flow.log
    assert "localrule" not in flow.log


def test_threads_are_scaled_down_to_the_cores(flow: Flow) -> None:
    assert flow.run(rule("big", "output: 'x'", "threads: 8", "shell: 'echo {threads} > {output}'"), {"cores": "2"}) == 0
    assert (flow.read("x"), flow.tes.documents[0]["resources"]["cpu_cores"]) == ("2\n", 2)


def test_a_rule_without_container_gets_the_default_image_and_without_that_a_clear_refusal(flow: Flow) -> None:
    assert flow.run(ONE) == 0
    assert flow.tes.documents[0]["executors"][0]["image"] == "busybox"
    flow.options = []
    assert flow.run(ONE, {"forceall": "true"}) == 1
    assert "rule one names no container" in flow.log
    assert "engine.default_image" in flow.log
    assert len(flow.names) == 1


def test_only_docker_images_can_be_containers(flow: Flow) -> None:
    assert flow.run(rule("one", "output: 'x'", "container: 'shub://a/b'", "shell: 'touch {output}'")) == 1
    assert "only docker:// images can be run" in flow.log


def test_local_rules_with_a_command_are_tasks_too(flow: Flow) -> None:
    assert flow.run("localrules: one\n" + ONE) == 0, flow.log
    assert flow.names == ["one"]


def test_a_run_directive_runs_in_a_task_with_snakemake(flow: Flow) -> None:
    lines = ("run:", "    import os", "    open(output[0], 'w').write(f'{params.p} {config[\"c\"]} {os.getppid()}')")
    snakefile = rule("code", "output: 'x'", "params: p='it''s'", *lines)
    assert flow.run(snakefile, workflow_params={"c": {"deep": ["1", 2, True, None]}}) == 0, flow.log
    assert flow.names == ["code"]
    assert flow.tes.documents[0]["executors"][0]["image"] == "host"
    assert flow.read("x").startswith("its {'deep': ['1', 2, True, None]}")


def test_a_script_directive_runs_in_a_task_with_snakemake(flow: Flow) -> None:
    flow.write("scripts/count.py", "open(snakemake.output[0], 'w').write(str(len(open(snakemake.input[0]).read())))\n")
    flow.write("in.txt", "12345")
    assert flow.run(rule("code", "input: 'in.txt'", "output: 'x'", "script: 'scripts/count.py'")) == 0, flow.log
    assert (flow.read("x"), flow.names) == ("5", ["code"])


def test_a_failing_run_directive_is_explained(flow: Flow) -> None:
    snakefile = rule("code", "output: 'x'", "run:", "    raise ValueError('my own mistake')")
    assert flow.run(snakefile) == 1
    assert "my own mistake" in flow.log
    assert "TES task task-0 of code" in flow.log


def test_a_run_directive_without_an_image_for_it_is_refused(flow: Flow) -> None:
    flow.options = ["--default-image", "busybox"]
    assert flow.run(rule("code", "output: 'x'", "run:", "    open(output[0], 'w')")) == 1
    assert "engine.weft_image" in flow.log


def test_temporary_files_go_and_directories_stay(flow: Flow) -> None:
    snakefile = (
        rule(
            "last",
            "input: 'folder', 'scratch'",
            "output: directory('all')",
            "shell: 'cp -r folder all; cp scratch all'",
        )
        + rule("folder", "output: directory('folder')", "shell: 'mkdir {output}; echo a > {output}/a'")
        + rule("scratch", "output: temp('scratch')", "shell: 'echo b > {output}'")
    )
    assert flow.run(snakefile) == 0, flow.log
    assert not (flow.work / "scratch").exists()
    assert flow.files == ["all/a", "all/scratch"]


def test_protected_output_is_read_only(flow: Flow) -> None:
    assert flow.run(rule("keep", "output: protected('x')", "shell: 'touch {output}'")) == 0, flow.log
    assert (flow.work / "x").stat().st_mode & 0o222 == 0


def test_folders_of_outputs_and_logs_are_made_before_the_task(flow: Flow) -> None:
    snakefile = rule("one", "output: 'a/b/x'", "log: 'logs/deep/one.log'", "shell: 'echo told > {log}; touch {output}'")
    assert flow.run(snakefile) == 0, flow.log
    assert flow.read("logs/deep/one.log") == "told\n"


def test_a_benchmark_has_a_row_for_each_repeat(flow: Flow) -> None:
    snakefile = rule(
        "one", "output: 'x'", "benchmark: repeat('bench/one.tsv', 2)", "shell: 'echo >> count; touch {output}'"
    )
    assert flow.run(snakefile) == 0, flow.log
    assert (len(flow.read("bench/one.tsv").splitlines()), flow.read("count")) == (3, "\n\n")


def test_a_shadow_rule_works_in_its_shadow(flow: Flow) -> None:
    snakefile = rule("one", "output: 'x'", "shadow: 'minimal'", "shell: 'touch garbage {output}'")
    assert flow.run(snakefile) == 0, flow.log
    assert (flow.work / "x").exists()
    assert not (flow.work / "garbage").exists()


def test_a_checkpoint_decides_what_follows(flow: Flow) -> None:
    snakefile = (
        "def found(wildcards):\n"
        "    folder = checkpoints.split.get().output[0]\n"
        "    return expand('done/{n}', n=glob_wildcards(folder + '/{n}.part').n)\n"
        + rule("all", "input: found")
        + rule("split", "output: directory('parts')", "shell: 'mkdir parts; touch parts/1.part parts/2.part'").replace(
            "rule", "checkpoint", 1
        )
        + rule("part", "input: 'parts/{n}.part'", "output: 'done/{n}'", "shell: 'touch {output}'")
    )
    assert flow.run(snakefile) == 0, flow.log
    assert flow.files == ["done/1", "done/2"]


def test_a_pipe_between_two_rules_is_one_task(flow: Flow) -> None:
    snakefile = rule("read", "input: 'p'", "output: 'x'", "shell: 'cat {input} > {output}'")
    snakefile += rule("write", "output: pipe('p')", "shell: 'echo through > {output}'")
    assert flow.run(snakefile, {"cores": "2"}) == 0, flow.log
    assert (flow.read("x"), len(flow.names)) == ("through\n", 1)


def test_the_workdir_directive_is_followed(flow: Flow) -> None:
    assert flow.run("workdir: 'below'\n" + ONE) == 0, flow.log
    assert (flow.read("below/x"), flow.files) == ("made\n", ["below/x"])


def test_what_the_workflow_sets_in_its_environment_reaches_its_tasks(flow: Flow) -> None:
    snakefile = "import os\nos.environ['MINE'] = 'here'\n" + rule(
        "one", "output: 'x'", "shell: 'echo $MINE > {output}'"
    )
    assert flow.run(snakefile) == 0, flow.log
    assert flow.read("x") == "here\n"
    assert "PYTHONPATH" not in flow.tes.documents[0]["executors"][0]["env"]


def test_a_very_long_command_goes_through_a_file(flow: Flow) -> None:
    snakefile = "text = 'y' * 150_000\n" + rule("one", "output: 'x'", "shell: 'printf %s {text} > {output}'")
    assert flow.run(snakefile) == 0, flow.log
    assert len(flow.read("x")) == 150_000


def test_parameters_of_the_run_are_the_config_and_the_engine_parameter_config_wins(flow: Flow) -> None:
    snakefile = rule("one", "output: 'x'", "params: a=config['a'], b=config['b']", "shell: 'echo {params} > {output}'")
    assert flow.run(snakefile, {"--config": "b=3"}, workflow_params={"a": "1 1", "b": 2}) == 0, flow.log
    assert flow.read("x") == "1 1 3\n"


def test_a_config_file_that_is_attached_is_found(flow: Flow) -> None:
    flow.write("config/config.yaml", "a: 1\nb: 2\n")
    snakefile = "configfile: 'config/config.yaml'\n" + rule(
        "one", "output: 'x'", "params: a=config['a'], b=config['b']", "shell: 'echo {params} > {output}'"
    )
    flow.write("workflow/Snakefile", snakefile)
    assert flow.run(url="workflow/Snakefile", workflow_params={"b": 3}) == 0, flow.log
    assert flow.read("x") == "1 3\n"


def test_targets_choose_what_is_made(flow: Flow) -> None:
    first = (
        ONE + rule("two", "output: 'y'", "shell: 'touch {output}'") + rule("three", "output: 'z'", "shell: 'touch z'")
    )
    assert flow.run(first, {"targets": '["two", "z"]'}) == 0, flow.log
    assert flow.files == ["y", "z"]


def test_a_dry_run_starts_no_task(flow: Flow) -> None:
    assert flow.run(ONE, {"--dry-run": None}) == 0, flow.log
    assert (flow.names, flow.files) == ([], [])
    assert "This was a dry-run" in flow.log


def test_a_retry_is_a_new_task(flow: Flow) -> None:
    snakefile = rule("one", "output: 'x'", "shell: '[ -e tried ] || {{ touch tried; exit 1; }}; touch {output}'")
    assert flow.run(snakefile, {"retries": "1"}) == 0, flow.log
    assert flow.tes.states() == ["EXECUTOR_ERROR", "COMPLETE"]


def test_what_is_done_is_not_done_again(flow: Flow) -> None:
    assert flow.run(ONE) == 0
    assert flow.run(ONE) == 0
    assert len(flow.names) == 1
    assert flow.files == ["x"]
    assert flow.run(ONE, {"-F": None}) == 0
    assert len(flow.names) == 2


@pytest.mark.parametrize("url", ["./Snakefile", "Snakefile#main"])
def test_other_spellings_of_the_workflow_are_found(flow: Flow, url: str) -> None:
    assert flow.run(ONE, url=url) == 0, flow.log


@pytest.mark.parametrize("url", ["Snakfile", "../Snakefile", "/etc/passwd", "https://example.org/Snakefile"])
def test_a_workflow_that_was_not_attached_is_said_with_what_was(flow: Flow, url: str) -> None:
    flow.write("data/in.txt", "")
    flow.write("../Snakefile", ONE)
    assert flow.run(ONE, url=url) == 1
    assert flow.log.startswith(f"workflow_url {url!r} is none of the attached files: Snakefile, data/in.txt")
    assert "Traceback" not in flow.log
    assert flow.files == []


def test_a_syntax_error_is_shown_with_its_line(flow: Flow) -> None:
    assert flow.run("rule one:\n    output 'x'\n") == 1
    assert "SyntaxError" in flow.log
    assert "line 2" in flow.log
    assert "snakemake_child.py" not in flow.log


def test_an_engine_parameter_that_is_not_allowed_is_said(flow: Flow) -> None:
    assert flow.run(ONE, {"--executor": "local"}) == 1
    assert "unknown engine parameter '--executor'" in flow.log


def test_sigterm_cancels_all_live_tasks(flow: Flow) -> None:
    first = rule("all", "input: 'a', 'b'") + rule("each", "output: '{s}'", "shell: 'sleep 600; touch {output}'")
    process = flow.start(first, workflow_engine_parameters={"cores": "2"})
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING", "RUNNING"])
    process.send_signal(signal.SIGTERM)
    assert flow.end(process) == 143, flow.log
    assert flow.tes.states() == ["CANCELED", "CANCELED"]
    assert "Traceback" not in flow.log


def test_a_killed_engine_is_followed_by_one_that_goes_on(flow: Flow) -> None:
    script = "shell: 'echo > {output}; while [ ! -e go ]; do sleep 0.02; done; echo whole > {output}'"
    process = flow.start(rule("one", "output: 'x'", script))
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING"])
    process.kill()
    flow.end(process)
    flow.tes.cancel("task-0")
    flow.write("go", "")
    assert flow.run() == 0, flow.log
    assert flow.read("x") == "whole\n"


def test_a_server_that_is_away_for_a_moment_is_waited_for(flow: Flow) -> None:
    flow.tes.failures += [503, 500]
    assert flow.run(ONE) == 0, flow.log
    assert "Waiting for TES: TES answers 503: not now" in flow.log
    assert flow.names == ["one"]


def test_a_task_that_the_server_refuses_fails_the_job_in_its_words(flow: Flow) -> None:
    flow.tes.failures += [403]
    assert flow.run(ONE) == 1
    assert "could not be sent to TES: not now" in flow.log


def test_a_wrong_token_is_an_error_and_not_a_hang(flow: Flow) -> None:
    flow.tes.token, token = "other", flow.tes.token
    process = flow.start(ONE)
    flow.tes.token = token + "x"
    assert flow.end(process) == 1
    assert "who are you?" in flow.log


def test_few_requests_are_made_however_long_a_task_takes(flow: Flow) -> None:
    process = flow.start(rule("one", "output: 'x'", "shell: 'while [ ! -e go ]; do sleep 0.02; done; touch {output}'"))
    flow.tes.wait_for(lambda: flow.tes.states() == ["RUNNING"])
    with pytest.raises(AssertionError):
        flow.tes.wait_for(lambda: flow.tes.states() == ["COMPLETE"], seconds=2)
    flow.write("go", "")
    assert flow.end(process) == 0
    assert len(flow.tes.requests) < 60
