"""A running weft with a real OpenID provider, and the clients of others with bearer and Basic."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import tes

from tests.api.conftest import assert_error
from tests.auth.conftest import basic, bearer
from tests.auth.provider import AUDIENCE, DATASET
from tests.live import LiveWeft
from tests.testbeds.oidc_site import OidcSite, missing_tools

ROOT = Path(__file__).resolve().parents[2]
MISSING = missing_tools()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
TASK = {"executors": [{"image": "busybox", "command": ["echo", "hello"]}]}


@pytest.fixture(scope="module")
def oidc() -> Iterator[OidcSite]:
    site = OidcSite(AUDIENCE).start()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def weft(oidc: OidcSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeft]:
    """A server that was set up as docs/security.md says."""
    folder = tmp_path_factory.mktemp("weft")
    settings = folder / "weft.toml"
    settings.write_text(f"""
[fetch]
allow_hosts = ["{oidc.host}"]

[[auth.issuers]]
issuer = "{oidc.issuer}"
audience = ["{AUDIENCE}"]
opaque = "userinfo"
passport = "userinfo"
use_scopes = false

[[auth.visa_issuers]]
issuer = "{oidc.issuer}"
jku = "{oidc.issuer}/jwks"
sources = ["https://example.org/dac"]
""")
    server = LiveWeft(folder / "data", flags=("--executor", "process"), env={"WEFT_CONFIG": str(settings)}).start()
    yield server
    server.end()


def local_token(weft: LiveWeft, name: str) -> str:
    """Make a token on the command line, beside the running server."""
    argv = [ROOT / ".venv" / "bin" / "weft", "token", "create", name, "--data", weft.data]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_program_logs_in_with_a_jwt_and_runs_a_task(weft: LiveWeft, oidc: OidcSite) -> None:
    token = oidc.robots_token()
    assert token.count(".") == 2
    client = tes.HTTPClient(f"{weft.url}/ga4gh/tes/v1", token=token, timeout=60)
    task_id = client.create_task(tes.Task(executors=[tes.Executor(image="busybox", command=["echo", "hello"])]))
    done = client.wait(task_id, timeout=60)
    assert done.state == "COMPLETE"
    assert task_id in [item.id for item in client.list_tasks().tasks]
    changed = f"{token[:-8]}{'A' * 8}"
    answer = requests.get(f"{weft.tes}/tasks", headers=bearer(changed), timeout=30)
    assert_error(answer, 401, "signature")


def test_a_person_logs_in_with_a_browser_and_brings_a_passport(weft: LiveWeft, oidc: OidcSite) -> None:
    token = oidc.persons_token("ada")
    assert "." not in token
    made = requests.post(f"{weft.tes}/tasks", json=TASK, headers=bearer(token), timeout=30)
    assert made.status_code == 200, made.text
    own = requests.get(f"{weft.tes}/tasks/{made.json()['id']}", headers=bearer(token), timeout=30)
    assert own.status_code == 200
    for stranger in (oidc.persons_token("bob"), oidc.robots_token(), local_token(weft, "ada")):
        answer = requests.get(f"{weft.tes}/tasks/{made.json()['id']}", headers=bearer(stranger), timeout=30)
        assert_error(answer, 404)
    info = requests.get(f"{oidc.issuer}/me", headers=bearer(token), timeout=30).json()
    assert info["sub"] == "ada"
    assert len(info["ga4gh_passport_v1"]) == 1
    assert "visa left out" not in weft.log(), "the visa of the real provider counts"
    assert DATASET == "https://example.org/datasets/1"


def test_a_token_that_was_revoked_at_the_provider_ends(weft: LiveWeft, oidc: OidcSite) -> None:
    token = oidc.persons_token("eve")
    oidc.revoke(token)
    assert_error(requests.get(f"{weft.tes}/tasks", headers=bearer(token), timeout=30), 401, "refuses it")


def test_clients_of_others_log_in_with_bearer_and_basic(weft: LiveWeft, oidc: OidcSite) -> None:
    local = local_token(weft, "old client")
    python = ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        pytest.skip("needs .venv-clients (make setup)")
    program = Path(__file__).with_name("clients") / "login.py"
    for arguments in (["bearer", oidc.robots_token()], ["basic", f"old client:{local}"]):
        argv = [python, program, weft.url, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["runs"] == []
    client = tes.HTTPClient(f"{weft.url}/ga4gh/tes/v1", user="old client", password=local, timeout=60)
    task_id = client.create_task(tes.Task(executors=[tes.Executor(image="busybox", command=["true"])]))
    assert client.wait(task_id, timeout=60).state == "COMPLETE"
    answer = requests.get(f"{weft.tes}/tasks/{task_id}", headers=basic("somebody", local), timeout=30)
    assert_error(answer, 401)


def test_who_does_not_log_in_learns_what_the_service_is_and_no_more(weft: LiveWeft) -> None:
    for api in (weft.tes, weft.wes):
        assert requests.get(f"{api}/service-info", timeout=30).status_code == 200
    for url in (f"{weft.tes}/tasks", f"{weft.wes}/runs"):
        answer = requests.get(url, timeout=30)
        assert_error(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="weft"'


def test_an_engine_reaches_the_tasks_of_its_run_with_its_own_token(weft: LiveWeft, oidc: OidcSite) -> None:
    token = oidc.robots_token()
    form = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile"}
    snakefile = b"rule a:\n    output: 'x'\n    shell: 'echo made > {output}'\n"
    made = requests.post(
        f"{weft.wes}/runs", data=form, files=[("workflow_attachment", ("Snakefile", snakefile))],
        headers=bearer(token), timeout=60,
    )  # fmt: skip
    assert made.status_code == 200, made.text
    run = f"{weft.wes}/runs/{made.json()['run_id']}"
    while (state := requests.get(f"{run}/status", headers=bearer(token), timeout=30).json()["state"]) not in (
        "COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR",
    ):  # fmt: skip
        pass
    assert state == "COMPLETE", weft.log()
    tasks = requests.get(f"{run}/tasks", headers=bearer(token), timeout=30).json()["task_logs"]
    assert [task["name"] for task in tasks] == ["a"]
    assert_error(requests.get(f"{run}/tasks", headers=bearer(oidc.persons_token("eve")), timeout=30), 404)
