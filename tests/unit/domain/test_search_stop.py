"""Test when a search has found enough by its plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.search_stop import trials_without_better, why_stop


def spec(mode: str = "min", max_trials: int = 100, **stop: Any) -> dict[str, Any]:
    given = {"value": None, "plateau": None, "improvement": 0.0, **stop}
    return {"mode": mode, "max_trials": max_trials, "finalize": None, "stop": given if stop else None}


def ended(*values: float | None) -> list[dict[str, Any]]:
    return [{"number": number, "value": value} for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("asked", "values", "why"),
    [
        (spec(), [0.1] * 50, None),
        (spec(value=0.5), [0.9, 0.6], None),
        (spec(value=0.5), [0.9, 0.5], "value"),
        (spec("max", value=0.5), [0.4], None),
        (spec("max", value=0.5), [0.4, 0.6], "value"),
        (spec(plateau=2), [0.5, 0.6], None),
        (spec(plateau=2), [0.5, 0.6, 0.7], "plateau"),
        (spec(plateau=2), [0.5, 0.6, 0.4, 0.6], None),
        (spec(plateau=2), [0.5, None, None, None, 0.6], None),
        (spec(plateau=2, improvement=0.1), [0.5, 0.45, 0.41], "plateau"),
        (spec("max", plateau=2), [0.5, 0.4, 0.3], "plateau"),
        (spec(plateau=2, value=0.1), [0.5, 0.1, 0.3, 0.3], "value"),
        (spec(plateau=2), [], None),
    ],
)
def test_a_search_stops_at_its_value_or_after_its_plateau(
    asked: dict[str, Any], values: list[float | None], why: str | None
) -> None:
    assert why_stop(asked, ended(*values)) == why


def test_trials_after_the_search_do_not_count() -> None:
    asked = spec(value=0.5, max_trials=4) | {"finalize": {"top": 1, "seeds": 2}}
    assert why_stop(asked, ended(0.9, 0.9, 0.1, 0.1)) is None


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=30), order=st.randoms())
def test_the_order_in_which_trials_ended_does_not_matter(values: list[float], order: Any) -> None:
    """A new driver knows the numbers only."""
    trials = ended(*values)
    shuffled = list(trials)
    order.shuffle(shuffled)
    asked = spec(plateau=3)
    assert why_stop(asked, trials) == why_stop(asked, shuffled)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_wait_is_since_the_first_best_value(values: list[float]) -> None:
    assert trials_without_better(values, 1.0, 0.0) == len(values) - 1 - values.index(min(values))
    assert trials_without_better([-value for value in values], -1.0, 0.0) == trials_without_better(values, 1.0, 0.0)
