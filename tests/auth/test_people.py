"""Tokens that weft gave out, and what one person sees of another: nothing, not even that there is something."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner

from tests.api.conftest import assert_error
from tests.auth.conftest import LoginSite, OpenSite, basic, bearer
from tests.auth.provider import Provider
from weft.auth.access import LOCAL_SECONDS
from weft.cli import main
from weft.clock import new_id
from weft.http.api import spec_path
from weft.model import Kind, NewJob, Principal, Run, Step, Task, run_to_json, task_to_json

TES, WES = "/ga4gh/tes/v1", "/ga4gh/wes/v1"
TASK = {"executors": [{"image": "busybox", "command": ["true"]}]}


# -- tokens of weft ----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(open_site: OpenSite) -> LoginSite:
    return open_site()


def test_a_token_that_weft_gave_out_is_a_person_by_bearer_and_by_basic(site: LoginSite) -> None:
    token = site.local_token("ada", roles=frozenset({"operator"}), groups=frozenset({"lab"}))
    assert site.who(token).json() == {
        "name": "local|ada", "roles": ["operator"], "groups": ["lab"], "visas": [], "scopes": None
    }  # fmt: skip
    assert site.client.get("/weft/v1/who", headers=basic("ada", token)).json()["name"] == "local|ada"
    for headers in (basic("eve", token), basic("ada", f"{token}x"), basic("ada", "weft_"), bearer(f"{token}x")):
        assert_error(site.client.get("/weft/v1/who", headers=headers), 401, "unknown, expired or revoked")


def test_a_token_of_a_narrow_scope_does_no_more(open_site: OpenSite) -> None:
    site = open_site(full=True)
    token = site.local_token("ada", scopes=frozenset({"tes:read"}))
    assert site.client.get(f"{TES}/tasks", headers=bearer(token)).status_code == 200
    assert site.client.get("/v1/tasks", headers=bearer(token)).status_code == 200
    for method, path, scope in (
        ("POST", f"{TES}/tasks", "tes:write"),
        ("POST", f"{TES}/tasks/x:cancel", "tes:write"),
        ("DELETE", f"{TES}/tasks/x", "tes:write"),
        ("GET", f"{WES}/runs", "wes:read"),
        ("GET", f"{WES}/runs/x/stdout", "wes:read"),
        ("POST", f"{WES}/runs", "wes:write"),
        ("GET", "/weft/v1/who", "too narrow"),
    ):
        assert_error(site.client.request(method, path, headers=bearer(token)), 403, scope)


def test_the_token_of_a_run_opens_the_task_api_alone(open_site: OpenSite) -> None:
    site = open_site(full=True)
    token = site.local_token("ada", run="0" * 26)
    assert site.client.get(f"{TES}/tasks", headers=bearer(token)).json() == {"tasks": []}
    for path in (f"{WES}/runs", "/weft/v1/who", "/"):
        assert_error(site.client.get(path, headers=bearer(token)), 403, "task API alone")
    site.store.revoke_tokens("0" * 26)
    assert_error(site.client.get(f"{TES}/tasks", headers=bearer(token)), 401)


def test_tokens_expire_and_are_revoked_within_seconds(open_site: OpenSite) -> None:
    site = open_site(remember_seconds=300)
    now = site.clock()
    ada = Principal(issuer="local", subject="ada")
    short = site.store.create_token(ada, now=now, expires_at=now + 60, token_id="a")
    revoked = site.store.create_token(ada, now=now, expires_at=None, token_id="b")
    assert site.who(short).status_code == site.who(revoked).status_code == 200
    site.store.revoke_token("b")
    site.clock.ahead = LOCAL_SECONDS
    assert site.who(short).status_code == 200
    assert_error(site.who(revoked), 401)
    site.clock.ahead = 61
    assert_error(site.who(short), 401)


def test_weft_token_creates_lists_and_revokes(open_site: OpenSite) -> None:
    site = open_site()

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["token", *arguments, "--data", str(site.data)])

    made = call("create", "ada", "--role", "operator", "--group", "lab", "--scope", "tes:read", "--expires", "12h")
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert re.fullmatch(r"weft_[A-Za-z0-9_-]{43}", token)
    assert "not shown again" in made.stderr
    assert site.access.required
    principal = site.store.find_token(token, now=time.time())
    assert principal is not None
    assert (principal.name, principal.roles, principal.scopes) == ("local|ada", {"operator"}, {"tes:read"})
    assert principal.expires_at == pytest.approx(time.time() + 12 * 3600, abs=60)
    (listed,) = orjson.loads(call("list", "--json").stdout)
    assert (listed["name"], listed["roles"], listed["groups"]) == ("ada", ["operator"], ["lab"])
    plain = call("list").stdout
    assert "ada" in plain
    assert "tes:read" in plain
    assert token not in plain
    assert call("revoke", listed["id"]).exit_code == 0
    assert site.store.find_token(token, now=time.time()) is None
    assert call("revoke", listed["id"]).exit_code == 2
    for bad in (("a:b",), ("",), ("ada", "--expires", "0d"), ("ada", "--expires", "soon"), ("ada", "--role", "king")):
        assert call("create", *bad).exit_code == 2, bad
    assert call("list").stdout == ""


# -- one person and another --------------------------------------------------------------------------------------------


@pytest.fixture
def two(open_site: OpenSite, provider: Provider, other: Provider) -> tuple[LoginSite, str, str]:
    """A site, and the tokens of the same subject at two issuers."""
    site = open_site(provider, other, full=True, remember_seconds=300)
    return site, provider.token("ada"), other.token("ada")


def _store_jobs(site: LoginSite, owner: str) -> dict[str, str]:
    """Store a task, and a run with a task, with logs and an output."""
    now = time.time()
    task = Task(steps=(Step(image="busybox", command=("echo", "secret")),), name="secret-name")
    run = Run(
        workflow_type="SMK", workflow_type_version="9", workflow_url="Snakefile", workflow_engine="snakemake",
        workflow_engine_version="9",
    )  # fmt: skip
    ids = {name: new_id(now) for name in ("task", "run", "task_of_run")}
    common = {"owner": owner, "created_at": now}
    site.store.create(NewJob(id=ids["task"], kind=Kind.TASK, document=task_to_json(task), name=task.name, **common))
    site.store.create(NewJob(id=ids["run"], kind=Kind.RUN, document=run_to_json(run), **common))
    site.store.create(
        NewJob(id=ids["task_of_run"], kind=Kind.TASK, document=task_to_json(task), parent=ids["run"], **common)
    )
    work = site.data / "jobs" / ids["run"] / "work"
    work.mkdir(parents=True)
    (work / "result").write_text("secret")
    return ids


def _operations() -> Iterator[tuple[str, str]]:
    """Yield every operation on a job of every spec that is served."""
    for base, specs in ((TES, ("tes.yaml", "tes-weft.yaml")), ("/v1", ("tes.yaml",)), (WES, ("wes.yaml", "weft.yaml"))):
        for spec in specs:
            paths: Mapping[str, Any] = yaml.safe_load(spec_path(spec).read_text())["paths"]
            for path, operations in paths.items():
                for method in operations:
                    if "{" in path and method in ("get", "post", "put", "delete"):
                        yield method.upper(), base + path


def _filled(path: str, ids: Mapping[str, str]) -> str:
    task = ids["task_of_run"] if "{run_id}" in path else ids["task"]
    return path.format(id=task, task_id=task, run_id=ids["run"], path="result")


def test_a_second_user_gets_from_every_operation_what_a_job_that_is_not_there_gives(
    two: tuple[LoginSite, str, str], provider: Provider
) -> None:
    site, owner, stranger = two
    ids = _store_jobs(site, f"{provider.issuer}|ada")
    nobody = {name: new_id(time.time()) for name in ids}
    operations = list(_operations())
    assert len(operations) >= 16
    for method, path in operations:
        foreign, missing = (
            site.client.request(method, _filled(path, some), headers={**bearer(stranger), "X-Request-Id": "r"})
            for some in (ids, nobody)
        )
        told = foreign.text
        for name, job_id in ids.items():
            told = told.replace(job_id, nobody[name])
        assert (method, path, foreign.status_code, told) == (method, path, 404, missing.text)
        assert sorted(foreign.headers) == sorted(missing.headers), path
    for method, path in operations:  # and nothing was done to them
        if method == "GET":
            mine = site.client.get(_filled(path, ids), headers=bearer(owner))
            assert mine.status_code == 200 or mine.json()["msg"].startswith("there is no"), (path, mine.text)
    states = [site.store.get(job_id) for job_id in ids.values()]
    assert [job.state for job in states if job is not None] == ["QUEUED"] * 3


def test_a_second_user_lists_and_counts_nothing(two: tuple[LoginSite, str, str], provider: Provider) -> None:
    site, owner, stranger = two
    ids = _store_jobs(site, f"{provider.issuer}|ada")
    for query in ("", "?view=FULL", "?name_prefix=secret", "?state=QUEUED"):
        assert site.client.get(f"{TES}/tasks{query}", headers=bearer(stranger)).json() == {"tasks": []}
        assert site.client.get(f"{TES}/tasks{query}", headers=bearer(owner)).json()["tasks"]
    assert site.client.get(f"{WES}/runs", headers=bearer(stranger)).json()["runs"] == []
    for headers in (bearer(stranger), {}):
        counts = site.client.get(f"{WES}/service-info", headers=headers).json()["system_state_counts"]
        assert sum(counts.values()) == 0
    assert (
        sum(site.client.get(f"{WES}/service-info", headers=bearer(owner)).json()["system_state_counts"].values()) == 1
    )
    token = site.client.get(f"{TES}/tasks?page_size=1", headers=bearer(owner)).json()["next_page_token"]
    taken = site.client.get(f"{TES}/tasks?page_token={token}", headers=bearer(stranger))
    assert ids["task"] not in taken.text
    assert taken.status_code in (200, 400)


def test_an_idempotency_key_of_another_is_ones_own(two: tuple[LoginSite, str, str]) -> None:
    site, owner, stranger = two
    made = [
        site.client.post(f"{TES}/tasks", json=TASK, headers={**bearer(token), "Idempotency-Key": "k"}).json()["id"]
        for token in (owner, stranger, owner)
    ]
    assert made[0] == made[2] != made[1]
