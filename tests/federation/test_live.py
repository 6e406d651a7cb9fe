"""A hub and sites as real servers: what goes there comes back, whoever is killed and whatever is cut."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.federation.conftest import Federation
from tests.federation.proxy import Proxy
from tests.live import LiveWeft
from weft.federation import site
from weft.federation.line import Line
from weft.model import Kind
from weft.states import State
from weft.store.store import Filters, Store

SNAKEFILE = b"""
rule all:
    output: "said.txt"
    shell: "cat words/hello.txt > {output}; echo counted >&2"
"""


def task(*command: str, **parameters: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": "t", "executors": [{"image": "busybox", "command": list(command)}]}
    if parameters:
        document["resources"] = {"backend_parameters": parameters}
    return document


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    made = Proxy(cut_every=7)
    yield made
    made.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> Iterator[Federation]:
    """One hub; node cz speaks to it directly, node ee through a proxy that cuts every seventh answer."""
    made = Federation(tmp_path_factory.mktemp("federation"))
    try:
        made.hub.start()
        made.join("cz")
        made.join("ee", env={"HTTP_PROXY": proxy.url, "NO_PROXY": ""})
        yield made
    finally:
        made.end()


def outcome(document: dict[str, Any]) -> tuple[str, list[tuple[int, str, str]], str]:
    (log,) = document["logs"]
    assert all("exit_code" in step for step in log["logs"]), document
    steps = [(step["exit_code"], step["stdout"], step["stderr"]) for step in log["logs"]]
    return document["state"], steps, log["metadata"]["node"]


def test_a_task_goes_to_the_node_that_it_names_and_its_outcome_comes_back(federation: Federation) -> None:
    hub = federation.hub
    script = "echo hello; echo oops >&2; exit $1"
    ids = [hub.create(task("sh", "-c", script, "sh", code, node=node)) for node in ("cz", "ee") for code in "03"]
    ends = [outcome(hub.wait(task_id)) for task_id in ids]
    said = [(0, "hello\n", "oops\n")], [(3, "hello\n", "oops\n")]
    assert ends == [
        ("COMPLETE", said[0], "cz"),
        ("EXECUTOR_ERROR", said[1], "cz"),
        ("COMPLETE", said[0], "ee"),
        ("EXECUTOR_ERROR", said[1], "ee"),
    ]


def test_a_cancel_reaches_the_node(federation: Federation) -> None:
    hub, cz = federation.hub, federation.sites["cz"]
    task_id = hub.create(task("sleep", "1000", node="cz"))
    hub.wait(task_id, until={"RUNNING"})
    (theirs,) = jobs_of(cz, "RUNNING")
    hub.cancel(task_id)
    assert hub.wait(task_id)["state"] == "CANCELED"
    assert theirs in jobs_of(cz, "CANCELED")


def test_a_site_keeps_its_veto_and_says_why(federation: Federation) -> None:
    document = task("true", node="cz")
    document["inputs"] = [{"url": "file:///etc/passwd", "path": "/in/x"}]
    done = federation.hub.wait(federation.hub.create(document))
    assert done["state"] == "SYSTEM_ERROR"
    assert "cz: refused: " in done["logs"][0]["system_logs"][-1], done["logs"][0]["system_logs"]
    assert "file:///etc/passwd" in done["logs"][0]["system_logs"][-1]


def test_a_whole_run_goes_to_a_node_with_its_attachments(federation: Federation) -> None:
    form = {
        "workflow_type": "SMK",
        "workflow_type_version": "9",
        "workflow_url": "Snakefile",
        "workflow_engine_parameters": '{"node": "ee"}',
    }
    hub = federation.hub
    run_id = hub.submit_run(form, {"Snakefile": SNAKEFILE, "words/hello.txt": b"a" * 3_000_000})
    done = hub.wait_run(run_id)
    assert done["state"] == "COMPLETE", (done, federation.sites["ee"].log())
    (said,) = federation.sites["ee"].data.glob("jobs/*/work/said.txt")
    assert said.stat().st_size == 3_000_000


def test_the_registry_and_the_list_of_nodes_show_both(federation: Federation) -> None:
    url = federation.hub.url
    services = requests.get(f"{url}/ga4gh/registry/v1/services", timeout=30).json()
    assert [(item["type"]["artifact"], item.get("node")) for item in services] == [
        ("tes", None),
        ("wes", None),
        *((artifact, node) for node in ("cz", "ee") for artifact in ("tes", "wes")),
    ]
    for item in services:
        info = requests.get(f"{item['url']}/service-info", timeout=30).json()
        assert info["type"] == item["type"]
        assert requests.get(f"{url}/ga4gh/registry/v1/services/{item['id']}", timeout=30).json()["url"] == item["url"]
    types = requests.get(f"{url}/ga4gh/registry/v1/services/types", timeout=30).json()
    assert [item["artifact"] for item in types] == ["tes", "wes"]
    info = requests.get(f"{url}/ga4gh/registry/v1/service-info", timeout=30).json()
    assert info["type"] == {"group": "org.ga4gh", "artifact": "service-registry", "version": "1.0.0"}
    shown = requests.get(f"{url}/weft/v1/nodes", timeout=30).json()["nodes"]
    assert [(node["name"], node["health"]) for node in shown] == [("cz", "active"), ("ee", "active")]
    assert "cz" in federation.weft(federation.hub.data, "node", "list")
    assert "the hub answers; this node is active" in federation.weft(federation.sites["cz"].data, "node", "status")


def test_a_clock_that_is_off_by_an_hour_is_allowed_for(federation: Federation) -> None:
    folder = federation.sites["cz"].data / "node"
    line = Line(federation.hub.url, "cz", site.key_of(folder), clock=lambda: time.time() + 3600)
    assert line.ask("report", {"reports": []})["standing"] == "active"
    assert -3610 < line.offset < -3590


def test_a_suspended_node_gets_no_new_work_until_it_is_resumed(federation: Federation) -> None:
    hub = federation.hub
    federation.weft(hub.data, "node", "suspend", "cz")
    task_id = hub.create(task("true", node="cz"))
    wait_for_word(hub, task_id, "node cz is suspended")
    federation.weft(hub.data, "node", "resume", "cz")
    assert hub.wait(task_id)["state"] == "COMPLETE"


def test_everybody_may_be_killed_while_a_task_runs(federation: Federation) -> None:
    hub, ee, files = federation.hub, federation.sites["ee"], federation.files
    script = "echo started >> /shared/starts; while ! [ -e /shared/gate ]; do sleep 0.05; done; echo done"
    document = task("sh", "-c", script, node="ee")
    document["inputs"] = [{"url": files.as_uri(), "path": "/shared", "type": "DIRECTORY"}]
    task_id = hub.create(document)
    hub.wait(task_id, until={"RUNNING"})
    hub.kill()
    ee.kill()
    ee.start()
    hub.start()
    (files / "gate").touch()
    assert outcome(hub.wait(task_id)) == ("COMPLETE", [(0, "done\n", "")], "ee")
    assert (files / "starts").read_text() == "started\n", "the task was started twice"


def wait_for_word(weft: LiveWeft, task_id: str, words: str, seconds: float = 30) -> None:
    """Wait until the system log of a task says these words."""
    deadline = time.monotonic() + seconds
    while not any(words in line for log in weft.task(task_id)["logs"] for line in log.get("system_logs", ())):
        assert time.monotonic() < deadline, weft.task(task_id)
        time.sleep(0.05)


def jobs_of(weft: LiveWeft, state: str) -> list[str]:
    """Return a site's own tasks in a state, whoever owns them."""
    store = Store(f"sqlite:///{weft.data / 'weft.db'}")
    try:
        return [job.id for job in store.page(Kind.TASK, Filters(state=State(state)), 100, None).jobs]
    finally:
        store.stop()


