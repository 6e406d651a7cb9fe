"""Questions about many jobs at once: lists of ids in lengths that few compiled statements serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Column, ColumnElement, Text, bindparam

#: A list is padded to the next of these lengths with its last id, or cut at the longest.
_LENGTHS = (1, 16, 256, 2048)


def in_batch(column: Column[str], length: int) -> ColumnElement[bool]:
    """Return the condition that ``column`` is among the ids of a batch."""
    return column.in_([bindparam(f"id{index}", type_=Text) for index in range(length)])


def batches(ids: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Cut ``ids`` into (length, parameters) for ``in_batch``."""
    longest = _LENGTHS[-1]
    for begin in range(0, len(ids), longest):
        part = ids[begin : begin + longest]
        length = next(length for length in _LENGTHS if length >= len(part))
        params = {f"id{index}": part[min(index, len(part) - 1)] for index in range(length)}
        yield length, params
