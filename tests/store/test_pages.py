"""Lists: filters, order, pages that hold still while jobs are added, and plans that use an index."""

import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.builders import NOW, a_new_job, a_task, stored
from tests.store.databases import only_sqlite
from weft.clock import new_id
from weft.errors import InvalidRequest
from weft.model import Job, Kind
from weft.states import State
from weft.store import pages
from weft.store.pages import Filters, after_prefix
from weft.store.store import Store


def listed(store: Store, filters: Filters, *, kind: Kind = Kind.TASK, size: int = 100) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    token = None
    while True:
        page = store.page(kind, filters, size, token)
        found += [job.id for job in page.jobs]
        assert len(set(found)) == len(found)
        token = page.next_token
        if token is None:
            return found


def named(store: Store, name: str | None) -> str:
    return store.create(a_new_job(task=a_task(name=name))).id


# The table of tesListTasks' tag filter in TES 1.1.0 (reference/tes.md, section 1).
@pytest.mark.parametrize(
    ("wanted", "tags", "matches"),
    [
        ({"foo": "bar"}, {"foo": "bar"}, True),
        ({"foo": "bar"}, {"foo": "bat"}, False),
        ({"foo": ""}, {"foo": ""}, True),
        ({"foo": "bar", "baz": "bat"}, {"foo": "bar", "baz": "bat"}, True),
        ({"foo": "bar"}, {"foo": "bar", "baz": "bat"}, True),
        ({"foo": "bar", "baz": "bat"}, {"foo": "bar"}, False),
        ({"foo": ""}, {"foo": "bar"}, True),
        ({"foo": ""}, {}, False),
        ({"foo": "Bar"}, {"foo": "bar"}, False),
        ({"Foo": "bar"}, {"foo": "bar"}, False),
    ],
)
def test_a_tag_filter_matches_as_the_specification_says(
    store: Store, wanted: Mapping[str, str], tags: Mapping[str, str], matches: bool
) -> None:
    job = store.create(a_new_job(task=a_task(tags=tags)))
    assert listed(store, Filters(tags=tuple(wanted.items()))) == ([job.id] if matches else [])


def test_newest_come_first_and_kinds_are_apart(store: Store) -> None:
    tasks = [store.create(a_new_job()).id for _ in range(3)]
    runs = [store.create(a_new_job(kind=Kind.RUN)).id for _ in range(2)]
    assert listed(store, Filters()) == tasks[::-1]
    assert listed(store, Filters(), kind=Kind.RUN) == runs[::-1]


def test_a_list_of_nothing_is_empty_and_has_no_token(store: Store) -> None:
    page = store.page(Kind.TASK, Filters(), 5, None)
    assert (page.jobs, page.next_token) == ((), None)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 8])
def test_pages_of_any_size_give_each_job_once(store: Store, size: int) -> None:
    ids = [store.create(a_new_job()).id for _ in range(6)]
    assert listed(store, Filters(), size=size) == ids[::-1]


def test_the_last_full_page_has_no_token(store: Store) -> None:
    for _ in range(4):
        store.create(a_new_job())
    first = store.page(Kind.TASK, Filters(), 2, None)
    assert first.next_token is not None
    assert store.page(Kind.TASK, Filters(), 2, first.next_token).next_token is None


def test_pages_hold_still_while_jobs_are_added_and_removed(store: Store) -> None:
    ids = [stored(store, State.COMPLETE).id for _ in range(6)]
    first = store.page(Kind.TASK, Filters(), 2, None)
    store.create(a_new_job())
    store.delete(first.jobs[-1].id)
    second = store.page(Kind.TASK, Filters(), 2, first.next_token)
    store.create(a_new_job())
    third = store.page(Kind.TASK, Filters(), 2, second.next_token)
    seen = [job.id for page in (first, second, third) for job in page.jobs]
    assert seen == ids[::-1]
    assert third.next_token is None


def test_a_clock_that_is_set_back_makes_other_ids_and_loses_no_job(store: Store) -> None:
    later = [store.create(a_new_job()).id for _ in range(3)]
    first = store.page(Kind.TASK, Filters(), 2, None)
    earlier = [store.create(a_new_job(id=new_id(NOW - 3600 + second))).id for second in range(3)]
    assert len({*later, *earlier}) == 6
    rest = store.page(Kind.TASK, Filters(), 10, first.next_token)
    assert [job.id for page in (first, rest) for job in page.jobs] == [*later[::-1], *earlier[::-1]]


