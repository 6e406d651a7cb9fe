"""What the engine takes, the command that it gives, and the outcome that it believes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.fake_tes import FakeTes
from weft.config import Settings
from weft.errors import InvalidRequest
from weft.model import Run
from weft.ports import Capabilities
from weft.sections.backends import EngineSettings
from wes_service.engines.program import explain
from wes_service.engines.snakemake import CHILD, SnakemakeEngine, create
from wes_service.engines.snakemake_job import LAUNCHER
from wes_service.engines.snakemake_parameters import ALLOWED, read_parameters
from wes_service.engines.task_watch import TaskWatch
from wes_service.engines.tes_client import TesClient, TesRefused, TesUnavailable

RUN = Run(
    workflow_type="SMK",
    workflow_type_version="1.0",
    workflow_url="Snakefile",
    workflow_engine="snakemake",
    workflow_engine_version="9",
)
ENGINE = SnakemakeEngine(version="9.27.1")


def option(command: tuple[str, ...], name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"cores": "2"}, {"cores": 2}),
        ({"--cores": "all"}, {"cores": None}),
        ({"-j": "3"}, {"jobs": 3}),
        ({"--forceall": None}, {"forceall": True}),
        ({"keep_going": ""}, {"keep-going": True}),
        ({"keep-going": "false"}, {"keep-going": False}),
        ({"targets": "a b"}, {"targets": ["a", "b"]}),
        ({"until": '["a b"]'}, {"until": ["a b"]}),
        ({"config": "a=1 b=x"}, {"config": {"a": 1, "b": "x"}}),
        ({"config": '{"a": {"b": [1]}}'}, {"config": {"a": {"b": [1]}}}),
        ({"default-resources": "mem_mb=100"}, {"default-resources": {"mem_mb": 100}}),
        ({"set-resources": "a:mem_mb=1 a:disk_mb=2"}, {"set-resources": {"a": {"mem_mb": 1, "disk_mb": 2}}}),
        ({"set-threads": "a=2"}, {"set-threads": {"a": 2}}),
        ({"--use-conda": ""}, {"use-conda": True}),
    ],
)
def test_an_engine_parameter_is_read(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert read_parameters(given) == read


@pytest.mark.parametrize("name", ["--executor", "snakefile", "directory", "max-memory", "profile", "-s", "envvars", ""])
def test_an_unknown_engine_parameter_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENGINE.validate(replace(RUN, workflow_engine_parameters={name: "x"}))
    assert caught.value.field == f"workflow_engine_parameters.{name}"
    assert all(known in str(caught.value.remedy) for known in ALLOWED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cores", "0"),
        ("cores", "many"),
        ("jobs", ""),
        ("forceall", "perhaps"),
        ("targets", ""),
        ("targets", "[1]"),
        ("config", "a"),
        ("config", "{"),
        ("retries", "-1"),
        ("rerun-triggers", "moon"),
        ("set-threads", "a=0"),
        ("set-resources", "a=1"),
        ("configfiles", "/etc/passwd"),
        ("configfiles", "../secret.yaml"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_its_field(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENGINE.validate(replace(RUN, workflow_engine_parameters={name: value}))
    assert caught.value.field == f"workflow_engine_parameters.{name}"


def test_the_engine_says_what_it_is() -> None:
    info = ENGINE.info
    assert (info.name, info.version) == ("snakemake", "9.27.1")
    assert info.workflow_types == {"SMK": ("1.0", "9", "9.27", "9.27.1")}
    assert info.aliases["snakemake"] == "SMK"
    assert {"cores", "retries"} <= {parameter.name for parameter in info.parameters}


def test_the_parent_does_not_import_snakemake() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import wes_service.engines.snakemake as engine;"
        "from weft.config import Settings; engine.create(Settings()); assert 'snakemake' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parents[2])], check=True)


def test_the_command_holds_neither_parameters_nor_token(tmp_path: Path) -> None:
    run = replace(RUN, workflow_params={"password": "hush"}, workflow_engine_parameters={"cores": "2"})
    work = tmp_path / "jobs/ID/work"
    outcome = work / ".weft/outcome.json"
    outcome.parent.mkdir(parents=True)
    step = ENGINE.step(run, work, outcome, "unix:///s", tmp_path / "token")
    assert step.command[:3] == (sys.executable, "-m", CHILD)
    assert step.workdir == str(work)
    assert option(step.command, "--run-id") == "ID"
    assert option(step.command, "--tes") == "unix:///s"
    assert "hush" not in " ".join(step.command)
    request = json.loads(Path(str(option(step.command, "--request"))).read_bytes())
    assert request["workflow_params"] == {"password": "hush"}


@pytest.mark.parametrize(
    ("capabilities", "settings", "images"),
    [
        (None, EngineSettings(), (None, None)),
        (None, EngineSettings(default_image="a", weft_image="b"), ("a", "b")),
        (Capabilities(name="p", uses_image=False), EngineSettings(), ("host", "host")),
    ],
)
def test_images_come_from_the_settings_unless_none_are_used(
    tmp_path: Path, capabilities: Capabilities | None, settings: EngineSettings, images: tuple[str | None, str | None]
) -> None:
    step = create(Settings(engine=settings), capabilities).step(RUN, tmp_path, tmp_path / "o", "unix:///s", tmp_path)
    assert (option(step.command, "--default-image"), option(step.command, "--weft-image")) == images


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ('{"files": ["a", "b/c"]}', ["a", "b/c"]),
        ('{"files": ["/etc/passwd", "../x", "a/../../x", "", 1, null, "a\\u0000b", "ok"]}', ["ok"]),
        ('{"files": {"a": 1}}', []),
        ("[]", []),
        ("{", []),
        (None, []),
    ],
)
def test_an_outcome_is_not_trusted(tmp_path: Path, text: str | None, files: list[str]) -> None:
    outcome = tmp_path / "outcome.json"
    if text is not None:
        outcome.write_text(text)
    assert ENGINE.outputs(outcome) == {"files": files}


def test_an_outcome_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"files": ["a"]}')
    (tmp_path / "outcome.json").symlink_to(tmp_path / "secret")
    assert ENGINE.outputs(tmp_path / "outcome.json") == {"files": []}


# -- the launcher of shell rules -------------------------------------------------------------------------------------


def launch(path: str, command: str, shell: str = "/usr/bin/bash", own_prefix: str = "") -> tuple[int, str]:
    prefix = own_prefix or "set -euo pipefail; "
    done = subprocess.run(
        ["/bin/sh", "-c", LAUNCHER, "sh", shell, prefix, command, own_prefix],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def without_bash(tmp_path: Path) -> str:
    (tmp_path / "sh").symlink_to("/bin/dash")
    (tmp_path / "false").symlink_to("/bin/false")
    return str(tmp_path)


def test_the_shell_is_bash_where_there_is_one() -> None:
    assert launch("/usr/bin:/bin", 'echo "${BASH_VERSION:+bash}"') == (0, "bash\n")
    assert launch("/usr/bin:/bin", "false | true; echo on") == (1, "")


def test_the_shell_is_sh_where_there_is_no_bash(without_bash: str) -> None:
    code, said = launch(without_bash, 'echo "${BASH_VERSION:+bash}."', shell="/nowhere/bash")
    assert (code, said) == (0, ".\n")
    assert launch(without_bash, "false; echo on", shell="/nowhere/bash") == (1, "")
    assert launch(without_bash, "echo $UNSET", shell="/nowhere/bash")[0] != 0


def test_the_workflows_own_prefix_is_kept(without_bash: str) -> None:
    assert launch(without_bash, "echo $A", shell="/nowhere/bash", own_prefix="A=1; ") == (0, "1\n")
    assert launch("/usr/bin:/bin", "echo $A", own_prefix="A=1; ") == (0, "1\n")


def test_another_shell_that_is_missing_is_said(without_bash: str) -> None:
    assert launch(without_bash, "x", shell="/bin/nosuchsh") == (
        127,
        "the shell /bin/nosuchsh is not in this container\n",
    )


# -- telling and waiting ---------------------------------------------------------------------------------------------


def test_a_failure_without_an_exit_code_shows_the_system_log() -> None:
    logs = [{"logs": [], "system_logs": ["image nosuch: not found"]}]
    assert explain("TES task t of r ended in SYSTEM_ERROR", logs) == (
        "TES task t of r ended in SYSTEM_ERROR.\nimage nosuch: not found"
    )


class Listing:
    """A server with many tasks, of which old ones may still run."""

    def __init__(self, states: dict[str, str]) -> None:
        self.states = states
        self.asked: list[str] = []

    def get(self, task_id: str, *, view: str = "FULL") -> dict[str, object]:
        self.asked.append(task_id)
        return {"id": task_id, "state": self.states[task_id]}

    def list(
        self, *, tags: object, state: str | None = None, page_size: int = 256, page_token: str | None = None
    ) -> tuple[list[dict[str, object]], str | None]:
        self.asked.append(f"page {page_token}")
        start = int(page_token or 0)
        tasks: list[dict[str, object]] = [{"id": name, "state": state} for name, state in self.states.items()]
        return tasks[start : start + page_size], str(start + page_size) if start + page_size < len(tasks) else None

    def cancel(self, task_id: str) -> None:
        self.asked.append(f"cancel {task_id}")


def test_an_old_task_among_many_is_asked_for_by_itself() -> None:
    listing = Listing({**{f"new{number}": "COMPLETE" for number in range(100)}, "old": "COMPLETE"})
    ended: list[tuple[str, str]] = []
    watch = TaskWatch(listing, {}, lambda _: None)
    watch.add("old", lambda task, state: (ended.append((task, state)), watch.stop())[0])
    assert watch._thread is not None
    watch._thread.join(10)
    assert ended == [("old", "COMPLETE")]
    assert listing.asked == ["page None", "page 18", "old"]


def test_what_a_callback_raises_is_not_lost() -> None:
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        watch.stop()

    def ended(task: str, state: str) -> None:
        raise ValueError(task)

    watch = TaskWatch(Listing({"a": "COMPLETE"}), {}, failed)
    watch.add("a", ended)
    assert watch._thread is not None
    watch._thread.join(10)
    assert [str(error) for error in failures] == ["a"]


def test_the_client_tells_what_can_be_tried_again_from_what_cannot(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    with pytest.raises(TesUnavailable):
        TesClient(f"unix://{socket}", "secret").get("x")
    with FakeTes(socket) as fake:
        client = TesClient(fake.url, "secret")
        with pytest.raises(TesRefused, match="no such task"):
            client.get("x")
        client.close()
        with (
            contextlib.closing(TesClient(fake.url, "wrong")) as stranger,
            pytest.raises(TesRefused, match="who are you"),
        ):
            stranger.get("x")
        fake.failures.append(429)
        task = {"executors": [{"image": "i", "command": ["true"]}], "tags": {"a": "b"}}
        with pytest.raises(TesUnavailable, match="429: not now"):
            client.create(task, key="k")
        assert client.create(task, key="k") == client.create(task, key="k")
        assert [found["id"] for found in client.list(tags={"a": "b"})[0]] == ["task-0"]
        assert client.list(tags={"a": "c"}) == ((), None) or client.list(tags={"a": "c"})[0] == []
        client.cancel("task-0")
        client.close()


def test_the_client_finds_a_socket_whose_path_is_longer_than_an_address(tmp_path: Path) -> None:
    short, long = tmp_path / "s", tmp_path / ("x" * 120)
    long.mkdir()
    with FakeTes(short) as fake:
        (long / "s").symlink_to(short)
        with contextlib.closing(TesClient(f"unix://{long / 's'}", fake.token)) as client, pytest.raises(TesRefused):
            client.get("x")
