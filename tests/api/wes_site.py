"""A live WES for tests: the real store and application on a free port, with engines that run nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.api.conftest import serving
from weft.auth.access import ANONYMOUS, Access
from weft.clock import new_id
from weft.config import Settings
from weft.errors import Forbidden, InvalidRequest
from weft.folders import Folders
from weft.http.api import build_app
from weft.limits import Admission, site_limits
from weft.model import Job, JsonObject, Kind, NewJob, Principal, Run, Step, StepResult, Tail, Task, task_to_json
from weft.ports import EngineInfo, EngineParameter
from weft.states import State
from weft.store.store import Store
from wes_service.api import WesApi
from wes_service.app import services

WORKER = "tester"
_moments = itertools.count(1)


def ticking_clock() -> float:
    """Tell a time that is always later than the one before, so that the order of jobs is certain."""
    return 1_767_225_600.0 + next(_moments)


@dataclass
class FakeEngine:
    """Accepts everything but the engine parameter "forbidden"."""

    info: EngineInfo
    seen: list[Run] = field(default_factory=list)

    def validate(self, run: Run) -> None:
        self.seen.append(run)
        if "forbidden" in run.workflow_engine_parameters:
            raise InvalidRequest("forbidden is no parameter of this engine", field="workflow_engine_parameters")

    def step(self, run: Run, work: Path, outcome: Path, tes_url: str, token_file: Path) -> Step:
        raise AssertionError("WES never starts an engine")

    def outputs(self, outcome: Path) -> JsonObject:
        raise AssertionError("WES never reads an outcome")


def snakemake() -> FakeEngine:
    return FakeEngine(
        EngineInfo(
            name="snakemake",
            version="9.27.0",
            workflow_types={"SMK": ("9.27.0",)},
            aliases={"snakemake": "SMK"},
            parameters=(EngineParameter(name="cores", type="integer", default_value="1"),),
        )
    )


def cwltool() -> FakeEngine:
    return FakeEngine(EngineInfo(name="cwltool", version="3.1", workflow_types={"CWL": ("1.0", "1.1", "v1.2")}))


def check_url(url: str, *, writing: bool) -> None:
    """Stand in for the stagers: no network."""
    assert not writing
    if "169.254" in url:
        raise Forbidden(f"{url} may not be fetched", field="url")
    if "@" in url:
        raise InvalidRequest("credentials in a URL", field="url")


@dataclass
class Site:
    """One server with its store."""

    store: Store
    folders: Folders
    engines: Mapping[str, FakeEngine]
    url: str

    @property
    def wes(self) -> str:
        return f"{self.url}/ga4gh/wes/v1"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.wes}{path}", timeout=30, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(f"{self.wes}{path}", timeout=30, **options)

    def json(self, path: str, **options: Any) -> dict[str, Any]:
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def submit(self, attachments: Mapping[str, bytes] | None = None, **fields: str) -> str:
        form = {"workflow_type": "SMK", "workflow_type_version": "9", "workflow_url": "Snakefile", **fields}
        files = {"Snakefile": b"rule all:\n"} if attachments is None else attachments
        answer = self.post("/runs", files=multipart(form, files))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def claim(self, job_id: str, now: float = 1000.0) -> Job:
        claimed = self.store.claim(WORKER, {Kind.RUN, Kind.TASK}, 100, now=now, until=now + 1e9)
        assert job_id in {job.id for job in claimed}
        moved = self.store.move(job_id, {State.INITIALIZING}, State.RUNNING, now=now, lease_owner=WORKER)
        assert moved is not None
        return moved

    def end(
        self,
        job_id: str,
        state: State = State.COMPLETE,
        *,
        now: float = 1010.0,
        exit_code: int = 0,
        outputs: JsonObject | None = None,
        tails: Sequence[Tail] = (),
        message: str | None = None,
    ) -> Job:
        steps = [StepResult(started_at=1001.0, ended_at=1009.0, exit_code=exit_code)]
        moved = self.store.move(
            job_id,
            {State.RUNNING},
            state,
            now=now,
            lease_owner=WORKER,
            steps=steps,
            run_outputs=outputs,
            tails=tails,
            message=message,
        )
        assert moved is not None
        return moved

    def add_task(self, run_id: str, *, owner: Principal = ANONYMOUS, **changes: Any) -> str:
        task = Task(**{"steps": (Step(image="busybox", command=("echo", "hello")),), "name": "rule all", **changes})
        now = ticking_clock()
        new = NewJob(
            id=new_id(now),
            kind=Kind.TASK,
            owner=owner.name,
            document=task_to_json(task),
            created_at=now,
            name=task.name,
            parent=run_id,
        )
        return self.store.create(new).id

    def add_foreign_run(self) -> str:
        """Store a run of somebody else."""
        mine = self.job(self.submit())
        new = NewJob(id=new_id(2e9), kind=Kind.RUN, owner="elsewhere|mallory", document=mine.document, created_at=2e9)
        return self.store.create(new).id

    def write(self, run_id: str, path: str, content: bytes) -> Path:
        target = self.folders.work(run_id) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def kept(self) -> tuple[int, list[str]]:
        """Return the number of runs and the names of the job folders: what a refused request must not change."""
        jobs = self.folders.data / "jobs"
        names = sorted(path.name for path in jobs.iterdir()) if jobs.is_dir() else []
        return sum(self.store.counts(Kind.RUN, None).values()), names


def multipart(form: Mapping[str, str], attachments: Mapping[str, bytes]) -> list[tuple[str, Any]]:
    """Return what ``requests`` takes as ``files``; text fields have no file name."""
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in form.items()]
    return parts + [("workflow_attachment", (name, body)) for name, body in attachments.items()]


@contextmanager
def running_site(data: Path, **changes: Any) -> Iterator[Site]:
    """Serve WES over a new store below ``data``."""
    data.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=data, **changes)
    store = Store(settings.database_url)
    store.start()
    engines = {engine.info.name: engine for engine in (snakemake(), cwltool())}
    api = WesApi(
        store=store,
        settings=settings,
        engines=engines,
        check_url=check_url,
        schemes=lambda: ("", "file", "http", "https"),
        clock=ticking_clock,
        new_id=new_id,
        admission=Admission(site_limits(settings), store, settings, ticking_clock),
    )
    access = Access(store, ticking_clock)
    app = build_app(services(api), settings=settings, access=access, ready=store.ready)
    try:
        with serving(app) as url:
            yield Site(store=store, folders=Folders(data), engines=engines, url=url)
    finally:
        store.stop()
