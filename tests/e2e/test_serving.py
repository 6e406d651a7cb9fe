"""The server's own life: two processes, Ctrl-C and adoption, ``weft check``, and what it refuses at its start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveWeft

SMK = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}


def weft(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the `weft` program to its end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
    argv = [sys.executable, "-m", "weft.cli", *map(str, arguments)]
    return subprocess.run(argv, env=clean | (env or {}), capture_output=True, text=True, timeout=60, check=False)


def shell(script: str) -> dict[str, Any]:
    return {"image": "busybox", "command": ["sh", "-c", script]}


def waiting_for(gate: Path) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.05; done"


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def last_stdout(server: LiveWeft, task_id: str) -> str:
    steps = [step for attempt in server.task(task_id)["logs"] for step in attempt["logs"]]
    return str(steps[-1].get("stdout", "")) if steps else ""


# -- life --------------------------------------------------------------------------------------------------------------


def test_a_task_outlives_ctrl_c_and_its_logs_and_exit_code_are_adopted(own_weft: LiveWeft) -> None:
    gates = own_weft.files / "gates"
    gates.mkdir()
    task_id = own_weft.create(
        {
            "inputs": [{"path": "/gates", "url": f"file://{gates}", "type": "DIRECTORY"}],
            "outputs": [{"path": "/out/result", "url": f"file://{own_weft.files}/result"}],
            "executors": [
                shell(f"echo before; {waiting_for(Path('/gates/go'))}; echo after; echo done > /out/result"),
                shell("echo last; exit 5"),
            ],
        }
    )
    eventually(lambda: last_stdout(own_weft, task_id) == "before\n")
    own_weft.stop()
    assert "running jobs go on" in own_weft.log()
    (gates / "go").touch()
    own_weft.start()
    task = own_weft.wait(task_id)
    assert task["state"] == "EXECUTOR_ERROR"
    assert [(step["exit_code"], step["stdout"]) for step in task["logs"][0]["logs"]] == [
        (0, "before\nafter\n"),
        (5, "last\n"),
    ]
    assert (own_weft.files / "result").read_text() == "done\n"
    own_weft.assert_nothing_is_left()


def test_a_run_outlives_ctrl_c_and_is_adopted(own_weft: LiveWeft) -> None:
    snakefile = f"""
rule a:
    output: "x"
    shell: "echo begun; {waiting_for(Path("go"))}; touch {{output}}"
rule b:
    input: "x"
    output: "y"
    shell: "echo second > {{output}}"
