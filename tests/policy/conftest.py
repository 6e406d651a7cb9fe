"""weft's HTTP side with the example policy and an audit record, and a client for each of its people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

import tes_service.app
import wes_service.app
from tes_service.api import TesApi
from tests.fakes import Clock, Ids, Tokens
from tests.policy.people import EXAMPLE
from weft.audit import place
from weft.auth.access import Access
from weft.auth.policy.in_force import PolicyFile
from weft.authority import Authority
from weft.backends import engines
from weft.clock import new_id
from weft.config import Settings
from weft.http import audit
from weft.http.api import build_app
from weft.limits import Admission, site_limits
from weft.model import Kind, Principal
from weft.staging.stagers import installed
from weft.store.store import Filters, Store
from wes_service.api import WesApi

TES, WES = "/ga4gh/tes/v1", "/ga4gh/wes/v1"


@dataclass
class Site:
    """A server in this process, its clock and its people."""

    settings: Settings
    store: Store
    authority: Authority
    clock: Clock
    client: TestClient
    #: The clock by which the policy file is looked at again.
    monotonic: Clock
    tokens: Tokens

    def as_(self, principal: Principal | None) -> dict[str, str]:
        """Return the headers of somebody."""
        if principal is None:
            return {}
        token = f"token-{len(self.tokens.known)}"
        self.tokens.known[token] = principal
        return {"authorization": f"Bearer {token}"}

    def create(self, principal: Principal, **members: Any) -> Any:
        task = {"executors": [{"image": "weft-busybox:1", "command": ["true"]}], "tags": {"Project": "heart"}}
        return self.client.post(f"{TES}/tasks", json={**task, **members}, headers=self.as_(principal))

    def created(self, principal: Principal, **members: Any) -> str:
        answer = self.create(principal, **members)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def get(self, path: str, principal: Principal | None, **params: Any) -> Any:
        return self.client.get(path, params=params, headers=self.as_(principal))

    def post(self, path: str, principal: Principal | None) -> Any:
        return self.client.post(path, headers=self.as_(principal))

    def submit_run(self, principal: Principal, **fields: str) -> Any:
        form = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile", **fields}
        files = [("workflow_attachment", ("Snakefile", b"rule all:\n"))]
        return self.client.post(f"{WES}/runs", data=form, files=files, headers=self.as_(principal))

    def said(self) -> list[dict[str, Any]]:
        """Return the entries of the audit record, but for those of its own life."""
        assert self.authority.journal is not None
        bodies = [orjson.loads(row.body) for row in self.authority.journal.table.after(0, 10_000)]
        return [body for body in bodies if body["action"] not in ("record.open", "policy.in_force")]

    def jobs(self) -> int:
        return len(self.store.page(Kind.TASK, Filters(), 1000, None).jobs)


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(EXAMPLE.read_text())
    return file


@pytest.fixture
def site(tmp_path: Path, policy_file: Path) -> Iterator[Site]:
    settings = Settings(data=tmp_path / "data", policy=policy_file)
    settings.data.mkdir()
    store = Store(settings.database_url)
    store.start()
    clock, monotonic, tokens = Clock(), Clock(0), Tokens()
    journal = place.open_journal(settings, clock)
    policy = PolicyFile(policy_file, monotonic)
    authority = Authority(clock=clock, job=store.get, policy=policy, journal=journal)
    policy.on_change(authority.note_policy)
    stagers = installed(settings)
    common: dict[str, Any] = {
        "store": store,
        "settings": settings,
        "check_url": stagers.check_url,
        "schemes": lambda: stagers.schemes,
        "clock": clock,
        "admission": Admission(site_limits(settings), store, settings, monotonic),
        "authority": authority,
    }
    services = (
        tes_service.app.service(TesApi(new_id=Ids(), **common)),
        *wes_service.app.services(WesApi(new_id=new_id, engines=engines(settings), **common)),
        audit.service(authority),
    )
    app = build_app(services, settings=settings, access=Access(tokens, clock), ready=store.ready, authority=authority)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Site(settings, store, authority, clock, client, monotonic, tokens)
    authority.close()
    store.stop()
