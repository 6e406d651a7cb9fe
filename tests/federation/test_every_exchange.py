"""Hub, agent and site die before and after every call, the wire is cut everywhere; the promise holds on both sides."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash.world import Death, Life, World
from tests.federation.world import Federation, HubWorld, SiteWorld
from weft.states import State
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
