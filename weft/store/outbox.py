"""The outbox: what callbacks still have to say, written in the transaction of the move that they tell of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from sqlalchemy import Double, Integer, Text, bindparam, delete, insert, literal_column, select, update

from weft.model import Callback, Delivery, Kind, Place
from weft.states import TERMINAL, State
from weft.store.history import add_event
from weft.store.link import Link, Prepared
from weft.store.rows import Row
from weft.store.schema import callbacks, jobs, outbox

_SUBSCRIBE = Prepared(insert(callbacks))
_COLUMNS = (
    outbox.c.id,
    outbox.c.job_id,
    outbox.c.place,
    outbox.c.kind,
    outbox.c.state,
    outbox.c.attempt,
    outbox.c.at,
    outbox.c.url,
    outbox.c.secret,
    outbox.c.tries,
)
_NOW = bindparam("now", type_=Double)
_DUE = Prepared(select(outbox.c.id).where(outbox.c.due_at <= _NOW).limit(1))
_FIRST = (
    select(outbox.c.id)
    .where(outbox.c.due_at <= _NOW)
    .order_by(outbox.c.due_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("first")
)
_CLAIM = Prepared(
    update(outbox)
    .where(outbox.c.id.in_(select(_FIRST.c.id)))
    .values(tries=outbox.c.tries + 1, due_at=bindparam("until", type_=Double))
    .returning(*_COLUMNS)
)
_POSTPONE = Prepared(
    update(outbox).where(outbox.c.id == bindparam("of_message")).values(due_at=bindparam("later", type_=Double))
)
_SETTLE = Prepared(delete(outbox).where(outbox.c.id == bindparam("of_message")))
_UNSUBSCRIBE = Prepared(
    delete(callbacks).where(callbacks.c.job_id == bindparam("of_job"), callbacks.c.place == bindparam("of_place"))
)
_EXISTS = Prepared(select(jobs.c.id).where(jobs.c.id == bindparam("id")).with_for_update())


def subscribe(link: Link, job_id: str, wanted: Iterable[Callback]) -> None:
    """Note who is to be told of a new job's moves."""
    for callback in wanted:
        link.put(
            _SUBSCRIBE,
            job_id=job_id,
            place=callback.place.value,
            url=callback.url,
            secret=callback.secret,
            running=callback.running,
        )


def tell(link: Link, row: Row, *, at: float) -> None:
    """Write the messages that a job's move is worth, if anybody asked for them: one statement, nothing is read."""
    state = State(row.state)
    if state is State.RUNNING or state in TERMINAL:
        link.put(
            _tell(state is State.RUNNING),
            of_job=row.id,
            prefix=f"{row.id}-{row.attempt}-{state.value}-",
            of_kind=row.kind,
            new_state=state.value,
            of_attempt=row.attempt,
            now=at,
        )


def is_due(link: Link, *, now: float) -> bool:
    """Tell whether any message may be sent now."""
    return link.one(_DUE, now=now) is not None


def claim(link: Link, *, limit: int, now: float, until: float) -> tuple[Delivery, ...]:
    """Take messages that are due, the longest waiting first; they are due again at ``until``."""
    found = [_delivery(*row) for row in link.all(_CLAIM, now=now, most=limit, until=until)]
    return tuple(sorted(found, key=lambda delivery: delivery.at))


def postpone(link: Link, *, delivery: Delivery, due_at: float) -> None:
    """Let a message be sent again later."""
    link.put(_POSTPONE, of_message=delivery.id, later=due_at)


def settle(link: Link, *, delivery: Delivery, now: float, message: str | None) -> None:
    """Forget a message, and after the one that tells the end also its secret; say why, where it was not taken."""
    link.put(_SETTLE, of_message=delivery.id)
    if delivery.state in TERMINAL:
        link.put(_UNSUBSCRIBE, of_job=delivery.job_id, of_place=delivery.place.value)
    if message is not None and link.one(_EXISTS, id=delivery.job_id) is not None:
        add_event(link, delivery.job_id, delivery.attempt, at=now, message=message)


def _delivery(
    message_id: str,
    job_id: str,
    place: str,
    kind: str,
    state: str,
    attempt: int,
    at: float,
    url: str,
    secret: str | None,
    tries: int,
) -> Delivery:
    return Delivery(
        id=message_id,
        job_id=job_id,
        place=Place(place),
        kind=Kind(kind),
        state=State(state),
        attempt=attempt,
        at=at,
        url=url,
        secret=secret,
        tries=tries,
    )


@cache
def _tell(running: bool) -> Prepared:
    chosen = select(
        bindparam("prefix", type_=Text).concat(callbacks.c.place),
        callbacks.c.job_id,
        callbacks.c.place,
        bindparam("of_kind", type_=Text),
        bindparam("new_state", type_=Text),
        bindparam("of_attempt", type_=Integer),
        _NOW,
        callbacks.c.url,
        callbacks.c.secret,
        literal_column("0", Integer),
        _NOW,
    ).where(callbacks.c.job_id == bindparam("of_job", type_=Text))
    if running:
        chosen = chosen.where(callbacks.c.running)
    return Prepared(insert(outbox).from_select([*(column.name for column in _COLUMNS), "due_at"], chosen))
