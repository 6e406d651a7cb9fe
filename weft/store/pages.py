"""Lists: keyset pages over indexes, newest first; a page costs the page, at a million jobs too.

Every filter has an index that can lead. Where there are several, the rarest leads: each is counted up to a bound
first, which costs microseconds, and the others are then checked on each row. SQLite would choose by guess, so what
must not lead is hidden from its planner behind ``|| ''``. PostgreSQL counts for itself, and guesses worse of what is
hidden (measured: 35 ms instead of 4 for a page by tag), so it sees everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, func, literal, or_, select, union, union_all
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import FromClause
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from weft import paging
from weft.errors import InvalidRequest
from weft.model import Kind
from weft.states import State
from weft.store.link import Link, Prepared
from weft.store.schema import jobs, tags

#: How far a filter is counted; names that are rarer than this are sorted by id, which the name index cannot give.
_BOUND = 2000
_MOST_TAGS = 64
_LAST_CHARACTER = chr(0x10FFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list may be narrowed by; ``tags`` are (key, value) pairs, an empty value matches any value."""

    owner: str | None = None  # None: everybody's (an operator)
    #: With an owner: the jobs of these projects too, whoever owns them.
    projects: tuple[str, ...] = ()
    state: State | None = None
    #: Literal; an empty one matches all jobs, also those without a name.
    name_prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    parent: str | None = None  # tasks of this run


@dataclass(frozen=True, slots=True)
class _Shape:
    """What decides the text of a list's statement; the values come as parameters."""

    owner: bool
    #: How many projects' jobs belong to the list beside the owner's.
    projects: int
    state: bool
    parent: bool
    name: bool
    #: A prefix has a first string after all that it begins, unless it ends in the last character there is.
    name_end: bool
    #: For each tag, whether its value is given.
    tags: tuple[bool, ...]
    cursor: bool
    #: Names of columns of ``jobs``, which follow the id.
    columns: tuple[str, ...]

    @property
    def ordered(self) -> tuple[str, ...]:
        """The filters whose index gives jobs in the order of the list."""
        plain = tuple(name for name in ("parent", "state") if getattr(self, name))
        whose = ("reach",) if self.projects else ("owner",) if self.owner else ()
        return plain + whose + tuple(f"tag{index}" for index in range(len(self.tags)))


def rows_of(
    link: Link, kind: Kind, columns: tuple[str, ...], filters: Filters, size: int, token: str | None
) -> tuple[list[tuple[Any, ...]], str | None]:
    """Return the id and ``columns`` of at most ``size`` jobs, newest first, and the token of the next page or None.

    :raises InvalidRequest: the token is not one of this list, or there are too many tags.
    """
    if len(filters.tags) > _MOST_TAGS:
        raise InvalidRequest(f"a list takes at most {_MOST_TAGS} tags", field="tag_key")
    scope = repr((kind.value, filters))
    cursor = None if token is None else paging.decode(token, scope)
    shape, params = _shape(filters, cursor, columns), _params(kind, filters, cursor)
    statement = _page(shape, _lead(link, shape, params))
    found = link.all(statement, **params, most=size + 1)
    if len(found) <= size:
        return found, None
    found.pop()
    return found, paging.encode(found[-1][0], scope)


