"""weft's HTTP side over a real store in a fresh folder: in process for most tests, on a real port for clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from tes_service import app as tes
from tes_service.api import TesApi
from tests.fakes import Clock, Ids
from weft.auth.access import Access
from weft.config import Settings
from weft.http.api import Service, build_app
from weft.limits import Admission, site_limits
from weft.model import Kind
from weft.staging.stagers import Stagers, installed
from weft.store.store import Filters, Store, WorkerInfo

#: What every error document has, whoever made it.
ERROR_MEMBERS = {"msg", "status_code", "type", "title", "detail", "status", "request_id"}


@dataclass(frozen=True)
class Site:
    """All that stands behind the HTTP side."""

    settings: Settings
    store: Store
    clock: Clock
    stagers: Stagers

    def tes(self) -> Service:
        api = TesApi(
            store=self.store,
            settings=self.settings,
            check_url=self.stagers.check_url,
            schemes=lambda: self.stagers.schemes,
            clock=self.clock,
            new_id=Ids(),
            admission=Admission(site_limits(self.settings), self.store, self.settings, self.clock),
        )
        return tes.service(api)

    def app(self, services: Sequence[Service]) -> Any:
        access = Access(self.store, self.clock)
        return build_app(services, settings=self.settings, access=access, ready=self.store.ready)

    def announce(self, **capabilities: Any) -> None:
        """Let a worker say what it can do, and let the services forget what they knew."""
        told = {"executor": "docker", "uses_image": True, "backend_parameters": [], **capabilities}
        self.store.announce(WorkerInfo(id="worker-1", heartbeat_at=self.clock(), capabilities=told))
        self.clock.pass_(2)

    def stored(self) -> int:
        """Count the jobs in the database."""
        return len(self.store.page(Kind.TASK, Filters(), 1000, None).jobs)


@pytest.fixture
def file_root(tmp_path: Path) -> Path:
    """A folder that ``file://`` URLs may name."""
    root = tmp_path / "open"
    root.mkdir()
    return root


@pytest.fixture
def settings(tmp_path: Path, file_root: Path) -> Settings:
    return _settings(tmp_path / "data", file_root)


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with open_site(settings) as site:
        yield site


@pytest.fixture(scope="module")
def quiet_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of a module that leave nothing in it."""
    folder = tmp_path_factory.mktemp("quiet")
    with open_site(_settings(folder / "data", folder)) as site:
        assert site.stagers.schemes  # loads them all, so that no test measures the import of their SDKs
        yield site


@pytest.fixture(scope="module")
def quiet_client(quiet_site: Site) -> Iterator[TestClient]:
    """A client of the quiet site's TES."""
    with TestClient(quiet_site.app([quiet_site.tes()]), raise_server_exceptions=False) as client:
        yield client


def _settings(data: Path, file_root: Path) -> Settings:
    return Settings(data=data, file_roots=(file_root,), max_body_bytes=1 << 20, max_content_bytes=1 << 18)


@contextmanager
def open_site(settings: Settings) -> Iterator[Site]:
    """Start the store of a site, and stop it."""
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.database_url)
    store.start()
    try:
        yield Site(settings, store, Clock(), installed(settings))
    finally:
        store.stop()


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    """A client of TES alone, in process."""
    with TestClient(site.app([site.tes()]), raise_server_exceptions=False) as client:
        yield client


@contextmanager
def serving(app: Any, *, unix: Path | None = None) -> Iterator[str]:
    """Serve on a free port of loopback, and give its URL; with ``unix``, on that socket as well."""
    tcp = socket.create_server(("127.0.0.1", 0))
    sockets = [tcp]
    if unix is not None:
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(unix))
        sockets.append(door)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, loop="uvloop", http="httptools", lifespan="on"))
    ready = threading.Event()
    startup = server.startup

    async def started(sockets: Any = None) -> None:
        await startup(sockets=sockets)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
    thread.start()
    try:
        assert ready.wait(10)
        yield f"http://127.0.0.1:{tcp.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        for item in sockets:
            item.close()


def assert_error(response: Any, status: int, *words: str) -> dict[str, Any]:
    """Check that a response is weft's one error document; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    assert ERROR_MEMBERS <= set(document) <= {*ERROR_MEMBERS, "field", "remedy"}
    assert document["status_code"] == document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    for word in words:
        assert word in document["msg"], document["msg"]
    return document
