"""TES and WES behind a login, in process, with issuers on loopback."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.auth.provider import AUDIENCE, Provider
from weft.auth.access import Access, open_access
from weft.clock import system_clock
from weft.config import Settings
from weft.http.api import Service, build_app
from weft.http.request import Request
from weft.model import Principal
from weft.sections.login import AuthSettings
from weft.sections.transfer import FetchSettings
from weft.store.store import Store
from weft.wiring import make_app

WHO = """
openapi: 3.0.1
info: {title: who, version: "1"}
paths:
  /who:
    get:
      operationId: WhoAmI
      responses: {'200': {description: '', content: {application/json: {schema: {type: object}}}}}
"""


class Who:
    """Answers with what is known of the caller."""

    def who_am_i(self, request: Request) -> Any:
        caller = request.principal
        return {
            "name": caller.name,
            "roles": sorted(caller.roles),
            "groups": sorted(caller.groups),
            "visas": [
                [visa.issuer, visa.subject, visa.type, visa.value, visa.source, visa.by] for visa in caller.visas
            ],
            "scopes": None if caller.scopes is None else sorted(caller.scopes),
        }


class Clock:
    """The system's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return system_clock() + self.ahead


@dataclass
class LoginSite:
    """A weft that asks who is there."""

    client: TestClient
    store: Store
    access: Access
    clock: Clock
    data: Path

    def who(self, token: str | None = None, *, passport: str | None = None) -> Any:
        """Ask with a bearer token; returns the response."""
        return self.client.get("/weft/v1/who", headers=bearer(token, passport))

    def local_token(self, subject: str, **changes: Any) -> str:
        """Make a token as `weft token create` does."""
        principal = Principal(issuer="local", subject=subject, **changes)
        return self.store.create_token(principal, now=self.clock(), expires_at=None)


def bearer(token: str | None, passport: str | None = None) -> dict[str, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return headers if passport is None else {**headers, "GA4GH-Passport": passport}


def basic(user: str, token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider().serving() as provider:
        yield provider


@pytest.fixture
def other() -> Iterator[Provider]:
    """A second issuer."""
    with Provider().serving() as provider:
        yield provider


OpenSite = Callable[..., LoginSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """Start a site with these settings of [auth]."""
    with ExitStack() as cleanup:

        def start(
            *issuers: Provider,
            allow_hosts: tuple[str, ...] | None = None,
            issuer: dict[str, Any] | None = None,
            settings: dict[str, Any] | None = None,
            full: bool = False,
            **auth: Any,
        ) -> LoginSite:
            hosts = tuple(item.host for item in issuers) if allow_hosts is None else allow_hosts
            documents = [{"issuer": item.issuer, "audience": [AUDIENCE], **(issuer or {})} for item in issuers]
            loaded = Settings(
                data=tmp_path / "data",
                auth=AuthSettings.model_validate(
                    {"login": None if documents else "tokens", "issuers": documents, "remember_seconds": 0, **auth}
                ),
                fetch=FetchSettings(allow_hosts=hosts),
                **(settings or {}),
            )
            loaded.data.mkdir(exist_ok=True)
            store = Store(loaded.database_url)
            store.start()
            cleanup.callback(store.stop)
            clock = Clock()
            access = open_access(loaded.auth, loaded.fetch, store, clock)
            app = make_app(loaded, store) if full else _small_app(loaded, store, access, tmp_path)
            client = cleanup.enter_context(TestClient(app, raise_server_exceptions=False))
            return LoginSite(client, store, access, clock, loaded.data)

        yield start


def _small_app(settings: Settings, store: Store, access: Access, folder: Path) -> Any:
    (folder / "who.yaml").write_text(WHO)
    who = Service(name="who", spec=folder / "who.yaml", base_paths=("/weft/v1",), handler=Who(), ui=False)
    return build_app([who], settings=settings, access=access, ready=store.ready)