def test_a_token_of_another_list_is_refused(store: Store) -> None:
    for _ in range(3):
        store.create(a_new_job())
    token = store.page(Kind.TASK, Filters(owner="alice"), 1, None).next_token
    assert store.page(Kind.TASK, Filters(owner="alice"), 1, token).jobs
    for kind, filters in [
        (Kind.RUN, Filters(owner="alice")),
        (Kind.TASK, Filters()),
        (Kind.TASK, Filters(owner="bob")),
        (Kind.TASK, Filters(owner="alice", state=State.QUEUED)),
        (Kind.TASK, Filters(owner="alice", tags=(("a", ""),))),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            store.page(kind, filters, 1, token)
        assert caught.value.field == "page_token"


def test_too_many_tags_are_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest):
        store.page(Kind.TASK, Filters(tags=(("a", ""),) * 65), 1, None)
    assert store.page(Kind.TASK, Filters(tags=(("a", "b"),) * 64), 1, None).jobs == ()


def test_a_name_prefix_is_literal_and_looks_at_case(store: Store) -> None:
    ids = {
        name: named(store, name) for name in ["align", "align-1", "aligo", "al%gn", "al_gn", "Align", "b", "", "al*"]
    }
    nameless = named(store, None)

    def names(prefix: str) -> set[str]:
        found = set(listed(store, Filters(name_prefix=prefix)))
        return {name for name, job_id in ids.items() if job_id in found}

    assert names("align") == {"align", "align-1"}
    assert names("al%") == {"al%gn"}
    assert names("al_") == {"al_gn"}
    assert names("al*") == {"al*"}
    assert names("A") == {"Align"}
    assert names("align-1x") == set()
    assert listed(store, Filters(name_prefix="")) == [nameless, *list(ids.values())[::-1]]


