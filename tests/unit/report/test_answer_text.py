"""The answer's sentences: what they claim, and what they leave open."""

from __future__ import annotations

import pytest

from supervisor.report.answer_text import sentences
from supervisor.report.comparisons import Comparison
from supervisor.report.view import read_view
from tests.unit.report.run_views import NOW, experiment, snapshot_of, ten_trials


def against(baseline: str, difference: float, adjusted: float | None, group: str = "all") -> Comparison:
    return Comparison(group, "a", baseline, f"the {baseline}", difference, adjusted, adjusted)


def said(*compared: Comparison) -> list[str]:
    view = snapshot_of(experiment("a", "EXITED", ten_trials()))
    return sentences(read_view(view, NOW), None, compared)


def test_a_plan_without_budgets_and_test_has_one_sentence_with_the_best_of_noisy_values() -> None:
    (best,) = said()
    assert best == (
        "The best configuration for horizon 1 is trial 0 of a (learning_rate=1e-05, batch_size=64), val_loss 0.5, the "
        "best of 10 noisy values."
    )


def test_a_run_without_a_value_says_so() -> None:
    assert sentences(read_view(snapshot_of(experiment("a", "STOPPED", [])), NOW), None, ()) == [
        "No trial has a value yet."
    ]


def test_wins_losses_and_open_comparisons_are_told_apart() -> None:
    found = said(against("prior", -0.1, 0.01), against("forest", 0.1, 0.01), against("boosting", -0.1, 0.2))[0]
    assert found == (
        "On the test (corrected for 3 comparisons), the search beats prior and loses to forest and is not told apart "
        "from boosting."
    )


@pytest.mark.parametrize("adjusted", [None, 0.2])
def test_nothing_is_claimed_without_significance(adjusted: float | None) -> None:
    assert "is not shown to be better or worse than any of 1 simple models" in said(against("prior", -9, adjusted))[0]


def test_a_test_of_many_horizons_names_some_and_counts_the_others() -> None:
    text = said(*(against("prior", -1, 0.01, f"horizon {h}") for h in range(6)))[0]
    assert text.endswith("beats prior at horizon 0, 1, 2, 3; and so on for 2 more.")


def test_groups_of_several_axes_are_named_in_full() -> None:
    text = said(against("prior", -1, 0.01, "horizon 1, ticker A"), against("prior", -1, 0.01, "horizon 1, ticker B"))[0]
    assert text.endswith("the search beats prior at horizon 1, ticker A, B.")
