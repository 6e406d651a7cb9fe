"""The law, as a table."""

from __future__ import annotations

import itertools

import pytest

from weft.states import DRIVEN, MOVES, STORED, TERMINAL, State, is_legal, sources_of


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_move_leads_out_of_a_terminal_state(state: State) -> None:
    assert state not in MOVES


@pytest.mark.parametrize("state", sorted(set(MOVES)))
def test_every_state_that_is_not_terminal_leads_to_a_terminal_one(state: State) -> None:
    reached, frontier = {state}, [state]
    while frontier:
        for target in MOVES.get(frontier.pop(), {}):
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached & TERMINAL


def test_a_job_never_rests_in_preempted_paused_or_unknown() -> None:
    assert not STORED & {State.PREEMPTED, State.PAUSED, State.UNKNOWN}


def test_complete_is_reached_from_running_alone() -> None:
    assert sources_of(State.COMPLETE) == {State.RUNNING}


def test_a_cancel_that_came_in_between_wins_over_complete() -> None:
    assert not is_legal(State.CANCELING, State.COMPLETE)


def test_is_legal_is_the_table() -> None:
    legal = {(a, b) for a, b in itertools.product(State, State) if is_legal(a, b)}
    assert legal == {(a, b) for a, targets in MOVES.items() for b in targets}


def test_every_driven_state_has_moves() -> None:
    assert set(MOVES) >= DRIVEN