def test_one_task_runs_at_two_nodes_and_one_cancel_ends_both(federation: Federation) -> None:
    hub = federation.hub
    both = hub.wait(hub.create(task("echo", "hello", nodes="cz,ee")))
    assert both["state"] == "COMPLETE", (both, hub.log())
    assert both["logs"][0]["metadata"] | {"node.ee": "COMPLETE", "partial": "false"} == both["logs"][0]["metadata"]
    running = hub.create(task("sleep", "600", nodes="cz,ee"))
    hub.wait(running, until={"RUNNING"})
    hub.cancel(running)
    assert hub.wait(running)["state"] == "CANCELED"
    for node in federation.sites.values():
        node.assert_nothing_is_left()


def test_what_could_never_run_is_refused_at_its_coming_in(federation: Federation) -> None:
    unknown = requests.post(f"{federation.hub.tes}/tasks", json=task("true", nodes="cz,xx"), timeout=30)
    assert (unknown.status_code, unknown.json()["field"]) == (400, "resources.backend_parameters.node")
    nowhere = task("true") | {"inputs": [{"url": "dataset://cohort/x", "path": "/in/x"}]}
    refused = requests.post(f"{federation.hub.tes}/tasks", json=nowhere, timeout=30)
    assert refused.status_code == 400
    assert "no node of this hub holds dataset://cohort/x" in refused.json()["detail"]


def test_a_task_that_would_store_outputs_past_the_sites_policy_is_refused_by_the_site(federation: Federation) -> None:
    stores = task("true", node="cz") | {"outputs": [{"url": "s3://elsewhere/x", "path": "/out/x"}]}
    done = federation.hub.wait(federation.hub.create(stores))
    assert done["state"] == "SYSTEM_ERROR"
    assert "this site lets out nothing unseen (its release policy is stay)" in str(done["logs"][0]["system_logs"])


def test_a_site_that_leaves_cancels_what_it_has_and_the_hub_gives_it_up(federation: Federation) -> None:
    hub, cz = federation.hub, federation.sites["cz"]
    task_id = hub.create(task("sleep", "1000", node="cz"))
    hub.wait(task_id, until={"RUNNING"})
    (theirs,) = jobs_of(cz, "RUNNING")
    assert "this site is no node of" in federation.weft(cz.data, "node", "leave")
    ended = hub.wait(task_id)
    assert ended["state"] == "SYSTEM_ERROR"
    assert ended["logs"][0]["system_logs"][-1].endswith("node cz has left the hub")
    deadline = time.monotonic() + 30
    while theirs not in jobs_of(cz, "CANCELED"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "cz" not in federation.weft(hub.data, "node", "list")
