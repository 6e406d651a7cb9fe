"""The promise, as an assertion over a store: each job ended once, by legal moves only."""

from __future__ import annotations

from weft.states import TERMINAL, State, is_legal
from weft.store.store import Store


def ends_of(store: Store, job_ids: list[str]) -> dict[str, State]:
    """Check that each job was kept, that exactly one terminal move was written, and that each move was legal."""
    ended = {}
    for job_id in job_ids:
        job = store.get(job_id)
        assert job is not None, f"job {job_id} was lost"
        moves = [(event.source, event.target) for event in store.events(job_id) if event.target is not None]
        terminal = [target for _, target in moves if target in TERMINAL]
        assert terminal == [job.state], f"{job_id}: terminal moves {terminal}, state {job.state}"
        for source, target in moves:
            created = source is None and target is State.QUEUED
            assert created or (source is not None and target is not None and is_legal(source, target)), moves
        ended[job_id] = job.state
    return ended