def after_prefix(prefix: str) -> str | None:
    """Return the first string after all that begin with ``prefix``, by code point; None when there is none."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def _shape(filters: Filters, cursor: str | None, columns: tuple[str, ...]) -> _Shape:
    prefix = filters.name_prefix
    return _Shape(
        owner=filters.owner is not None,
        projects=0 if filters.owner is None else len(filters.projects),
        state=filters.state is not None,
        parent=filters.parent is not None,
        name=bool(prefix),
        name_end=bool(prefix) and after_prefix(str(prefix)) is not None,
        tags=tuple(value != "" for _key, value in filters.tags),
        cursor=cursor is not None,
        columns=columns,
    )


def _params(kind: Kind, filters: Filters, cursor: str | None) -> dict[str, Any]:
    params: dict[str, Any] = {"kind": kind.value, "owner": filters.owner, "parent": filters.parent, "cursor": cursor}
    params["state"] = None if filters.state is None else filters.state.value
    if filters.owner is not None:
        params.update({f"project{index}": project for index, project in enumerate(filters.projects)})
    if filters.name_prefix:
        params["name"] = filters.name_prefix
        params["name_end"] = after_prefix(filters.name_prefix)
    for index, (key, value) in enumerate(filters.tags):
        params[f"key{index}"] = key
        params[f"value{index}"] = value
    return params


def _lead(link: Link, shape: _Shape, params: dict[str, Any]) -> str:
    """Choose the filter whose index leads."""
    if not shape.name and len(shape.ordered) < 2:
        return shape.ordered[0] if shape.ordered else "kind"
    sizes = {lead: _count(link, shape, lead, params) for lead in shape.ordered}
    best = min(sizes, key=sizes.__getitem__, default="kind")
    if shape.name and _count(link, shape, "name", params) < sizes.get(best, _BOUND):
        return "name"
    return best


def _count(link: Link, shape: _Shape, lead: str, params: dict[str, Any]) -> int:
    row = link.one(_bounded_count(shape, lead), **params)
    return 0 if row is None else int(row[0])


@lru_cache(maxsize=512)
def _bounded_count(shape: _Shape, lead: str) -> Prepared:
    matching = select(literal(1, Integer).label("one"))
    if lead == "reach":
        each = [matching.where(*_theirs(part, only=True)).limit(literal(_BOUND)).subquery() for part in _reach(shape)]
        together = union_all(*(select(part.c.one) for part in each))
        return Prepared(select(func.count()).select_from(together.subquery()))
    if lead.startswith("tag"):
        index = int(lead[3:])
        matching = matching.where(*_tag(tags, index, shape.tags[index]))
    else:
        matching = matching.where(*_job(jobs, shape, lead, only=True))
    return Prepared(select(func.count()).select_from(matching.limit(literal(_BOUND)).subquery()))


@lru_cache(maxsize=512)
def _page(shape: _Shape, lead: str) -> Prepared:
    columns = [jobs.c.id, *(jobs.c[name] for name in shape.columns)]
    if lead.startswith("tag"):
        ids = _ids_by_tag(shape, int(lead[3:]))
    elif lead == "name":
        ids = _ids_by_name(shape)
    elif lead == "reach":
        ids = _ids_by_reach(shape)
    else:
        conditions = [*_job(jobs, shape, lead), *_with_tags(jobs.c.id, shape), *_after(jobs.c.id, shape)]
        return Prepared(_first(select(*columns).where(*conditions), jobs.c.id))
    return Prepared(select(*columns).where(jobs.c.id.in_(ids)).order_by(jobs.c.id.desc()))


def _ids_by_tag(shape: _Shape, index: int) -> Select[tuple[str]]:
    first = tags.alias("first")
    is_wanted = select(literal(1, Integer)).where(jobs.c.id == first.c.job_id, *_job(jobs, shape, "id")).exists()
    conditions = [*_tag(first, index, shape.tags[index]), is_wanted, *_with_tags(first.c.job_id, shape, but=index)]
    return _first(select(first.c.job_id).where(*conditions, *_after(first.c.job_id, shape)), first.c.job_id)


def _ids_by_name(shape: _Shape) -> Select[tuple[str]]:
    """Sort the ids, few as they are, because the name index does not know their order: hence hidden."""
    named = jobs.alias("named")
    order = _hidden(named.c.id)
    conditions = [*_job(named, shape, "name"), *_with_tags(named.c.id, shape), *_after(order, shape)]
    return _first(select(named.c.id).where(*conditions), order)


def _ids_by_reach(shape: _Shape) -> Select[tuple[str]]:
    """Take the newest of the owner and of each project, each from its index, and of these the newest."""
    others = replace(shape, owner=False, projects=0)
    pages = []
    for part in _reach(shape):
        conditions = [*_theirs(part), *_job(jobs, others, "theirs"), *_with_tags(jobs.c.id, shape)]
        pages.append(_first(select(jobs.c.id).where(*conditions, *_after(jobs.c.id, shape)), jobs.c.id).subquery())
    newest = union(*(select(page.c.id) for page in pages)).subquery()
    return _first(select(newest.c.id), newest.c.id)


def _reach(shape: _Shape) -> tuple[str, ...]:
    """Name the parameters that say whose jobs belong to the list."""
    return ("owner", *(f"project{index}" for index in range(shape.projects)))


def _theirs(part: str, *, only: bool = False) -> list[ColumnElement[bool]]:
    """Return the conditions that the index over an owner, or over a project, answers; with ``only`` also the kind."""
    of_kind = [jobs.c.kind == bindparam("kind", type_=Text)] if only else []
    if part == "owner":
        return [*of_kind, jobs.c.owner == bindparam("owner", type_=Text)]
    # That it is not null lets SQLite use the partial index.
    return [*of_kind, jobs.c.project == bindparam(part, type_=Text), jobs.c.project.is_not(None)]


def _is_theirs(table: FromClause, shape: _Shape) -> ColumnElement[bool]:
    """Return the condition for where another index leads."""
    owned = _hidden(table.c.owner) == bindparam("owner", type_=Text)
    shared = [_hidden(table.c.project) == bindparam(part, type_=Text) for part in _reach(shape)[1:]]
    return or_(owned, *shared)


def _job(table: FromClause, shape: _Shape, lead: str, *, only: bool = False) -> list[ColumnElement[bool]]:
    """Return the conditions on columns of jobs: those of the lead for its index, the others hidden or left out."""
    shown = {"kind": ("kind",), "id": (), "parent": ("parent",), "theirs": ("kind",)}.get(lead, ("kind", lead))
    conditions: list[ColumnElement[bool]] = []
    for name in ("kind", "owner", "state", "parent", "name"):
        given = name == "kind" or getattr(shape, name)
        if not given or (only and name not in shown):
            continue
        if name == "owner" and shape.projects:
            conditions.append(_is_theirs(table, shape))
            continue
        column = table.c[name] if name in shown else _hidden(table.c[name])
        conditions += _name(column, shape) if name == "name" else [column == bindparam(name, type_=Text)]
        if name in shown and name in ("name", "parent"):
            conditions.append(column.is_not(None))  # lets SQLite use the partial index
    return conditions


def _name(column: ColumnElement[Any], shape: _Shape) -> list[ColumnElement[bool]]:
    begin = column >= bindparam("name", type_=Text)
    return [begin, column < bindparam("name_end", type_=Text)] if shape.name_end else [begin]


def _tag(table: FromClause, index: int, with_value: bool) -> list[ColumnElement[bool]]:
    key = table.c.key == bindparam(f"key{index}", type_=Text)
    return [key, table.c.value == bindparam(f"value{index}", type_=Text)] if with_value else [key]


def _with_tags(job_id: ColumnElement[str], shape: _Shape, but: int | None = None) -> Sequence[ColumnElement[bool]]:
    conditions = []
    for index, with_value in enumerate(shape.tags):
        if index != but:
            other = tags.alias(f"tag{index}")
            is_tagged = select(literal(1, Integer)).where(other.c.job_id == job_id, *_tag(other, index, with_value))
            conditions.append(is_tagged.exists())
    return conditions


def _after(job_id: ColumnElement[str], shape: _Shape) -> list[ColumnElement[bool]]:
    return [job_id < bindparam("cursor", type_=Text)] if shape.cursor else []


def _first(statement: Select[Any], order: ColumnElement[str]) -> Select[Any]:
    return statement.order_by(order.desc()).limit(bindparam("most", type_=Integer))


class _Hidden(FunctionElement[Any]):
    """A column that no index may be used for, where the planner needs to be told."""

    name = "hidden"
    type = Text()
    inherit_cache = True


def _shown(element: _Hidden, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


def _behind_concatenation(element: _Hidden, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} || ''"


compiles(_Hidden)(_shown)
compiles(_Hidden, "sqlite")(_behind_concatenation)


def _hidden(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return _Hidden(column)
