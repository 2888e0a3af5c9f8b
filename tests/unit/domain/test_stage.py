"""What an experiment does now, by its running trials, its trials so far and its test."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.domain.stage import doing

FINALIZE = {"top": 2, "seeds": 2, "folds": 3}
SPEC = {"max_trials": 16, "finalize": FINALIZE, "trainable": "patchtst"}
"""8 trials search (0 to 7), 4 are the finalisation (8 to 11), 4 the walk-forward (12 to 15)."""


def at_work(running: list[int], ended: int, **changes: Any) -> dict[str, Any]:
    return {
        "state": "RUNNING", "spec": SPEC, "running": [{"number": number} for number in running], "ended": ended,
        "max_trials": 16, "test": None,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("running", "ended", "words"),
    [
        ([], 0, "search"), ([0, 7], 3, "search"), ([7, 8, 9], 7, "search and finalisation"), ([], 8, "finalisation"),
        ([11], 11, "finalisation"), ([12], 12, "walk-forward"), ([], 13, "walk-forward"), ([], 16, "test"),
    ],
)  # fmt: skip
def test_the_numbers_of_its_trials_say_what_an_experiment_does(running: list[int], ended: int, words: str) -> None:
    assert doing(at_work(running, ended)) == words
    assert doing(at_work(running, ended, state="PAUSED")) == words


def test_a_test_that_was_opened_and_has_no_result_is_at_work() -> None:
    assert doing(at_work([], 12, test={"scored": False})) == "test"
    assert doing(at_work([3], 12, test={"scored": False})) == "search", "a trial that a person asked for again"


@pytest.mark.parametrize("state", ["STOPPED", "STARTING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "SKIPPED"])
def test_an_experiment_that_does_not_run_does_nothing(state: str) -> None:
    assert doing(at_work([1], 2, state=state)) is None


def test_without_a_finalisation_all_trials_are_the_search() -> None:
    plain = at_work([3], 2, spec={"max_trials": 4, "finalize": None, "trainable": "m:f"}, max_trials=4)
    assert doing(plain) == "search"
    assert doing({**plain, "running": [], "ended": 4}) == "search"


def test_a_users_own_trainable_is_not_tested() -> None:
    assert doing(at_work([], 16, spec={**SPEC, "trainable": "m:f"})) != "test"