@pytest.mark.parametrize(
    ("prefix", "after"),
    [("a", "b"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000"), ("", None), ("az", "a{")],
)
def test_a_prefix_ends_before_the_next_string(prefix: str, after: str | None) -> None:
    assert after_prefix(prefix) == after


def test_a_prefix_of_any_characters_finds_its_names(store: Store) -> None:
    for stem in ["é", "\ud7ff", "\U0010ffff", "a\U0010ffff", "😀"]:
        wanted = [named(store, stem + ending) for ending in ("", "x", "\U0010ffff")]
        named(store, "zzz")
        assert listed(store, Filters(name_prefix=stem)) == wanted[::-1]


def a_random_store(store: Store, chance: random.Random) -> list[Job]:
    runs = [store.create(a_new_job(kind=Kind.RUN)) for _ in range(2)]
    queued: list[dict[str, Any]] = []  # at the end, for a claim takes them fairly
    for _ in range(120):
        tags = {key: chance.choice(["", "x", "y"]) for key in ("a", "b", "c") if chance.random() < 0.5}
        task = a_task(name=chance.choice([None, "ab", "abc", "b"]), tags=tags)
        parent = chance.choice([None, None, *(run.id for run in runs)])
        owner = chance.choice(["alice", "bob"])
        state = chance.choice([State.QUEUED, State.COMPLETE, State.CANCELED])
        changes = {"task": task, "owner": owner, "parent": parent, "id": new_id(NOW + chance.random())}
        if state is State.QUEUED:
            queued.append(changes)
        else:
            stored(store, state, **changes)
    for changes in queued:
        stored(store, **changes)
    return [*runs, *store.page(Kind.TASK, Filters(), 200, None).jobs]


def matches(job: Job, filters: Filters) -> bool:
    """Say what a filter means, in the plainest words."""
    return (
        job.kind is Kind.TASK
        and filters.owner in (None, job.owner)
        and filters.state in (None, job.state)
        and filters.parent in (None, job.parent)
        and (not filters.name_prefix or (job.name or "").startswith(filters.name_prefix))
        and all(key in job.tags and value in ("", job.tags[key]) for key, value in filters.tags)
    )


@pytest.mark.parametrize("bound", [1, 10, 2000])
def test_every_combination_of_filters_gives_what_reading_all_jobs_gives(
    store: Store, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    """The bound decides which filter leads; the answer must not depend on it."""
    monkeypatch.setattr(pages, "_BOUND", bound)
    pages._bounded_count.cache_clear()
    jobs = a_random_store(store, random.Random(bound))
    parent = jobs[0].id
    compared = 0
    for owner, state, prefix, tags, run in itertools.product(
        (None, "alice", "nobody"),
        (None, State.QUEUED, State.RUNNING),
        (None, "ab", "\U0010ffff"),
        ((), (("a", "x"),), (("a", ""), ("b", "y"))),
        (None, parent),
    ):
        filters = Filters(owner=owner, state=state, name_prefix=prefix, tags=tags, parent=run)
        wanted = sorted((job.id for job in jobs if matches(job, filters)), reverse=True)
        assert listed(store, filters, size=7) == wanted
        compared += len(wanted)
    pages._bounded_count.cache_clear()
    assert compared > 200


def test_columns_give_the_id_and_what_was_asked_for(store: Store) -> None:
    jobs = [store.create(a_new_job()) for _ in range(3)]
    found, token = store.columns(Kind.TASK, ("state", "created_at"), Filters(), 2, None)
    assert found == [(job.id, "QUEUED", NOW) for job in jobs[:0:-1]]
    rest, end = store.columns(Kind.TASK, ("state", "created_at"), Filters(), 2, token)
    assert (rest, end) == ([(jobs[0].id, "QUEUED", NOW)], None)
    rows, _token = store.rows(Kind.TASK, Filters(), 5, None)
    assert [row.job for row in rows] == jobs[::-1]


@only_sqlite
@pytest.mark.parametrize(
    ("lead", "filters", "index"),
    [
        ("kind", Filters(), "jobs_by_kind"),
        ("kind", Filters(name_prefix="a"), "jobs_by_kind"),
        ("owner", Filters(owner="a"), "jobs_by_owner"),
        ("owner", Filters(owner="a", state=State.QUEUED, tags=(("a", "b"),)), "jobs_by_owner"),
        ("state", Filters(owner="a", state=State.QUEUED, name_prefix="a"), "jobs_by_state"),
        ("parent", Filters(owner="a", parent="r"), "jobs_parent"),
        ("tag0", Filters(owner="a", tags=(("a", "b"), ("c", ""))), "SEARCH first USING PRIMARY KEY"),
        ("tag1", Filters(owner="a", tags=(("a", "b"), ("c", ""))), "tags_by_key"),
        ("name", Filters(owner="a", name_prefix="a"), "jobs_name"),
    ],
)
@pytest.mark.parametrize("cursor", [None, "0"])
def test_a_page_is_led_by_the_index_that_was_chosen(
    plan_of: Callable[..., str], lead: str, filters: Filters, index: str, cursor: str | None
) -> None:
    shape = pages._shape(filters, cursor, ("state",))
    plan = plan_of(pages._page(shape, lead), **pages._params(Kind.TASK, filters, cursor), most=5)
    assert index in plan
    assert "SCAN" not in plan
    assert ("TEMP B-TREE" in plan) is (lead == "name")


def test_the_rarest_filter_leads(store: Store) -> None:
    for _ in range(5):
        store.create(a_new_job(task=a_task(name="common", tags={"common": "x"})))
    stored(store, State.COMPLETE, task=a_task(name="rare", tags={"rare": "x", "common": "x"}))

    def lead(filters: Filters) -> str:
        with store._readers.link() as link:
            return pages._lead(link, pages._shape(filters, None, ()), pages._params(Kind.TASK, filters, None))

    assert lead(Filters(owner="alice")) == "owner"
    assert lead(Filters(owner="alice", state=State.COMPLETE)) == "state"
    assert lead(Filters(owner="alice", tags=(("common", ""), ("rare", "")))) == "tag1"
    assert lead(Filters(owner="alice", tags=(("common", "x"), ("rare", "x")), state=State.QUEUED)) == "tag1"
    assert lead(Filters(owner="alice", name_prefix="rare")) == "name"
    assert lead(Filters(owner="nobody", name_prefix="rare")) == "owner"
