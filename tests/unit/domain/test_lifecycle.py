"""Only the listed moves between states are allowed, and each state has its list."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from supervisor.domain import lifecycle
from supervisor.domain.lifecycle import (
    ENDED,
    FAILED,
    MAY_BE_RETRIED,
    SUCCEEDED,
    TRIAL_ENDED,
    EndReason,
    ProcessState,
    TrialState,
    check_process_move,
    check_trial_move,
)


def reachable(moves: Mapping[Any, frozenset[Any]], start: StrEnum) -> set[StrEnum]:
    found, left = {start}, [start]
    while left:
        for state in moves[left.pop()] - found:
            found.add(state)
            left.append(state)
    return found


def test_every_state_has_an_entry_and_every_move_leads_to_a_state() -> None:
    assert set(lifecycle.PROCESS_MOVES) == set(ProcessState)
    assert set(lifecycle.TRIAL_MOVES) == set(TrialState)


def test_every_state_can_be_reached_and_only_a_paused_process_moves_to_its_own_state() -> None:
    """A process that is PAUSED already is PAUSED by the governor's STOP, too."""
    assert reachable(lifecycle.PROCESS_MOVES, ProcessState.STOPPED) == set(ProcessState)
    assert reachable(lifecycle.TRIAL_MOVES, TrialState.PENDING) == set(TrialState)
    for state, targets in (*lifecycle.PROCESS_MOVES.items(), *lifecycle.TRIAL_MOVES.items()):
        assert state not in targets or state is ProcessState.PAUSED


@pytest.mark.parametrize("state", sorted(set(ProcessState) - ENDED - {ProcessState.STOPPED}))
def test_a_live_process_can_always_be_stopped_or_fail(state: ProcessState) -> None:
    if state is not ProcessState.STOPPING:
        check_process_move(state, ProcessState.STOPPING)
    check_process_move(state, ProcessState.FATAL)


@pytest.mark.parametrize("state", sorted(TRIAL_ENDED))
@pytest.mark.parametrize("new", sorted(TrialState))
def test_an_ended_trial_goes_nowhere_but_back_to_the_queue(state: TrialState, new: TrialState) -> None:
    """A failed one for another try, any other one to train on."""
    if new is TrialState.PENDING:
        check_trial_move(state, new)
        return
    with pytest.raises(ValueError, match=f"a trial cannot go from {state} to {new}"):
        check_trial_move(state, new)


def test_a_lost_attempt_sends_its_trial_back_to_the_queue() -> None:
    check_trial_move(TrialState.RUNNING, TrialState.PENDING)
    check_trial_move(TrialState.PAUSED, TrialState.PENDING)


def test_a_finished_experiment_does_not_run_again_and_a_fatal_one_may() -> None:
    with pytest.raises(ValueError, match="a process cannot go from EXITED to STARTING"):
        check_process_move(ProcessState.EXITED, ProcessState.STARTING)
    check_process_move(ProcessState.FATAL, ProcessState.STOPPED)


def test_the_end_reasons_that_leave_a_value_are_these() -> None:
    assert {str(reason) for reason in SUCCEEDED} == {"finished", "pruned", "early_stopped"}
    assert {str(reason) for reason in set(EndReason) - SUCCEEDED} == {
        "diverged", "oom", "hung", "error", "operator", "set_aside"
    }  # fmt: skip
    assert EndReason.SET_ASIDE not in FAILED | MAY_BE_RETRIED, "no fault, and no trial to try again"
