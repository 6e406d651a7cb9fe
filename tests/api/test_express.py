"""The express lane and connexion give the same answers; and the lane takes what is plainly good, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import Site, open_site
from tests.api.test_tes_create import BAD_BODIES, BAD_TASKS, STEP
from tests.api.test_tes_read import TRUTH, finish
from tests.api.wes_site import check_url, snakemake, ticking_clock
from tests.builders import a_new_job, a_run
from tests.fakes import Ids
from tests.unit.test_tes_wire import FULL
from weft.config import Settings
from weft.http import api
from weft.http.express import Express
from weft.limits import Admission, site_limits
from weft.model import Kind, Principal
from wes_service.api import WesApi
from wes_service.app import services

TES, WES = "/ga4gh/tes/v1", "/ga4gh/wes/v1"
JSON = {"content-type": "application/json"}
GOOD_TASK = {"executors": [STEP], "name": "n", "tags": {"foo": "bar"}, "resources": {"cpu_cores": 1}}
_OWN = re.compile(rb'"(id|run_id|request_id|next_page_token|creation_time)":"[^"]*"')


@dataclass
class Both:
    """The same services over the same store, with the lane and without."""

    site: Site
    quick: TestClient
    plain: TestClient
    passed_on: list[str]

    def same(self, method: str, path: str, **options: Any) -> Any:
        """Send one request both ways, and return the answer of the lane's side."""
        mine, other = (client.request(method, path, **options) for client in (self.quick, self.plain))
        assert mine.status_code == other.status_code, (path, mine.text, other.text)
        assert _OWN.sub(b"", mine.content) == _OWN.sub(b"", other.content)
        assert headers_of(mine) == headers_of(other)
        if method == "GET" and mine.status_code == 200:
            assert mine.content == other.content
        return mine

    def took(self, method: str, path: str, **options: Any) -> bool:
        """Tell whether the lane answered by itself."""
        before = len(self.passed_on)
        self.same(method, path, **options)
        return len(self.passed_on) == before


def headers_of(response: Any) -> dict[str, str]:
    headers = dict(response.headers)
    assert len(headers.pop("x-request-id")) == 16
    return headers


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    settings = Settings(
        data=tmp_path_factory.mktemp("express"), max_body_bytes=1 << 20, max_content_bytes=1 << 18, host="127.0.0.1"
    )
    with open_site(settings) as site, pytest.MonkeyPatch.context() as patch:
        passed_on: list[str] = []
        patch.setattr(api, "Express", lambda app, routes: Express(_watched(app, passed_on), routes=routes))
        wes = WesApi(
            store=site.store,
            settings=settings,
            engines={"snakemake": snakemake()},
            check_url=check_url,
            schemes=lambda: ("file",),
            clock=ticking_clock,
            new_id=Ids(),
            admission=Admission(site_limits(settings), site.store, settings, ticking_clock),
        )
        apps = [_app(site, wes, express=express) for express in (True, False)]
        with (
            TestClient(apps[0], raise_server_exceptions=False) as quick,
            TestClient(apps[1], raise_server_exceptions=False) as plain,
        ):
            yield Both(site, quick, plain, passed_on)


def _app(site: Site, wes: WesApi, *, express: bool) -> Any:
    access = api.Access(site.store, site.clock)
    every = [site.tes(), *services(wes)]
    return api.build_app(every, settings=site.settings, access=access, ready=site.store.ready, express=express)


def _watched(app: Any, passed_on: list[str]) -> Any:
    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            passed_on.append(scope["path"])
        await app(scope, receive, send)

    return watched


@pytest.fixture(scope="module")
def known(both: Both) -> dict[str, str]:
    """Jobs of every sort, by name."""
    store = both.site.store
    made = {"waiting": _created(both, GOOD_TASK)}
    made["ended"] = _created(both, {**GOOD_TASK, "inputs": [{"path": "/in", "content": "data"}]})
    store.request_cancel(made["waiting"], now=both.site.clock())
    finish(both.site, made["ended"])
    made["foreign"] = store.create(a_new_job(owner="local|eve")).id
    made["run"] = store.create(a_new_job(run=a_run(tags={"a": "b"}), owner="local|anonymous")).id
    made["step"] = store.create(a_new_job(owner="local|anonymous", parent=made["run"])).id
    return made


