"""One request to several nodes: parts that are ordinary jobs, one answer, one cancel, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from executors.fanout import FanOutExecutor
from executors.scripted import ScriptedBackend, ScriptedExecutor
from tests.builders import NOW, a_new_job, a_run, a_step, a_task
from tests.crash.world import Inline
from weft.dispatch import Means
from weft.errors import InvalidRequest, Unavailable
from weft.federation import fanout
from weft.folders import Folders
from weft.model import Job, JsonObject, Kind, Output, Resources
from weft.ports import Capabilities, Failure
from weft.prepare import HandedOver
from weft.states import State
from weft.store.store import Filters, Store
from weft.worker import Worker


class Nodes(ScriptedExecutor):
    """Single nodes, as a script plays them."""

    def attach(self, store: Store) -> None:
        """Nothing is needed."""


@dataclass
class Hub:
    """A hub with scripted nodes, in one thread, on a clock of its own."""

    data: Path
    store: Store
    now: float = NOW
    backend: ScriptedBackend = field(default_factory=lambda: ScriptedBackend(holds=True))
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def clock(self) -> float:
        return self.now

    def restart(self) -> None:
        """Let the worker die without a word, and begin anew when its leases are over."""
        self.now += 60
        nodes = Nodes(self.backend, Capabilities(name="node", stages=True, wakes=True))
        self.nodes = nodes
        folders = Folders(self.data)
        executor = FanOutExecutor(nodes, folders=folders, clock=self.clock, cancel_seconds=0.0)
        executor.attach(self.store)
        means = Means(
            store=self.store,
            folders=folders,
            clock=self.clock,
            worker=f"worker-{self.now}",
            preparations={Kind.TASK: HandedOver(), Kind.RUN: HandedOver()},
            time_limits={Kind.TASK: None, Kind.RUN: None},
            log_tail_bytes=1000,
        )
        self.worker = Worker(
            means=means,
            placement={Kind.TASK: executor, Kind.RUN: executor},
            executors={"node": executor},
            slots={Kind.TASK: 100, Kind.RUN: 100},
            pool=Inline(),
        )
        executor.start(self.worker.wake)

    def turn(self, times: int = 11) -> None:
        """Let the worker look at everything once, whoever woke it."""
        for _ in range(times):
            self.now += 2
            self.worker.turn()

    def submit(self, **given: Any) -> str:
        resources = Resources(backend_parameters=given.pop("parameters", {}))
        new = a_new_job(task=a_task(steps=(a_step(command=("sleep", "600")),), resources=resources, **given))
        self.store.create(new)
        self.turn()
        return new.id

    def part(self, whole: str, node: str) -> Job:
        job = self.store.get(fanout.child_id(whole, 1, node))
        assert job is not None
        return job

    def end(self, whole: str, node: str, code: int = 0) -> None:
        key = self.part(whole, node).key
        self.backend.begin(key)
        self.backend.finish(key, code)
        self.turn()

    def fail(self, whole: str, node: str, reason: str) -> None:
        self.backend.fail(self.part(whole, node).key, Failure(reason=reason))
        self.turn()

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def said(self, job_id: str) -> str:
        return "\n".join(event.message for event in self.store.events(job_id) if event.message)

    def metadata(self, job_id: str) -> dict[str, str]:
        return dict(self.store.attempts([job_id])[job_id][-1].metadata)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    store = Store(f"sqlite:///{tmp_path / 'weft.db'}")
    store.start()
    yield Hub(tmp_path, store)
    store.stop()


def test_each_node_gets_a_job_of_its_own_and_the_whole_ends_with_the_last(hub: Hub) -> None:
    outputs = (Output(path="/out", url="s3://results/{node}/out"),)
    whole = hub.submit(parameters={"nodes": "cz, ee"}, outputs=outputs, tags={"mine": "kept"})
    parts = [hub.part(whole, node) for node in ("cz", "ee")]
    assert [part.parent for part in parts] == [whole, whole]
    assert parts[1].document["resources"]["backend_parameters"] == {"node": "ee"}
    assert (parts[1].document["outputs"][0]["url"], parts[1].tags) == ("s3://results/ee/out", {"mine": "kept"})
    hub.end(whole, "cz")
    assert hub.job(whole).state is State.RUNNING
    hub.end(whole, "ee")
    assert hub.job(whole).state is State.COMPLETE
    assert hub.metadata(whole)["partial"] == "false"


def test_all_are_required_and_the_rest_of_a_failure_is_kept_and_flagged(hub: Hub) -> None:
    whole = hub.submit(parameters={"nodes": "cz,ee,pt"})
    hub.end(whole, "cz")
    hub.end(whole, "ee")
    hub.fail(whole, "pt", "refused: the committee has not agreed")
    assert hub.job(whole).state is State.SYSTEM_ERROR
    assert hub.metadata(whole) | {"nodes": "2 of 3", "partial": "true", "node.pt": "SYSTEM_ERROR"} == hub.metadata(
        whole
    )
    assert (
        "partial result: 2 of 3 nodes did it (all are required); node pt: SYSTEM_ERROR: refused: the com"
        in hub.said(whole)
    )


def test_a_quorum_makes_a_partial_result_a_success(hub: Hub) -> None:
    whole = hub.submit(parameters={"nodes": "cz,ee,pt", "require": "quorum:2"})
    hub.fail(whole, "cz", "no")
    hub.end(whole, "ee")
    hub.end(whole, "pt")
    assert hub.job(whole).state is State.COMPLETE
    assert "2 are required); node cz: SYSTEM_ERROR: no" in hub.said(whole)
    assert hub.metadata(whole)["partial"] == "true"


def test_a_program_that_failed_at_a_node_is_the_programs_fault(hub: Hub) -> None:
    whole = hub.submit(parameters={"nodes": "cz,ee"})
    hub.end(whole, "cz")
    hub.end(whole, "ee", 7)
    assert hub.job(whole).state is State.EXECUTOR_ERROR
    assert "node ee: EXECUTOR_ERROR: step 0 ended with exit code 7" in hub.said(whole)


def test_one_cancel_ends_all_parts_before_the_whole(hub: Hub) -> None:
    whole = hub.submit(parameters={"nodes": "cz,ee"})
    hub.end(whole, "cz")
    hub.backend.begin(hub.part(whole, "ee").key)
    hub.nodes.fail_at("cancel", Unavailable("node ee has not stopped yet"))
    hub.store.request_cancel(whole, now=hub.now, message="enough")
    hub.worker.turn()
    assert hub.job(whole).state is State.CANCELING
    hub.turn(20)
    assert (hub.job(whole).state, hub.part(whole, "ee").state) == (State.CANCELED, State.CANCELED)
    assert hub.part(whole, "cz").state is State.COMPLETE


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_death_while_parts_are_made_makes_none_twice(hub: Hub, made: int) -> None:
    create, calls = hub.store.create, []

    def dying(new: Any) -> Job:
        if new.parent is not None:
            calls.append(new.id)
            if len(calls) > made:
                raise KeyboardInterrupt
        return create(new)

    hub.store.create = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        hub.submit(parameters={"nodes": "cz,ee,pt"})
    hub.store.create = create  # type: ignore[method-assign]
    hub.restart()
    hub.turn()
    every = hub.store.page(Kind.TASK, Filters(), 100, None).jobs
    wholes = [job for job in every if job.parent is None]
    assert (len(every), len(wholes)) == (4, 1)
    for node in ("cz", "ee", "pt"):
        hub.end(wholes[0].id, node)
    assert hub.job(wholes[0].id).state is State.COMPLETE


def test_a_worker_that_takes_over_watches_the_same_parts(hub: Hub) -> None:
    whole = hub.submit(parameters={"nodes": "cz,ee"})
    hub.end(whole, "cz")
    hub.restart()
    hub.turn()
    hub.end(whole, "ee")
    assert hub.job(whole).state is State.COMPLETE
    assert len(hub.store.page(Kind.TASK, Filters(), 100, None).jobs) == 3


def test_a_whole_takes_no_share_from_its_parts(hub: Hub) -> None:
    """An owner who may have one job running would wait for ever, if the whole were that one."""
    hub.store.allow("alice", 1)
    whole = hub.submit(parameters={"nodes": "cz,ee"})
    first, second = sorted(("cz", "ee"), key=lambda node: hub.part(whole, node).state is State.QUEUED)
    assert hub.part(whole, second).state is State.QUEUED
    hub.end(whole, first)
    hub.end(whole, second)
    assert hub.job(whole).state is State.COMPLETE


def test_one_node_alone_is_no_fan_out(hub: Hub) -> None:
    task = hub.submit()
    assert hub.backend.known() == [f"{task}-1"]


def test_a_run_takes_its_attachments_along_and_brings_the_files_of_each_node_together(hub: Hub) -> None:
    run = a_run(workflow_engine_parameters={"nodes": "cz,ee", "cores": "2"}, workflow_params={"x": "results/t"})
    new = a_new_job(run=run)
    folders = Folders(hub.data)
    folders.work(new.id).mkdir(parents=True)
    (folders.work(new.id) / "Snakefile").write_text("rule all:\n")
    hub.store.create(new)
    hub.turn()
    for node in ("cz", "ee"):
        part = hub.part(new.id, node)
        assert part.run.workflow_engine_parameters == {"node": node, "cores": "2"}
        work = folders.work(part.id)
        assert (work / "Snakefile").exists()
        (work / "results").mkdir()
        (work / "results" / "t").write_text(f"of {node}")
        (work / "link").symlink_to("/etc/passwd")
        _finish_run(hub, part, {"files": ["results/t", "results/none", "link", "../../x"]})
    hub.turn()
    whole = hub.job(new.id)
    assert whole.state is State.COMPLETE
    assert whole.outputs is not None
    assert whole.outputs["partial"] is False
    assert whole.outputs["nodes"]["ee"]["outputs"]["files"] == ["nodes/ee/results/t", "results/none", "link", "../../x"]
    assert (folders.work(new.id) / "nodes" / "ee" / "results" / "t").read_text() == "of ee"


@pytest.mark.parametrize(
    ("parameters", "tags", "words"),
    [
        ({"nodes": "cz,,ee"}, {}, "nodes is no list of different nodes"),
        ({"nodes": "cz,cz"}, {}, "nodes is no list of different nodes"),
        ({"nodes": "cz,ee", "require": "quorum:3"}, {}, "require is 'quorum:3'"),
        ({"nodes": "cz,ee", "require": "most"}, {}, "require is 'most'"),
        ({"nodes": "cz,ee", "node": "cz"}, {}, "names one node and nodes several"),
        ({"require": "all"}, {}, "means nothing without nodes"),
        ({}, {"Project": "p", "tres": "a||b"}, "tags.tres is no list"),
    ],
)
def test_what_means_nothing_is_refused_with_its_member(parameters: JsonObject, tags: JsonObject, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        fanout.read(Kind.TASK, {"resources": {"backend_parameters": parameters}, "tags": tags})


def test_outputs_of_several_nodes_may_not_fall_together() -> None:
    document = {"outputs": [{"url": "s3://b/o"}], "resources": {"backend_parameters": {"nodes": "a,b"}}}
    with pytest.raises(InvalidRequest, match=r"outputs\[0\].url: all nodes would store it in one place"):
        fanout.read(Kind.TASK, document)


def test_the_tags_of_5s_tes_mean_the_same() -> None:
    tags = {"Project": "p1", "tres": "Nottingham|Swansea"}
    assert fanout.read(Kind.TASK, {"tags": tags}) == fanout.FanOut(("Nottingham", "Swansea"), 2)
    assert fanout.child_document(Kind.TASK, {"tags": tags}, "Swansea")["tags"] == {"Project": "p1"}
    assert fanout.read(Kind.TASK, {"tags": {"tres": "a|b"}}) is None


def test_the_id_of_a_part_is_always_the_same_and_looks_like_any() -> None:
    whole = "01m7z76p80wmedrppafqyq6pas"
    part = fanout.child_id(whole, 1, "cz")
    assert part == fanout.child_id(whole, 1, "cz") != fanout.child_id(whole, 2, "cz")
    assert (len(part), part[:10], part.isalnum()) == (26, whole[:10], True)


def _finish_run(hub: Hub, part: Job, outputs: JsonObject) -> None:
    """End a run at its node with this output object."""
    native = hub.backend._jobs[part.key]
    native.observation = replace(native.observation, run_outputs=outputs)
    hub.backend.begin(part.key)
    hub.turn()
