"""The figures for Prometheus: what there is, by its own parser."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from supervisor.page.figures import Figures
from supervisor.page.metrics import MAX_CAUSES, metrics_text
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
    from supervisor.store import queries

    view = live.completed(queries.run_snapshot(stored.store.connection, RUN))
    view["lost"] = [
        {"experiment": None, "trial": None, "cause": f'reason "{place}"\n', "seconds": float(place)}
        for place in range(1, 90)
    ]
    found = values(metrics_text(view, {}, []))
    lost = [value for (name, _), value in found.items() if name == "sweep_lost_seconds_total"]
    assert len(lost) == MAX_CAUSES + 1
    assert sum(lost) == sum(range(1, 90))
