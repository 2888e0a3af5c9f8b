"""The settings of the next attempt after memory ran out or was asked back."""

from __future__ import annotations

import pytest

from actors.trial.memory_retry import ALONE, ASKED_BACK, OOM, NextAttempt, Offer, next_attempt, once_alone
from actors.trial.worker_exit import HUNG, OOM_KILLED, WORKER_DIED

HALF = {"micro_batch": 32, "checkpoint_activations": False}
QUARTER = {"micro_batch": 16, "checkpoint_activations": False}


@pytest.mark.parametrize("cause", [OOM, OOM_KILLED])
def test_memory_that_ran_out_gives_the_next_attempt_what_its_worker_offered(cause):
    assert next_attempt(cause, HALF, Offer(QUARTER)) == NextAttempt(QUARTER)


@pytest.mark.parametrize("cause", [OOM, OOM_KILLED])
def test_memory_that_ran_out_ends_the_trial_where_nothing_is_left_to_try(cause):
    assert next_attempt(cause, HALF, Offer(None)) == NextAttempt(HALF, spent=True)


@pytest.mark.parametrize("cause", [WORKER_DIED, HUNG, "released", "driver_died"])
def test_other_causes_change_nothing(cause):
    assert next_attempt(cause, HALF, Offer(QUARTER)) == NextAttempt(HALF)


def test_a_worker_that_died_before_it_could_say_is_tried_again_as_it_was():
    assert next_attempt(OOM_KILLED, None, None) == NextAttempt(None)


def test_memory_that_is_asked_back_never_ends_a_trial_and_a_drill_changes_nothing():
    assert next_attempt(ASKED_BACK, HALF, Offer(QUARTER)) == NextAttempt(QUARTER)
    assert next_attempt(ASKED_BACK, HALF, Offer(None)) == NextAttempt(HALF)
    assert next_attempt(ASKED_BACK, None, Offer({ALONE: True})) == NextAttempt(None)
    assert next_attempt(ASKED_BACK, HALF, Offer(QUARTER), drill=True) == NextAttempt(HALF)


def test_a_trainable_without_smaller_settings_gets_one_attempt_alone():
    first = once_alone(None)
    assert first == {ALONE: True}
    assert once_alone(first) is None
    assert once_alone(HALF) == {**HALF, ALONE: True}