def _created(both: Both, document: Any) -> str:
    response = both.plain.post(f"{TES}/tasks", json=document)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def engine(both: Both, run: str) -> dict[str, str]:
    principal = Principal(issuer="local", subject="anonymous", run=run)
    return {"Authorization": "Bearer " + both.site.store.create_token(principal, now=0, expires_at=None)}


# -- what the lane takes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [TES, "/v1"])
@pytest.mark.parametrize("view", ["", "?view=MINIMAL", "?view=BASIC", "?view=FULL"])
def test_gets_and_lists_in_every_view_are_the_same_and_quick(
    both: Both, known: dict[str, str], base: str, view: str
) -> None:
    for name in ("waiting", "ended", "step"):
        assert both.took("GET", f"{base}/tasks/{known[name]}{view}")
    assert both.took("GET", f"{base}/tasks{view}")


@pytest.mark.parametrize("query", ["page_size=1", "page_size=2047", "page_token=", "state=CANCELED", "state=UNKNOWN"])
def test_good_lists_are_the_same_and_quick(both: Both, known: dict[str, str], query: str) -> None:
    assert both.took("GET", f"{TES}/tasks?{query}")


def test_pages_lead_on_from_one_lane_to_the_other(both: Both, known: dict[str, str]) -> None:
    token = both.quick.get(f"{TES}/tasks?page_size=1").json()["next_page_token"]
    assert both.same("GET", f"{TES}/tasks?page_size=1&page_token={token}").status_code == 200


@pytest.mark.parametrize("query", [query for query, *_ in TRUTH])
def test_tag_filters_are_the_same_and_quick(both: Both, known: dict[str, str], query: str) -> None:
    assert both.took("GET", f"{TES}/tasks?{query}&view=BASIC")


@pytest.mark.parametrize("document", [GOOD_TASK, FULL], ids=["small", "full"])
@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_a_create_is_the_same_and_quick(both: Both, document: Any, content_type: str) -> None:
    options = {"content": json.dumps(document), "headers": {"content-type": content_type}}
    answer = both.same("POST", f"{TES}/tasks", **options)
    if answer.status_code == 200:
        assert both.took("POST", f"{TES}/tasks", **options)
        stored = [client.post(f"{TES}/tasks", **options).json()["id"] for client in (both.quick, both.plain)]
        rows = [both.site.store.row(job_id) for job_id in stored]
        assert rows[0] is not None
        assert rows[1] is not None
        assert rows[0].document == rows[1].document


def test_runs_are_the_same_and_quick(both: Both, known: dict[str, str]) -> None:
    assert both.took("GET", f"{WES}/runs/{known['run']}/status")
    for query in ("", "?page_size=1", "?state=QUEUED", "?tag_key=a&tag_value=b"):
        assert both.took("GET", f"{WES}/runs{query}")


# -- what it leaves to connexion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "project=x",
        "view=full",
        "view=",
        "view=MINIMAL&view=FULL",
        "state=DONE",
        "state=",
        "page_size=0",
        "page_size=-1",
        "page_size=2048",
        "page_size=1.5",
        "page_size=",
        "page_size=%2B1",
        "page_size=" + "9" * 5000,
        "page_size=1&page_size=2",
        "name_prefix=" + "x" * 2000,
    ],
)
def test_what_is_not_plainly_good_goes_to_connexion(both: Both, known: dict[str, str], query: str) -> None:
    assert not both.took("GET", f"{TES}/tasks?{query}")