""".replace("rule a:", 'rule all:\n    input: "y"\nrule a:', 1)
    run_id = own_weft.submit_run(SMK, {"Snakefile": snakefile.encode()})
    eventually(lambda: bool(tasks := own_weft.run_log(run_id)["task_logs"]) and "start_time" in tasks[0])
    (task,) = own_weft.run_log(run_id)["task_logs"]
    eventually(lambda: last_stdout(own_weft, task["id"]) == "begun\n")
    own_weft.stop()
    (own_weft.data / "jobs" / run_id / "work" / "go").touch()
    own_weft.start()
    run = own_weft.wait_run(run_id)
    assert (run["state"], run["run_log"]["exit_code"]) == ("COMPLETE", 0), own_weft.log()
    assert sorted(task["name"] for task in run["task_logs"]) == ["a", "b"]
    own_weft.assert_nothing_is_left()


def test_ctrl_c_ends_the_server_within_seconds_whatever_runs(own_weft: LiveWeft) -> None:
    task_id = own_weft.create({"executors": [shell("sleep 1000")]})
    own_weft.wait(task_id, until={"RUNNING"})
    begun = time.monotonic()
    process = own_weft.process
    own_weft.stop()
    assert time.monotonic() - begun < 5
    assert process is not None
    assert process.returncode == 0
    assert "Traceback" not in own_weft.log()
    own_weft.start()
    own_weft.cancel(task_id)
    assert own_weft.wait(task_id)["state"] == "CANCELED"
    own_weft.assert_nothing_is_left()


def test_api_and_work_are_two_processes_over_one_database(start_weft: Callable[..., LiveWeft]) -> None:
    api = start_weft(command="api")
    queued = api.create({"executors": [shell("echo hello")]})
    assert api.task(queued)["state"] == "QUEUED"
    worker = start_weft("--executor", "process", command="work", env={"WEFT_ENGINE__WARM_IDLE_SECONDS": "20"})
    assert api.wait(queued)["logs"][0]["logs"][0]["stdout"] == "hello\n"
    begun = time.monotonic()
    assert api.wait(api.create({"executors": [shell("echo quick")]}))["state"] == "COMPLETE"
    assert time.monotonic() - begun < 0.9, "the worker was not woken: it came by its next beat"
    run_id = api.submit_run(SMK, {"Snakefile": b"rule a:\n    output: 'x'\n    shell: 'touch {output}'\n"})
    assert api.wait_run(run_id)["state"] == "COMPLETE"
    endless = api.create({"executors": [shell("sleep 1000")]})
    api.wait(endless, until={"RUNNING"})
    worker.stop()
    api.cancel(endless)
    assert api.task(endless)["state"] == "CANCELING"
    worker.start()
    assert api.wait(endless)["state"] == "CANCELED"
    api.assert_nothing_is_left()


def test_a_data_folder_may_have_a_path_longer_than_a_unix_sockets(start_weft: Callable[..., LiveWeft]) -> None:
    server = start_weft("--executor", "process", name="long/" + "/".join(["a-folder-with-a-long-name"] * 6))
    assert len(str(server.data / "engine" / "tes.sock")) > 160
    run_id = server.submit_run(SMK, {"Snakefile": b"rule a:\n    output: 'x'\n    shell: 'echo far > {output}'\n"})
    run = server.wait_run(run_id)
    assert run["state"] == "COMPLETE", server.log()
    assert (server.data / "jobs" / run_id / "work" / "x").read_text() == "far\n"


# -- before the start --------------------------------------------------------------------------------------------------


def test_check_says_what_is_in_force_and_what_is_not_reachable(tmp_path: Path) -> None:
    env = {"WEFT_DOCKER__HOST": f"unix://{tmp_path}/none.sock", "WEFT_S3__SECRET_ACCESS_KEY": "hush", "WEFT_PORT": "81"}
    done = weft("check", "--data", tmp_path, "--executor", "process", env=env)
    assert done.returncode == 0, done.stderr
    assert f"data = {tmp_path}" in done.stdout
    assert "port = 81" in done.stdout
    assert "[no]   executor docker" in done.stdout
    assert "start Docker" in done.stdout
    assert "[ok]   executor process" in done.stdout
    assert "[ok]   engine snakemake 9" in done.stdout
    assert "tasks go to: process" in done.stdout
    assert "hush" not in done.stdout
    assert not (tmp_path / "weft.db").exists()


def test_check_on_a_docker_engine_says_that_it_is_there(tmp_path: Path, docker_engine: str) -> None:
    done = weft("check", "--data", tmp_path, env={"WEFT_DOCKER__HOST": docker_engine})
    assert "[ok]   executor docker" in done.stdout
    assert "tasks go to: docker" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (("--executor", "nonsense"), {}, 1, "nonsense"),
        (("--port", "70000"), {}, 2, "setting port"),
        ((), {"WEFT_BEAT_SECONDS": "often"}, 2, "setting beat_seconds"),
        ((), {"WEFT_DOCKER__NONSENSE": "1"}, 2, "setting docker.nonsense"),
        (("--host", "0.0.0.0"), {}, 1, "allow_unauthenticated"),
        (("--host", "::"), {}, 1, "allow_unauthenticated"),
        (("--database", "nonsense://x/y"), {}, 1, "nonsense"),
        (("--database", "no url at all"), {}, 1, "not a URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_served_is_refused_in_one_readable_line(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], code: int, words: str
) -> None:
    done = weft("serve", "--data", tmp_path / "data", *arguments, env={"WEFT_PORT": "0"} | env)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_an_unknown_key_in_the_settings_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "weft.toml").write_text("porrt = 1\n")
    done = weft("serve", "--data", tmp_path / "data", env={"WEFT_CONFIG": str(tmp_path / "weft.toml")})
    assert (done.returncode, "porrt" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_settings_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "weft.toml").write_text("port = = 1\n")
    done = weft("serve", "--data", tmp_path / "data", env={"WEFT_CONFIG": str(tmp_path / "weft.toml")})
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "weft.toml" in done.stderr


def test_a_port_in_use_is_said_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = weft("serve", "--data", tmp_path / "data", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = weft("serve", "--data", tmp_path / "file" / "data", "--port", "0")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert str(tmp_path / "file") in done.stderr


def test_a_listener_beyond_loopback_is_possible_when_it_is_said(start_weft: Callable[..., LiveWeft]) -> None:
    server = start_weft("--executor", "process", "--host", "0.0.0.0", env={"WEFT_ALLOW_UNAUTHENTICATED": "true"})
    assert server.url.startswith("http://0.0.0.0:")
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    assert server.task(server.create({"executors": [shell("true")]}))["state"] in {"QUEUED", "INITIALIZING", "RUNNING"}


def test_sigterm_stops_like_ctrl_c(start_weft: Callable[..., LiveWeft]) -> None:
    server = start_weft("--executor", "process")
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "weft stops" in server.log()


class Stalling(BaseHTTPRequestHandler):
    """Sends the half of its body and then nothing, until ``flowing`` is set."""

    flowing = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"01234")
        self.flowing.wait(50)
        with suppress(OSError):
            self.wfile.write(b"56789")

    def log_message(self, *_: object) -> None:
        """Silent."""


def test_ctrl_c_does_not_wait_for_a_download_that_stalls_and_the_next_start_redoes_it(
    start_weft: Callable[..., LiveWeft],
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            host = f"127.0.0.1:{web.server_address[1]}"
            server = start_weft("--executor", "process", env={"WEFT_FETCH__ALLOW_HOSTS": f'["{host}"]'})
            inputs = [{"path": "/in/a", "url": f"http://{host}/a"}]
            task_id = server.create({"inputs": inputs, "executors": [shell("cat /in/a")]})
            server.wait(task_id, until={"INITIALIZING"})
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < 10
            assert "Traceback" not in server.log()
            Stalling.flowing.set()
            server.start()
            task = server.wait(task_id)
            assert (task["state"], task["logs"][0]["logs"][0]["stdout"]) == ("COMPLETE", "0123456789"), task
            assert len(task["logs"]) == 1
        finally:
            Stalling.flowing.set()
            web.shutdown()
            thread.join()
