"""The figures for Prometheus: what there is, by its own parser."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from supervisor.page.figures import Figures
from supervisor.page.metrics import MAX_CAUSES, Rising, metrics_text
from supervisor.store import queries
from tests.unit.page.stored_run import CPU, RUN, FakeLive, StoredRun

Labels = tuple[tuple[str, str], ...]


def values(text: str) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_trials_best_epochs_action_and_temperatures_are_there(figures: Figures) -> None:
    found = values(asyncio.run(figures.metrics()))
    at_work = ("experiment", "200M-h3")
    assert found["sweep_trials", (at_work, ("state", "running"))] == 3.0
    assert found["sweep_trials", (("experiment", "2B-h1"), ("state", "waiting"))] == 8.0
    assert found["sweep_trials", (("experiment", "200M-h1"), ("state", "error"))] == 2.0
    assert found["sweep_trials", (("experiment", "200M-h1"), ("state", "waiting"))] == 0.0, "it has failed"
    assert 0.6 < found["sweep_best_value", (at_work, ("metric", "val_loss"))] < 0.8
    assert found["sweep_epochs_total", (at_work,)] > 20.0
    assert found["sweep_action", (("action", "RUN"),)] == 1.0
    assert sum(value for (name, _), value in found.items() if name == "sweep_action") == 1.0
    assert found["sweep_run_state", (("state", "RUNNING"),)] == 1.0
    assert found["sweep_temperature_pause_celsius", (("node", "node"), ("sensor", CPU))] == 88.0
    assert found["sweep_info", (("plan", "phase6a"), ("run", RUN), ("version", "0.1.0"))] == 1.0


def test_lost_seconds_have_a_bounded_number_of_causes_and_keep_their_sum(stored: StoredRun, live: FakeLive) -> None:
    view = live.completed(queries.run_snapshot(stored.store.connection, RUN))
    view["lost"] = [
        {"experiment": None, "trial": None, "cause": f'reason "{place}"\n', "seconds": float(place)}
        for place in range(1, 90)
    ]
    found = values(metrics_text(view, {}, []))
    lost = [value for (name, _), value in found.items() if name == "sweep_lost_seconds_total"]
    assert len(lost) == MAX_CAUSES + 1
    assert sum(lost) == sum(range(1, 90))


def lost_of(view: dict[str, Any], seconds: list[float], rising: Rising) -> dict[str, float]:
    """The counter of lost seconds by cause, `seconds` of the causes 0, 1, ... in the order of their begin."""
    view["lost"] = [
        {"experiment": None, "trial": None, "cause": str(place), "seconds": one} for place, one in enumerate(seconds)
    ]
    found = values(metrics_text(view, {}, [], rising))
    return {dict(labels)["cause"]: one for (name, labels), one in found.items() if name == "sweep_lost_seconds_total"}


def test_no_counter_of_lost_seconds_falls_when_another_cause_becomes_the_largest(
    stored: StoredRun, live: FakeLive
) -> None:
    view, rising = live.completed(queries.run_snapshot(stored.store.connection, RUN)), Rising()
    seconds = [1.0 + place for place in range(MAX_CAUSES + 5)]
    before = lost_of(view, seconds, rising)
    for place in (MAX_CAUSES + 2, 0, MAX_CAUSES + 4):
        seconds[place] += 1000.0
        after = lost_of(view, seconds, rising)
        assert before.keys() == after.keys()
        assert all(after[cause] >= one for cause, one in before.items())
        before = after


def test_no_counter_falls_when_the_clock_is_set_back_and_it_goes_on_from_there(
    stored: StoredRun, live: FakeLive
) -> None:
    view, rising = live.completed(queries.run_snapshot(stored.store.connection, RUN)), Rising()
    assert [lost_of(view, [one], rising)["0"] for one in (10.0, 12.0, 5.0, 6.0)] == [10.0, 12.0, 12.0, 13.0]


def test_the_epochs_of_a_trial_that_begins_anew_stay_counted(stored: StoredRun, live: FakeLive) -> None:
    view, rising = live.completed(queries.run_snapshot(stored.store.connection, RUN)), Rising()
    at_work = ("sweep_epochs_total", (("experiment", "200M-h3"),))
    found = [values(metrics_text(view, {"200M-h3": epochs}, [], rising))[at_work] for epochs in (40, 25, 27)]
    assert found == [40.0, 40.0, 42.0]
