"""Hub, agent and site die before and after every call, the wire is cut everywhere; the promise holds on both sides."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.crash.world import Death, Life, World
from tests.federation.world import Federation, HubWorld, SiteWorld, backup_of
from weft.states import State
from weft.store import assignments
from weft.store.store import Store

MOST_MOMENTS = 600

Make = Callable[..., Federation]


@pytest.fixture
def federations(tmp_path: Path) -> Iterator[Make]:
    stores: list[Store] = []
    template = tmp_path / "template.db"
    first = Store(f"sqlite:///{template}")
    first.start()
    first.stop()

    def store_in(data: Path) -> Store:
        data.mkdir(parents=True)
        shutil.copyfile(template, data / "weft.db")
        store = Store(f"sqlite:///{data / 'weft.db'}")
        store.start()
        stores.append(store)
        return store

    def stop_all() -> None:
        while stores:
            stores.pop().stop()

    def make(number: int, lives: dict[str, Life] | None = None, *, ahead: float = 0.0) -> Federation:
        stop_all()
        folder = tmp_path / str(number)
        site = World(folder / "site", store_in(folder / "site"))
        site.files.mkdir()
        hub = HubWorld(folder / "hub", store_in(folder / "hub"), site.clock)
        return Federation(hub, SiteWorld(site, hub, ahead=ahead), lives or {})

    yield make
    stop_all()


def completes(federation: Federation, job_id: str) -> None:
    federation.turn(3)


def is_cancelled(federation: Federation, job_id: str) -> None:
    federation.turn(2)
    federation.hub.store.request_cancel(job_id, now=federation.hub.clock())
    federation.turn(3)


Story = Callable[[Federation, str], None]
STORIES = {
    "completes": (completes, ("echo", "hello"), State.COMPLETE),
    "fails": (completes, ("sh", "-c", "exit 3"), State.EXECUTOR_ERROR),
    "is cancelled": (is_cancelled, ("sleep", "1000"), State.CANCELED),
}


@pytest.mark.parametrize("role", ["hub", "agent", "site"])
@pytest.mark.parametrize("name", ["completes", "is cancelled"])
def test_the_promise_holds_on_both_sides_after_a_death_at_every_moment(federations: Make, role: str, name: str) -> None:
    story, command, end = STORIES[name]
    for moment in range(MOST_MOMENTS):
        life = Life(dies_at=moment)
        federation = federations(moment, {role: life})
        job_id = federation.hub.create(*command)
        with suppress(Death):
            story(federation, job_id)
        if story is is_cancelled:  # the user's wish stands, whoever died
            federation.hub.store.request_cancel(job_id, now=federation.hub.clock())
        federation.after_a_death()
        federation.settle()
        assert federation.assert_the_promise([job_id]) == {job_id: end}, f"{role} died {life.last}"
        if not life.dead:
            assert moment > 5, "the story passes more moments than this"
            return
    pytest.fail("the story did not survive in the end")


@pytest.mark.parametrize("fault", ["cut before", "cut after", "twice"])
@pytest.mark.parametrize("name", STORIES)
def test_a_fault_of_the_wire_at_any_exchange_changes_nothing(federations: Make, fault: str, name: str) -> None:
    story, command, end = STORIES[name]
    for exchange in range(2, 14):
        federation = federations(exchange)
        job_id = federation.hub.create(*command)
        asked = federation.site.wire.ask

        def ask(action: str, body: dict[str, object], count: list[int] = [0], **options: float) -> dict[str, object]:  # noqa: B006
            count[0] += 1
            if count[0] == exchange:  # noqa: B023
                federation.site.wire.fault = fault  # noqa: B023
            return asked(action, body, **options)  # noqa: B023

        federation.site.wire.ask = ask  # type: ignore[method-assign]
        story(federation, job_id)
        federation.settle()
        assert federation.assert_the_promise([job_id]) == {job_id: end}, f"{fault} at exchange {exchange}"
        assert len(federation.site.jobs()) == 1


def test_a_hub_that_was_restored_from_a_backup_hears_again_what_it_forgot(federations: Make, tmp_path: Path) -> None:
    for turns in (0, 1, 2):
        federation = federations(turns)
        job_id = federation.hub.create("sh", "-c", "exit 3")
        federation.turn(turns)
        backup = federation.hub.backup(tmp_path / f"backup-{turns}")
        federation.settle()
        federation.restore_hub(backup)
        federation.site.world.now += 3600
        federation.settle()
        assert federation.assert_the_promise([job_id]) == {job_id: State.EXECUTOR_ERROR}, turns
        assert len(federation.site.jobs()) == 1, "the site ran it once"


def test_a_site_that_was_restored_says_that_it_lost_the_job(federations: Make, tmp_path: Path) -> None:
    federation = federations(0)
    backup = backup_of(federation.site.world.store, tmp_path / "backup")
    job_id = federation.hub.create("sleep", "1000")
    federation.turn(3)
    federation.restore_site(backup)
    federation.settle()
    assert federation.assert_the_promise([job_id]) == {job_id: State.SYSTEM_ERROR}
    assert "cz: this site no longer knows the job: was its database restored from a backup?" in federation.hub.said(
        job_id
    )


def test_a_job_waits_for_a_silent_node_and_says_since_when(federations: Make) -> None:
    federation = federations(0)
    job_id = federation.hub.create("sleep", "1000")
    federation.turn(2)
    assert federation.hub_worker is not None
    federation.site.world.now += 3600
    for _ in range(3):
        federation.hub_worker.turn()
    job = federation.hub.store.get(job_id)
    assert job is not None
    assert job.state is State.RUNNING
    assert any(
        "node cz has not been heard from since 2026-01-01 00:00 UTC" in line for line in federation.hub.said(job_id)
    )
    federation.site.world.backend.finish(federation.site.world.backend.known()[0])
    federation.settle()
    assert federation.assert_the_promise([job_id]) == {job_id: State.COMPLETE}


@pytest.mark.parametrize("by", ["an operator", "its own rule"])
def test_what_was_given_up_may_not_come_back(federations: Make, by: str) -> None:
    federation = federations(0)
    job_id = federation.hub.create("sleep", "1000", **({"give_up_after": "600"} if by == "its own rule" else {}))
    federation.turn(2)
    worker, store = federation.hub_worker, federation.hub.store
    assert worker is not None
    federation.site.world.now += 3600
    if by == "an operator":
        store.write(partial(assignments.withdraw, key=f"{job_id}-1", reason="given up by the hub's operator"))
    for _ in range(3):
        worker.turn()
    ended = store.get(job_id)
    assert ended is not None
    assert ended.state is State.SYSTEM_ERROR
    assert any("given up by" in line for line in federation.hub.said(job_id))
    federation.settle()  # the node comes back, and is told
    assert federation.assert_the_promise([job_id]) == {job_id: State.SYSTEM_ERROR}
    (theirs,) = federation.site.jobs()
    gone = federation.site.world.store.get(theirs)
    assert gone is not None
    assert gone.state is State.CANCELED
