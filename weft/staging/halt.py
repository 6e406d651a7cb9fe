"""End what is being fetched for a job that was cancelled meanwhile: looked at between chunks and in every pause.

The event belongs to the thread that stages (and to those that help it, see ``parallel.each``), so that stagers need
not hand it on: they call ``check`` wherever they come round again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from weft.errors import WeftError

_event: ContextVar[threading.Event | None] = ContextVar("halt", default=None)


class Halted(WeftError):
    """The job was cancelled while its files were on their way."""


@contextmanager
def heeding(event: threading.Event | None) -> Iterator[None]:
    """Let ``check`` and ``pause`` of this thread raise once ``event`` is set."""
    token = _event.set(event)
    try:
        yield
    finally:
        _event.reset(token)


def heeded() -> threading.Event | None:
    """Return the event of this thread, for others that help it."""
    return _event.get()


def check() -> None:
    """Do nothing while the work is still wanted.

    :raises Halted: it is not.
    """
    event = _event.get()
    if event is not None and event.is_set():
        raise Halted


def pause(seconds: float) -> None:
    """Sleep, but no longer than the work is wanted.

    :raises Halted: it is not.
    """
    event = _event.get() or threading.Event()
    event.wait(seconds)
    check()
