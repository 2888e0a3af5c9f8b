"""Test that a begin of any number of trials fits into lines, and comes back whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain import codec
from supervisor.domain.messages import Begin, TrialsBefore
from supervisor.domain.trials.begin_parts import PART_BYTES, about_bytes, in_parts, whole


def trial(number: int, epochs: int = 1, **params: Any) -> dict[str, Any]:
    return {
        "number": number, "state": "TERMINATED", "end_reason": "finished", "params": params or {"x": 0.1 * number},
        "source": "sampled", "value": 0.123456789012345678, "attempt": 1, "checkpoint": "/" + 100 * "c",
        "results": [[step, -0.123456789012345678] for step in range(epochs)], "lost": ["worker_died"], "memory": None,
    }  # fmt: skip


def begin(trials: list[dict[str, Any]]) -> Begin:
    return Begin("r", {"name": "x"}, trials, [], "127.0.0.1:1", "/folder", {})


@given(epochs=st.lists(st.integers(0, 40), max_size=30), part_bytes=st.integers(1, 20_000))
def test_the_parts_are_the_begin_again_and_each_is_small(epochs: list[int], part_bytes: int) -> None:
    trials = [trial(number, count) for number, count in enumerate(epochs)]
    *before, last = in_parts(begin(trials), part_bytes)
    assert isinstance(last, Begin)
    assert all(isinstance(part, TrialsBefore) for part in before)
    for part in (*before, last):
        assert len(part.trials) <= 1 or sum(map(about_bytes, part.trials)) <= part_bytes
    earlier = [one for part in before for one in part.trials]
    assert whole(earlier, last) == begin(trials)


@given(epochs=st.integers(0, 300), text=st.text(max_size=200))
def test_the_guess_of_a_trials_size_is_not_too_small(epochs: int, text: str) -> None:
    one = trial(3, epochs, name=text)
    assert len(json.dumps(codec.finite(one), separators=(",", ":"))) <= about_bytes(one)


def test_a_begin_over_the_bound_of_a_line_goes_in_parts() -> None:
    """100,000 trials, or 4,000 of 150 epochs, did not fit: no driver could start any more."""
    trials = [trial(number, epochs=150) for number in range(4_000)]
    with pytest.raises(codec.LinkError, match="over the bound"):
        codec.encode(begin(trials))
    parts = list(in_parts(begin(trials)))
    assert all(len(codec.encode(part)) <= PART_BYTES for part in parts)
    assert sum(len(part.trials) for part in parts) == 4_000


def test_a_begin_of_few_trials_is_one_line() -> None:
    assert list(in_parts(begin([trial(0), trial(1)]))) == [begin([trial(0), trial(1)])]