@pytest.mark.parametrize(
    "query",
    ["page_token=x", "page_token=%00", "page_token=é", "name_prefix=%00", "name_prefix=%ff", "tag_value=1", "&"],
)
def test_what_a_handler_refuses_is_explained_the_same(both: Both, known: dict[str, str], query: str) -> None:
    both.same("GET", f"{TES}/tasks?{query}")
    both.same("GET", f"{WES}/runs?{query}")


@pytest.mark.parametrize("title", BAD_TASKS)
def test_bad_tasks_are_explained_the_same(both: Both, title: str) -> None:
    both.same("POST", f"{TES}/tasks", content=json.dumps(BAD_TASKS[title][0]), headers=JSON)


@pytest.mark.parametrize("title", BAD_BODIES)
def test_bad_bodies_are_explained_the_same(both: Both, title: str) -> None:
    body, headers, *_ = BAD_BODIES[title]
    answer = both.same("POST", f"{TES}/tasks", content=body, headers=headers)
    assert answer.status_code == BAD_BODIES[title][2]


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "a key"])
def test_idempotency_keys_are_the_same(both: Both, key: str) -> None:
    for document in (GOOD_TASK, {"executors": [STEP]}):
        both.same("POST", f"{TES}/tasks", json=document, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(
    "task_id", ["x", "x:cancel", "0" * 26, "..", "%00", "a%20b", "é", "x" * 5000, "service-info", "a%2Fb", ""]
)
def test_odd_ids_are_explained_the_same(both: Both, known: dict[str, str], task_id: str) -> None:
    both.same("GET", f"{TES}/tasks/{task_id}?view=BASIC")
    both.same("GET", f"{WES}/runs/{task_id}/status")


def test_what_belongs_to_others_is_missing_the_same(both: Both, known: dict[str, str]) -> None:
    for name in ("foreign", "run"):
        assert both.same("GET", f"{TES}/tasks/{known[name]}").status_code == 404
    assert both.same("GET", f"{WES}/runs/{known['waiting']}/status").status_code == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "OPTIONS", "PATCH"])
def test_other_methods_are_the_same(both: Both, known: dict[str, str], method: str) -> None:
    assert not both.took(method, f"{TES}/tasks")
    assert not both.took(method, f"{TES}/tasks/{known['waiting']}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "https://evil.example"},
        {"Authorization": "Basic Tm9uZTpOb25l"},
        {"Authorization": "Bearer old"},
        {"X-Long": "x" * 70_000},
        {"Accept": "text/html"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_the_gate_stands_before_the_lane(both: Both, known: dict[str, str], headers: dict[str, str]) -> None:
    both.same("GET", f"{TES}/tasks/{known['waiting']}", headers=headers)
    both.same("POST", f"{TES}/tasks", json=GOOD_TASK, headers=headers)
    both.same("GET", f"{WES}/runs", headers=headers)


def test_an_engine_is_kept_to_its_run_in_the_lane_too(both: Both, known: dict[str, str]) -> None:
    headers = engine(both, known["run"])
    assert both.same("GET", f"{TES}/tasks/{known['step']}", headers=headers).status_code == 200
    assert both.same("GET", f"{TES}/tasks/{known['waiting']}", headers=headers).status_code == 404
    assert both.same("GET", f"{WES}/runs", headers=headers).status_code == 403
    made = both.quick.post(f"{TES}/tasks", json=GOOD_TASK, headers=headers).json()["id"]
    job = both.site.store.get(made)
    assert job is not None
    assert job.parent == known["run"]


def test_a_body_that_comes_in_pieces_is_one_body(both: Both) -> None:
    pieces = json.dumps(GOOD_TASK).encode()
    answers = [
        client.post(f"{TES}/tasks", content=iter([pieces[:10], pieces[10:]]), headers=JSON)
        for client in (both.quick, both.plain)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_tasks_made_in_the_lane_are_on_disk_when_it_answers(both: Both) -> None:
    made = both.quick.post(f"{TES}/tasks", json=GOOD_TASK).json()["id"]
    row = both.site.store.row(made)
    assert row is not None
    assert row.kind == Kind.TASK
