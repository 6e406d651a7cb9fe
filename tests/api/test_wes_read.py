"""What WES answers about runs: lists, logs, tasks, cancelling, the service itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.wes_site import Site, running_site
from weft.auth.access import ANONYMOUS
from weft.folders import AttemptFolder
from weft.model import Kind, Principal, Step, StepResult, Submission
from weft.states import State
from weft.submissions import save


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("wes")) as site:
        yield site


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    """A server that has no runs yet."""
    with running_site(tmp_path / "data") as site:
        yield site


def _submission(site: Site, run_id: str, command: tuple[str, ...]) -> None:
    folder: AttemptFolder = site.folders.attempt(run_id, 1)
    step = Step(image="", command=command)
    save(Submission(key=f"{run_id}-1", job_id=run_id, attempt=1, kind=Kind.RUN, steps=(step,), folder=folder.root))


def test_service_info_says_what_is_there(fresh: Site) -> None:
    fresh.submit()
    info = fresh.json("/service-info")
    assert info["type"] == {"group": "org.ga4gh", "artifact": "wes", "version": "1.1.0"}
    assert info["id"].endswith(".wes")
    assert info["supported_wes_versions"] == ["1.0.0", "1.0.1", "1.1.0"]
    assert set(info["workflow_type_versions"]) == {"SMK", "CWL"}
    assert info["workflow_type_versions"]["CWL"] == {"workflow_type_version": ["1.0", "1.1", "v1.2"]}
    assert info["workflow_type_versions"]["SMK"] == {"workflow_type_version": ["9.27.0", "9.27", "9", "1.0"]}
    assert info["workflow_engine_versions"]["snakemake"] == {"workflow_engine_version": ["9.27.0"]}
    assert info["default_workflow_engine_parameters"] == [{"name": "cores", "type": "integer", "default_value": "1"}]
    assert info["supported_filesystem_protocols"] == ["file", "http", "https"]
    assert info["system_state_counts"] == {state.value: int(state is State.QUEUED) for state in State}
    assert info["tags"] == {}
    assert info["auth_instructions_url"].startswith("https://")


def test_every_version_that_service_info_lists_is_accepted(site: Site) -> None:
    for name, versions in site.json("/service-info")["workflow_type_versions"].items():
        for version in versions["workflow_type_version"]:
            site.submit(workflow_type=name, workflow_type_version=version)


def test_a_list_is_newest_first_and_ends_with_an_empty_token(fresh: Site) -> None:
    runs = [fresh.submit(tags=f'{{"n": "{number}"}}') for number in range(5)]
    seen: list[dict[str, Any]] = []
    token = ""
    while True:
        page = fresh.json("/runs", params={"page_size": 2, "page_token": token})
        assert len(page["runs"]) <= 2
        seen += page["runs"]
        token = page["next_page_token"]
        if token == "":
            break
    assert [run["run_id"] for run in seen] == runs[::-1]
    assert seen[0] == {"run_id": runs[-1], "state": "QUEUED", "tags": {"n": "4"}}


def test_a_run_without_tags_has_empty_tags_in_the_list(fresh: Site) -> None:
    fresh.submit()
    assert fresh.json("/runs")["runs"][0]["tags"] == {}


def test_a_list_can_be_filtered(fresh: Site) -> None:
    mine = fresh.submit(tags='{"who": "me", "what": "x"}')
    other = fresh.submit(tags='{"who": "you"}')
    fresh.claim(other)

    def listed(**params: Any) -> list[str]:
        return [run["run_id"] for run in fresh.json("/runs", params=params)["runs"]]

    assert listed(tag_key="who", tag_value="me") == [mine]
    assert listed(tag_key="who") == [other, mine]
    assert listed(tag_key=["who", "what"], tag_value=["me", ""]) == [mine]
    assert listed(tag_key="who", tag_value="nobody") == []
    assert listed(state="COMPLETE") == []


@pytest.mark.parametrize("page_size", ["0", "-1", "x", "1.5", ""])
def test_a_bad_page_size_is_400(site: Site, page_size: str) -> None:
    run_id = site.submit()
    for path in ("/runs", f"/runs/{run_id}/tasks"):
        answer = site.get(path, params={"page_size": page_size})
        assert answer.status_code == 400, answer.text
        assert answer.json()["field"] == "page_size"


def test_a_huge_page_size_is_served_as_the_largest(fresh: Site) -> None:
    fresh.submit()
    assert len(fresh.json("/runs", params={"page_size": 10**12})["runs"]) == 1


@pytest.mark.parametrize("params", [{"page_token": "nonsense"}, {"state": "DONE"}, {"state": ""}, {"tag_value": "x"}])
def test_a_bad_list_parameter_is_400(site: Site, params: dict[str, str]) -> None:
    answer = site.get("/runs", params=params)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] in params


def test_a_run_log_follows_the_run(site: Site) -> None:
    run_id = site.submit(workflow_params='{"sample": "a"}', tags='{"k": "v"}')
    queued = site.json(f"/runs/{run_id}")
    assert queued["state"] == "QUEUED"
    assert queued["request"] == {
        "workflow_type": "SMK",
        "workflow_type_version": "9",
        "workflow_url": "Snakefile",
        "workflow_params": {"sample": "a"},
        "workflow_engine": "snakemake",
        "workflow_engine_version": "9.27.0",
        "workflow_engine_parameters": {},
        "tags": {"k": "v"},
    }
    base = f"{site.wes}/runs/{run_id}"
    assert queued["run_log"]["stdout"] == f"{base}/stdout"
    assert queued["run_log"]["stderr"] == f"{base}/stderr"
    assert queued["task_logs_url"] == f"{base}/tasks"
    assert queued["task_logs"] == []
    assert queued["outputs"] == {}
    assert "exit_code" not in queued["run_log"]

    site.claim(run_id)
    _submission(site, run_id, ("snakemake", "--cores", "1"))
    site.end(run_id, State.EXECUTOR_ERROR, exit_code=3, message="the workflow failed")
    ended = site.json(f"/runs/{run_id}")
    assert ended["state"] == "EXECUTOR_ERROR"
    log = ended["run_log"]
    assert log["cmd"] == ["snakemake", "--cores", "1"]
    assert log["name"] == "Snakefile"
    assert log["exit_code"] == 3
    assert log["start_time"] == "1970-01-01T00:16:40Z"
    assert log["end_time"] == "1970-01-01T00:16:50Z"
    assert any("the workflow failed" in line for line in log["system_logs"])


def test_the_outputs_are_urls_that_can_be_fetched(site: Site) -> None:
    run_id = site.submit()
    site.claim(run_id)
    site.write(run_id, "results/a b#.vcf", b"variants")
    site.end(run_id, outputs={"vcf": ["./results/a b#.vcf", "missing"], "n": 3, "class": "File"})
    outputs = site.json(f"/runs/{run_id}")["outputs"]
    assert outputs == {
        "vcf": [f"{site.wes}/runs/{run_id}/outputs/results/a%20b%23.vcf", "missing"],
        "n": 3,
        "class": "File",
    }
    assert site.get(outputs["vcf"][0].removeprefix(site.wes)).content == b"variants"


def test_the_echo_of_a_request_hides_secrets_but_the_engine_gets_them(site: Site) -> None:
    params = '{"db": {"password": "x1", "user": "me"}, "max_tokens": 5, "AWS_SECRET_ACCESS_KEY": "x2", "token": ""}'
    run_id = site.submit(workflow_params=params, workflow_engine_parameters='{"api-token": "x3"}')
    request = site.json(f"/runs/{run_id}")["request"]
    assert request["workflow_params"] == {
        "db": {"password": "***", "user": "me"},
        "max_tokens": 5,
        "AWS_SECRET_ACCESS_KEY": "***",
        "token": "",
    }
    assert request["workflow_engine_parameters"] == {"api-token": "***"}
    assert site.job(run_id).run.workflow_params["db"]["password"] == "x1"


def test_a_status_is_the_state_alone(site: Site) -> None:
    run_id = site.submit()
    assert site.json(f"/runs/{run_id}/status") == {"run_id": run_id, "state": "QUEUED"}


def test_the_tasks_of_a_run_lead_to_tes(site: Site) -> None:
    run_id = site.submit()
    site.claim(run_id)
    steps = (Step(image="a", command=("first",)), Step(image="b", command=("second", "2")))
    first = site.add_task(run_id, name="align", steps=steps)
    second = site.add_task(run_id, name=None)
    site.claim(first)
    site.store.record(
        first,
        now=1002.0,
        lease_owner="tester",
        steps=[StepResult(started_at=1001.0, ended_at=1002.0, exit_code=4)],
        messages=["the image was not used"],
    )
    tasks = site.json(f"/runs/{run_id}/tasks")
    assert tasks["next_page_token"] == ""
    assert [task["id"] for task in tasks["task_logs"]] == [second, first]
    queued, running = tasks["task_logs"]
    base = f"{site.wes}/runs/{run_id}/tasks/{first}"
    assert queued["name"] == second
    assert running["name"] == "align"
    assert running["cmd"] == ["first"]
    assert running["exit_code"] == 4
    assert running["stdout"] == f"{base}/stdout"
    assert running["stderr"] == f"{base}/stderr"
    assert running["tes_uri"] == f"{site.url}/ga4gh/tes/v1/tasks/{first}"
    assert any("the image was not used" in line for line in running["system_logs"])
    assert site.json(f"/runs/{run_id}/tasks/{first}") == running
    assert site.json(f"/runs/{run_id}")["task_logs"] == tasks["task_logs"]


def test_the_tasks_are_paged(site: Site) -> None:
    run_id = site.submit()
    tasks = [site.add_task(run_id) for _ in range(3)]
    page = site.json(f"/runs/{run_id}/tasks", params={"page_size": 2})
    rest = site.json(f"/runs/{run_id}/tasks", params={"page_size": 2, "page_token": page["next_page_token"]})
    assert [task["id"] for task in page["task_logs"] + rest["task_logs"]] == tasks[::-1]
    assert rest["next_page_token"] == ""


def test_a_task_of_another_run_is_not_found(site: Site) -> None:
    run_id, other = site.submit(), site.submit()
    task_id = site.add_task(other)
    for path in ("", "/stdout", "/stderr"):
        assert site.get(f"/runs/{run_id}/tasks/{task_id}{path}").status_code == 404


def test_what_is_no_run_is_not_found(site: Site) -> None:
    run_id = site.submit()
    task_id = site.add_task(run_id)
    foreign = site.add_foreign_run()
    for unknown in ("nope", task_id, foreign, "%00", "x" * 3000):
        paths = ("", "/status", "/tasks", "/tasks/x", "/stdout", "/stderr", "/outputs", "/outputs/Snakefile")
        for path in paths:
            answer = site.get(f"/runs/{unknown}{path}")
            assert answer.status_code == 404, (unknown[:10], path, answer.text)
            assert answer.json()["status_code"] == 404
        assert site.post(f"/runs/{unknown}/cancel").status_code == 404
    assert run_id in {run["run_id"] for run in site.json("/runs")["runs"]}
    assert foreign not in {run["run_id"] for run in site.json("/runs")["runs"]}


def test_cancel_ends_the_run_and_all_its_tasks(fresh: Site) -> None:
    run_id = fresh.submit()
    fresh.claim(run_id)
    running, queued, done = (fresh.add_task(run_id) for _ in range(3))
    for task in (running, done):
        assert fresh.job(task).state is State.QUEUED
    fresh.store.claim("tester", {Kind.TASK}, 1, now=1000.0, until=9e9)
    fresh.store.request_cancel(done, now=1001.0)
    answer = fresh.post(f"/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"run_id": run_id})
    assert fresh.job(run_id).state is State.CANCELING
    assert fresh.job(running).state is State.CANCELING
    assert fresh.job(queued).state is State.CANCELED
    assert fresh.post(f"/runs/{run_id}/cancel").status_code == 200


def test_cancel_of_a_run_that_has_ended_changes_nothing(site: Site) -> None:
    run_id = site.submit()
    site.claim(run_id)
    site.end(run_id)
    assert site.post(f"/runs/{run_id}/cancel").json() == {"run_id": run_id}
    assert site.job(run_id).state is State.COMPLETE


def test_a_queued_run_is_cancelled_at_once(site: Site) -> None:
    run_id = site.submit()
    assert site.post(f"/runs/{run_id}/cancel").status_code == 200
    assert site.json(f"/runs/{run_id}/status")["state"] == "CANCELED"


def test_the_token_of_a_run_does_not_open_wes(site: Site) -> None:
    run_id = site.submit()
    engine = Principal(issuer=ANONYMOUS.issuer, subject=ANONYMOUS.subject, run=run_id)
    token = site.store.create_token(engine, now=1000.0, expires_at=None)
    headers = {"Authorization": f"Bearer {token}"}
    assert site.post(f"/runs/{run_id}/cancel", headers=headers).status_code == 403
    assert site.post("/runs", headers=headers, data={"workflow_type": "SMK"}).status_code == 403


def test_links_are_made_of_the_base_url_where_one_is_set(tmp_path: Path) -> None:
    with running_site(tmp_path / "data", base_url="https://weft.example.org/prefix/") as site:
        run_id = site.submit()
        log = site.json(f"/runs/{run_id}")
        assert log["task_logs_url"] == f"https://weft.example.org/prefix/ga4gh/wes/v1/runs/{run_id}/tasks"
