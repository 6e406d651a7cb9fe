"""A real server with a policy, an audit record and people with tokens: from the request to the verified record."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from tests.live import TERMINAL, LiveWeft
from weft.cli import main

POLICY = """
[roles]
submitter = ["local|anna", "local|ben", "local|carl"]
auditor = ["local|audrey"]

[limits]
time_limit_seconds = {seconds}

[datasets.secret]
urls = ["{files}/secret/"]

[[datasets.secret.approvals]]
who = ["{who}"]

[projects.heart]
members = ["local|anna", "local|ben"]
datasets = ["secret"]
"""


@dataclass
class Town:
    """A server and its people."""

    server: LiveWeft
    policy: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def write(self, *, who: str = "project:heart", seconds: float = 60) -> None:
        self.policy.write_text(POLICY.format(files=self.server.files, who=who, seconds=seconds))

    def command(self, *words: str) -> Result:
        """Run a command in this process."""
        clean = {key: None for key in os.environ if key.startswith("WEFT_")} | self.server.env
        return CliRunner().invoke(main, [*words, "--data", str(self.server.data)], env=clean)

    def ask(self, who: str, method: str, path: str, **options: Any) -> requests.Response:
        if who not in self.tokens:
            self.tokens[who] = self.command("token", "create", who).stdout.strip()
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        return requests.request(method, self.server.url + path, headers=headers, timeout=30, **options)

    def create(self, who: str, script: str, **members: Any) -> requests.Response:
        step = {"image": "busybox", "command": ["sh", "-c", script]}
        return self.ask(who, "POST", "/ga4gh/tes/v1/tasks", json={"executors": [step], **members})

    def wait(self, who: str, task_id: str, until: set[str] = TERMINAL) -> dict[str, Any]:
        return eventually(lambda: self._task(who, task_id, until))

    def _task(self, who: str, task_id: str, until: set[str]) -> dict[str, Any] | None:
        task = self.ask(who, "GET", f"/ga4gh/tes/v1/tasks/{task_id}?view=FULL").json()
        return dict(task) if task["state"] in until else None


def eventually(find: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    policy = tmp_path / "policy.toml"
    server = LiveWeft(
        tmp_path / "data",
        flags=("--executor", "process", "--max-running", "1", "--policy", str(policy)),
        env={"WEFT_AUTH__LOGIN": "tokens", "WEFT_FILE_ROOTS": json.dumps([str(tmp_path / "files")])},
    )
    (server.files / "secret").mkdir(parents=True)
    (server.files / "secret" / "cohort").write_text("of rare diseases\n")
    town = Town(server, policy)
    town.write()
    server.start()
    yield town
    server.end()


def test_nothing_starts_after_its_ground_is_gone_and_the_record_tells_it(town: Town) -> None:
    secret = {"inputs": [{"path": "/in", "url": f"{town.server.files}/secret/cohort"}]}
    first = town.create("anna", "cat /in", **secret).json()["id"]
    done = town.wait("ben", first)  # a member of her project
    assert (done["state"], done["logs"][0]["logs"][0]["stdout"]) == ("COMPLETE", "of rare diseases\n")
    assert town.ask("carl", "GET", f"/ga4gh/tes/v1/tasks/{first}").status_code == 404
    assert town.create("carl", "cat /in", **secret).status_code == 403
    assert requests.get(f"{town.server.tes}/tasks", timeout=30).status_code == 401

    running = town.create("carl", "sleep 1000").json()["id"]
    waiting = town.create("anna", "cat /in", **secret).json()["id"]
    town.write(who="local|ben", seconds=1)
    eventually(lambda: town.create("anna", "cat /in", **secret).status_code == 403)
    stopped = town.wait("carl", running)  # the policy in force now gives it one second
    assert stopped["state"] == "SYSTEM_ERROR"
    assert "time limit of 1 s" in str(stopped["logs"][0]["system_logs"])
    refused = town.wait("anna", waiting)
    assert refused["state"] == "SYSTEM_ERROR"
    assert "the site has not approved that you read secret" in str(refused["logs"])

    assert town.ask("anna", "GET", "/weft/v1/audit").status_code == 403
    entries = town.ask("audrey", "GET", "/weft/v1/audit?page_size=1000").json()["entries"]
    told = {(item["entry"]["action"], item["entry"]["decision"], item["entry"].get("reason")) for item in entries}
    assert {
        ("task.create", "allow", None),
        ("task.start", "allow", None),
        ("task.end", "allow", None),
        ("task.start", "deny", "dataset.approval"),
        ("task.read_logs", "allow", None),
        ("request", "deny", "dataset.project"),
        ("request", "deny", "dataset.approval"),
        ("request", "deny", "authentication"),
        ("request", "deny", "unknown, or not theirs"),
        ("token.create", "allow", None),
    } <= told
    town.server.stop()
    _is_whole_until_it_is_changed(town)


def _is_whole_until_it_is_changed(town: Town) -> None:
    whole = town.command("audit", "verify")
    assert (whole.exit_code, "the record is whole" in whole.stdout) == (0, True), whole.output
    exported = town.command("audit", "export").stdout
    assert "anna" not in exported
    copy = town.server.data.parent / "copy.jsonl"
    copy.write_text(exported)
    assert town.command("audit", "verify", "--export", str(copy)).exit_code == 0
    copy.write_text(exported.replace('"deny"', '"allow"', 1))
    forged = town.command("audit", "verify", "--export", str(copy))
    assert (forged.exit_code, "edit: entry" in forged.stdout) == (1, True)
    assert "local|anna" in town.command("audit", "list", "--names", "--action", "task.create").stdout
    assert town.command("audit", "forget", "local|anna").exit_code == 0
    assert "local|anna" not in town.command("audit", "list", "--names").stdout
    connection = sqlite3.connect(town.server.data / "audit" / "audit.db")
    connection.executescript("DROP TRIGGER audit_loses_nothing; DELETE FROM audit WHERE seq > 5;")
    connection.close()
    cut = town.command("audit", "verify")
    assert (cut.exit_code, "truncation" in cut.stdout) == (1, True)
    with pytest.raises(AssertionError, match="was sealed, and is gone"):
        town.server.start()
