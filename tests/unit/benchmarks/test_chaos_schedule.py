"""The chaos test's schedule depends on its seed alone, has every fault, and never asks too much of a run."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.chaos.schedule import MAX_AFTER_S, MAX_HASTY, MAX_LASTS_S, WEIGHTS, Kind, schedule

DECK = sum(WEIGHTS.values())
seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 200))
def test_the_same_seed_gives_the_same_faults(seed: int, count: int) -> None:
    assert list(islice(schedule(seed), count)) == list(islice(schedule(seed), count))


def test_other_seeds_give_other_faults() -> None:
    firsts = {tuple(islice(schedule(seed), DECK)) for seed in range(20)}
    assert len(firsts) == 20


@given(seeds, st.integers(0, 3))
def test_each_deck_holds_each_kind_as_often_as_its_weight(seed: int, nth: int) -> None:
    kinds = [fault.kind for fault in islice(schedule(seed), DECK * nth, DECK * (nth + 1))]
    assert {kind: kinds.count(kind) for kind in Kind} == WEIGHTS


@given(seeds)
def test_hasty_faults_in_a_row_are_few_enough_for_an_experiment_to_survive(seed: int) -> None:
    in_a_row = 0
    for fault in islice(schedule(seed), 4 * DECK):
        in_a_row = in_a_row + 1 if fault.hasty else 0
        assert in_a_row <= MAX_HASTY
        assert 0.0 <= fault.after_s <= MAX_AFTER_S
        assert 0.0 < fault.lasts_s <= MAX_LASTS_S
        assert 0.0 <= fault.aim < 1.0


@given(seeds)
def test_a_pause_and_a_full_disk_begin_only_after_work_has_resumed(seed: int) -> None:
    """Otherwise their effect could not be told apart; a kill during them is part of the fault itself."""
    faults = list(islice(schedule(seed), 4 * DECK))
    solo = {Kind.DISK, Kind.PAUSE, Kind.HOLD, Kind.PAUSE_TRIAL, Kind.STOP_START}
    assert not [after for before, after in pairwise(faults) if before.hasty and after.kind in solo]
    assert {fault.kind for fault in faults if fault.during is not None} <= {Kind.PAUSE, Kind.DISK}


@settings(max_examples=30)
@given(seeds, st.sets(st.sampled_from(Kind), min_size=1))
def test_only_the_requested_kinds_occur(seed: int, kinds: set[Kind]) -> None:
    count = 2 * sum(WEIGHTS[kind] for kind in kinds)
    assert {fault.kind for fault in islice(schedule(seed, kinds), count)} == kinds


def test_a_schedule_without_kinds_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a kind"):
        next(schedule(1, ()))
