"""The values of the charts: bounded, finite, and true to the trials."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.lifecycle import EndReason
from supervisor.page.charts import (
    MAX_BANDS,
    MAX_CURVE_POINTS,
    MAX_PARAMS,
    MAX_POINTS,
    MAX_SERIES_POINTS,
    PauseBands,
    best_so_far,
    curve_numbers,
    series,
    thinned,
    trials_document,
)
from supervisor.store.event import Event

SPEC = {"name": "x", "mode": "min", "metric": "loss", "max_trials": 9, "max_epochs": 5, "finalize": None}


def row(number: int, value: float | None = 0.5, end: str | None = "finished", **more: Any) -> dict[str, Any]:
    state = "RUNNING" if end is None else "TERMINATED" if value is not None else "ERROR"
    found = {"number": number, "state": state, "end_reason": end, "value": value, "params": {"lr": 0.1 * number}}
    return {**found, "source": "sampled", "ended_wall": float(number), **more}


def points(values: list[float | None]) -> list[dict[str, Any]]:
    return [
        {
            "place": place,
            "trial": 100 + place,
            "value": value,
            "final": False,
            "end": "error" if value is None else "finished",
        }
        for place, value in enumerate(values)
    ]


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=40), st.booleans())
def test_the_best_so_far_is_the_best_of_all_before_it(values: list[float | None], minimised: bool) -> None:
    best = min if minimised else max
    expected, so_far = [], list[float]()
    for place, value in enumerate(values):
        if value is not None and (not so_far or best(value, *so_far) != best(so_far)):
            expected.append((place, value, 100 + place))
        so_far += [] if value is None else [value]
    assert best_so_far(points(values), minimised=minimised) == expected


def test_trials_after_the_search_and_failed_ones_are_never_the_best() -> None:
    found = points([0.5, 0.1, 0.2])
    found[1]["final"], found[2]["end"] = True, EndReason.DIVERGED
    assert best_so_far(found, minimised=True) == [(0, 0.5, 100)]


@given(st.lists(st.integers(), max_size=300), st.integers(2, 50))
def test_thinned_keeps_order_bound_first_and_last(items: list[int], most: int) -> None:
    found = thinned(items, most)
    assert len(found) == min(most, len(items))
    assert found[:1] == items[:1]
    assert found[-1:] == items[-1:]
    left = iter(items)
    assert all(item in left for item in found)


def test_a_document_is_json_without_nan_and_bounded_whatever_the_trials_hold() -> None:
    hostile = {
        f"p{place}": [float("nan"), "x" * 10_000, None, True, [1, 2], {"a": 1}][place % 6] for place in range(60)
    }
    rows = [row(number, params={**hostile, "p0": float(number)}) for number in range(MAX_POINTS + 500)]
    curve = [(step, math.inf if step == 3 else 1.0) for step in range(1, 1000)]
    found = trials_document("x", SPEC, rows, {0: curve})
    text = json.dumps(found, allow_nan=False)
    assert len(text) < 5_000_000
    assert len(found["points"]) == MAX_POINTS
    assert len(found["curves"][0]["points"]) == MAX_CURVE_POINTS
    assert len(found["points"][0]["params"]) == MAX_PARAMS
    assert max(len(str(value)) for value in found["points"][0]["params"].values()) <= 60


def test_points_come_in_the_order_of_their_ends_and_only_parameters_that_differ_are_offered() -> None:
    rows = [row(0, params={"lr": 1, "same": 5}, ended_wall=9.0), row(1, params={"lr": 2, "same": 5}), row(2, end=None)]
    found = trials_document("x", SPEC, rows, {})
    assert [(point["place"], point["trial"]) for point in found["points"]] == [(1, 1), (2, 0)]
    assert found["params"] == ["lr"]


def test_running_trials_curves_come_first_then_the_newest_ended_ones() -> None:
    rows = [*(row(number) for number in range(40)), row(40, None, None), row(41, None, None)]
    numbers = curve_numbers(rows)
    assert numbers[:3] == [40, 41, 39]
    assert len(numbers) == 26


@given(st.dictionaries(st.integers(0, 20_000), st.floats(0, 120), max_size=200))
def test_a_series_keeps_each_peak_and_its_bound(found: dict[int, float]) -> None:
    rows = [{"node": "n", "sensor": "s", "minute": minute, "high": high} for minute, high in sorted(found.items())]
    lines = series(rows, 0, 20_000)
    assert len(lines) == min(1, len(rows))
    for line in lines:
        assert len(line["points"]) <= MAX_SERIES_POINTS
        assert max(high for _, high in line["points"]) == max(found.values())
        assert all(one[0] < other[0] for one, other in itertools.pairwise(line["points"]))


def event(seq: int, name: str, **fields: Any) -> Event:
    return Event(seq, float(seq), name, "r", "x", None, None, fields)


def paused(seq: int, origin: str = "governor") -> Event:
    return event(seq, "experiment.paused", origin=origin, action="PAUSE", reason="hot")


def test_a_pause_begins_and_ends_by_its_events_and_another_cause_is_another_band() -> None:
    bands = PauseBands()
    for found in (paused(1), paused(3, "operator"), event(5, "experiment.resumed"), paused(8)):
        bands.add(found)
    assert [(band["from"], band["to"], band["origin"]) for band in bands.since(0.0)] == [
        (1.0, 3.0, "governor"), (3.0, 5.0, "operator"), (8.0, None, "governor"),
    ]  # fmt: skip
    assert [band["from"] for band in bands.since(4.0)] == [3.0, 8.0]


def test_a_pause_that_a_dead_daemon_left_ends_with_the_next_one() -> None:
    bands = PauseBands()
    bands.add(paused(1))
    bands.add(event(2, "daemon.started"))
    assert [band["to"] for band in bands.since(0.0)] == [2.0]


def test_only_so_many_pauses_are_kept() -> None:
    bands = PauseBands()
    for seq in range(1, 2 * MAX_BANDS + 100):
        bands.add(paused(seq))
    assert len(bands.since(0.0)) == MAX_BANDS
