"""The commands as a person types them, with TES and WES replaced by dictionaries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from weft.client import tables
from weft.client.connection import Connection
from weft.client.errors import BadRequest, Missing
from weft.commands.run import run
from weft.commands.task import task


@dataclass
class FakeApi:
    """Stands where ``Connection.json`` goes out; remembers what was sent."""

    answers: dict[str, Any] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)

    def json(self, connection: Connection, method: str, path: str, **options: Any) -> dict[str, Any]:
        self.sent.append((f"{method} {path}", options))
        self.servers.append(connection.base)
        answer = self.answers.get(f"{method} {path}", Missing())
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    @property
    def body(self) -> dict[str, Any]:
        return dict(self.sent[-1][1]["json"])


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi({"POST /tasks": {"id": "t1"}, "POST /runs": {"run_id": "r1"}, "GET /service-info": {}})
    monkeypatch.setattr(Connection, "json", _bound(fake))
    for name in ("WEFT_SERVER", "WEFT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return fake


def _bound(fake: FakeApi) -> Any:
    return lambda connection, method, path, **options: fake.json(connection, method, path, **options)


def call(group: Any, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(group, list(arguments), input=stdin)


def test_the_quick_form_makes_a_task_of_its_options(api: FakeApi) -> None:
    result = call(
        task, "submit", "--image", "alpine", "--cpu", "2", "--env", "A=b=c", "--tag", "k=v", "--input", "/in=file:///x",
        "--", "echo", "--hi",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, "t1\n")
    assert api.body == {
        "name": "echo",
        "executors": [{"image": "alpine", "command": ["echo", "--hi"], "env": {"A": "b=c"}}],
        "inputs": [{"path": "/in", "url": "file:///x"}],
        "tags": {"k": "v"},
        "resources": {"cpu_cores": 2},
    }


@pytest.mark.parametrize("text", ['{"executors": [], "name": "n"}', "name: n\nexecutors: []\n"])
def test_a_task_is_read_as_json_or_yaml_from_a_file_or_stdin(api: FakeApi, text: str, tmp_path: Path) -> None:
    (tmp_path / "task").write_text(text)
    for result in (call(task, "submit", str(tmp_path / "task")), call(task, "submit", "-", stdin=text)):
        assert result.exit_code == 0, result.output
        assert api.body == {"executors": [], "name": "n"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit",), "give one FILE"),
        (("submit", "a", "b"), "give one FILE"),
        (("submit", "--image", "x"), "no command"),
        (("submit", "not-there.json"), "cannot read not-there.json"),
        (("submit", "--env", "A=1", "x.json"), "quick form"),
        (("submit", "--image", "x", "--tag", "novalue", "--", "true"), "not KEY=VALUE"),
        (("list", "--state", "HAPPY"), "HAPPY"),
        (("list", "--server", "localhost:1"), "not a server's address"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_why(api: FakeApi, arguments: tuple[str, ...], words: str) -> None:
    result = call(task, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_refusal_is_shown_with_field_and_remedy(api: FakeApi) -> None:
    api.answers["POST /tasks"] = BadRequest("too much", field="resources.cpu_cores", remedy="ask for 2")
    result = call(task, "submit", "--image", "x", "--", "true")
    assert result.exit_code == 2
    assert result.stderr == "error: too much\n  field:  resources.cpu_cores\n  remedy: ask for 2\n"


@pytest.mark.parametrize(
    ("state", "code"), [("COMPLETE", 0), ("EXECUTOR_ERROR", 1), ("SYSTEM_ERROR", 3), ("CANCELED", 4)]
)
def test_the_exit_code_says_how_the_job_ended(api: FakeApi, state: str, code: int) -> None:
    api.answers["GET /tasks/t1"] = {"id": "t1", "state": state}
    api.answers["GET /runs/r1/status"] = {"run_id": "r1", "state": state}
    api.answers["GET /runs/r1"] = {"run_id": "r1", "state": state}
    for group, *arguments in (
        (task, "wait", "t1"),
        (task, "submit", "--wait", "--image", "x", "--", "true"),
        (task, "submit", "--follow", "--image", "x", "--", "true"),
        (task, "logs", "--follow", "t1"),
        (run, "wait", "r1"),
        (run, "logs", "--follow", "r1"),
    ):
        assert call(group, *arguments).exit_code == code, arguments


def test_waiting_for_several_gives_the_code_of_the_first_that_failed(api: FakeApi) -> None:
    for number, state in enumerate(("COMPLETE", "CANCELED", "EXECUTOR_ERROR")):
        api.answers[f"GET /tasks/t{number}"] = {"id": f"t{number}", "state": state}
    result = call(task, "wait", "t0", "t1", "t2", "--json")
    assert result.exit_code == 4
    assert [one["state"] for one in json.loads(result.stdout)] == ["COMPLETE", "CANCELED", "EXECUTOR_ERROR"]


def test_waiting_longer_than_the_timeout_is_exit_code_6(api: FakeApi) -> None:
    api.answers["GET /tasks/t1"] = {"id": "t1", "state": "RUNNING"}
    assert call(task, "wait", "t1", "--timeout", "0").exit_code == 6


def test_following_prints_each_piece_once_and_keeps_the_streams_apart(api: FakeApi) -> None:
    def step(out: str, err: str) -> dict[str, Any]:
        return {"logs": [{"stdout": out, "stderr": err}], "outputs": []}

    api.answers["GET /tasks/t1"] = [
        {"state": "RUNNING", "logs": [step("one\n", "")]},
        {"state": "RUNNING", "logs": [step("one\ntwo\n", "oh\n")]},
        {"state": "COMPLETE", "logs": [step("one\ntwo\n", "oh\n")]},
    ]
    result = call(task, "logs", "--follow", "t1")
    assert result.stdout == "one\ntwo\n"
    assert result.stderr == "oh\nt1  COMPLETE\n"


def test_json_is_the_servers_own(api: FakeApi) -> None:
    api.answers["GET /tasks/t1"] = {"id": "t1", "state": "RUNNING", "x": 1}
    api.answers["GET /tasks"] = {"tasks": [{"id": "t1"}]}
    assert json.loads(call(task, "get", "t1", "--json").stdout)["x"] == 1
    assert json.loads(call(task, "list", "--json").stdout) == [{"id": "t1"}]


def test_tables_are_whole_lines_when_nobody_looks(api: FakeApi) -> None:
    name = "n" * 150
    api.answers["GET /tasks"] = {
        "tasks": [
            {
                "id": "01m9",
                "state": "COMPLETE",
                "name": name,
                "creation_time": "2026-11-21T10:00:00Z",
                "logs": [{"start_time": "2026-11-21T10:00:00Z", "end_time": "2026-11-21T10:01:05.5Z"}],
            }
        ]
    }
    lines = call(task, "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATE", "NAME", "CREATED", "TOOK"]
    assert lines[1].startswith("01m9")
    assert name in lines[1]
    assert lines[1].rstrip().endswith("1 min 06 s")


def test_a_name_with_brackets_is_not_markup(api: FakeApi) -> None:
    api.answers["GET /tasks"] = {"tasks": [{"id": "a", "name": "[red]x[/nothing]"}]}
    assert "[red]x[/nothing]" in call(task, "list").stdout


def test_the_server_and_the_token_come_from_the_environment(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_SERVER", "http://elsewhere:1/ga4gh/tes/v1")
    api.answers["GET /tasks"] = {"tasks": []}
    assert call(task, "list").exit_code == 0
    assert api.servers == ["http://elsewhere:1/ga4gh/tes/v1"]
    assert "--token " not in call(task, "list", "--help").stdout


def test_a_whole_folder_travels_with_a_run_and_it_is_said(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("Snakefile", "data/a.fq", ".hidden"):
        (tmp_path / name).write_text(name)
    (tmp_path / "params.yaml").write_text("n: 1\nwhen: 2026-01-01\n")
    result = call(
        run, "submit", str(tmp_path), "--params", str(tmp_path / "params.yaml"), "--param", "m=[1, 2]",
        "--param", "word=x", "--tag", "a=b", "--engine-param", "cores=2", "--exclude", "params.yaml",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, "r1\n"), result.output
    assert "sending 2 files" in result.stderr
    parts = api.sent[-1][1]["files"]
    fields = {name: value[1] for name, value in parts if value[0] is None}
    assert fields["workflow_url"] == "Snakefile"
    assert (fields["workflow_type"], fields["workflow_type_version"]) == ("SMK", "9")
    assert json.loads(fields["workflow_params"]) == {"n": 1, "when": "2026-01-01", "m": [1, 2], "word": "x"}
    assert json.loads(fields["workflow_engine_parameters"]) == {"cores": "2"}
    assert json.loads(fields["tags"]) == {"a": "b"}
    assert [value[0] for name, value in parts if name == "workflow_attachment"] == ["Snakefile", "data/a.fq"]


def test_without_auto_attach_only_the_workflow_and_what_is_named_travel(api: FakeApi, tmp_path: Path) -> None:
    for name in ("Snakefile", "a", "b"):
        (tmp_path / name).write_text(name)
    call(run, "submit", str(tmp_path / "Snakefile"), "--no-auto-attach", "--attach", str(tmp_path / "a"))
    names = [value[0] for name, value in api.sent[-1][1]["files"] if name == "workflow_attachment"]
    assert names == ["Snakefile", "a"]


def test_a_url_is_sent_as_it_is(api: FakeApi) -> None:
    assert call(run, "submit", "https://host/Snakefile").exit_code == 0
    fields = {name: value[1] for name, value in api.sent[-1][1]["files"]}
    assert fields["workflow_url"] == "https://host/Snakefile"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.44, "0.4 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (7630, "2 h 07 min")]
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert tables.duration(seconds) == words


def test_details_of_a_task_show_every_step(api: FakeApi) -> None:
    api.answers["GET /tasks/t1"] = {
        "id": "t1",
        "state": "EXECUTOR_ERROR",
        "executors": [{"image": "i", "command": ["false", "[bold]"]}],
        "logs": [{"logs": [{"exit_code": 1}], "outputs": [], "system_logs": ["step 0 ended with exit code 1"]}],
    }
    text = call(task, "get", "t1").stdout
    assert "step 0  exit 1" in text
    assert "false [bold]" in text
    assert "system  step 0 ended with exit code 1" in text


def test_tables_have_colour_on_a_terminal() -> None:
    console = Console(force_terminal=True, width=80, color_system="standard", no_color=False, _environ={})
    with console.capture() as capture:
        console.print(tables.tasks_table([{"id": "a", "state": "COMPLETE"}]))
    assert "\x1b[32mCOMPLETE" in capture.get()
