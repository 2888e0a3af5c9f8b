"""Test the view of the cluster: each sample shows, and few become events."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView, NodeView, summarise
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from tests.unit.daemon.orchestrator_stage import DONE, Stage


def test_samples_show_at_once_but_become_events_only_now_and_then(tmp_path: Path) -> None:
    up = ["message", "WatchdogUp", {"node": "n", "pid": 1, "protected": False, "missing": {"hwmon": "no chip"}}]
    sample = ["message", "Sampled", {"node": "n", "readings": [], "protected": False}]
    stage = Stage(tmp_path, a=[[up, sample, sample, sample, up, *DONE]])
    stage.live()
    assert len(stage.facts("hardware.sampled")) == 1
    assert [fact["why"] for fact in stage.facts("watchdog.unprotected")] == ["hwmon: no chip"]
    assert len(stage.facts("watchdog.started")) == 2
    assert stage.now is not None
    assert dataclasses.replace(stage.now.nodes["n"], message_mono_s=None, recorded_mono_s=None) == NodeView(
        missing={"hwmon": "no chip"}, command=stage.now.nodes["n"].command
    )


def changed(action: Action) -> messages.ActionChanged:
    return messages.ActionChanged("n", Command(action, Origin.GOVERNOR, "92 C", "n").to_json())


@pytest.fixture
def two(tmp_path: Path) -> tuple[Stage, ClusterView]:
    """Return a run with two experiments at work, whose drivers hear the same of node n."""
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    return stage, ClusterView(stage.writer, Clock())


def test_what_two_drivers_hear_of_a_governor_is_one_event_each_time(two: tuple[Stage, ClusterView]) -> None:
    """Whichever hears it first; what holds the node ends when both have heard that it does."""
    stage, cluster = two
    for name, action in [("a", "SHED"), ("a", "PAUSE"), ("b", "SHED"), ("b", "PAUSE"), ("b", "RUN"), ("a", "RUN")]:
        cluster.action_changed(changed(Action[action]), name)
    changes = [(fact["previous"], fact["action"]) for fact in stage.facts("action.changed")]
    assert changes == [("RUN", "SHED"), ("SHED", "PAUSE"), ("PAUSE", "RUN")]


def test_a_driver_that_is_gone_takes_only_what_it_said_itself_along(two: tuple[Stage, ClusterView]) -> None:
    stage, cluster = two
    cluster.action_changed(changed(Action.HOLD), "a")
    cluster.action_changed(changed(Action.RUN), "b")
    cluster.driver_gone("a")
    assert cluster.in_force([]).action is Action.RUN
    assert [fact["action"] for fact in stage.facts("action.changed")] == ["HOLD", "RUN"]
    cluster.action_changed(changed(Action.PAUSE), "b")
    cluster.driver_gone("a")
    assert cluster.in_force([]).action is Action.PAUSE
    cluster.driver_gone("b")
    assert cluster.in_force([]).action is Action.RUN
    assert len(stage.facts("action.changed")) == 3, "the next driver's watchdogs say it again"


@given(order=st.lists(st.sampled_from("ab"), max_size=30))
def test_each_note_of_a_watchdog_is_recorded_once_whichever_driver_passes_it_on(order: list[str]) -> None:
    """Each driver passes on all notes, in their order; a watchdog that Ray starts anew counts from 1 again."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), a=[DONE], b=[DONE])
        cluster, heard = ClusterView(stage.writer, Clock()), {"a": 0, "b": 0}
        for name in order:
            heard[name] += 1
            serial = heard[name]
            cluster.noted(messages.SensorNoted("n", "sensor.lost", {"sensor": f"s{serial}"}, 7, serial))
        recorded = [fact["facts"]["sensor"] for fact in stage.facts("sensor.lost")]
        assert recorded == [f"s{serial}" for serial in range(1, max(heard.values()) + 1)]
        cluster.noted(messages.SensorNoted("n", "sensor.lost", {"sensor": "anew"}, 8, 1))
        assert stage.facts("sensor.lost")[-1]["facts"] == {"sensor": "anew"}
        stage.store.close()


def test_the_samples_of_one_driver_count_while_it_is_at_work(two: tuple[Stage, ClusterView]) -> None:
    _, cluster = two
    for name, celsius in (("a", 50.0), ("b", 60.0)):
        reading = {"kind": "temperature", "unit": "celsius", "value": celsius, "component": "cpu", "sensor_id": "s"}
        cluster.sampled(messages.Sampled("n", [reading], True), name)
    assert [reading["value"] for reading in cluster.nodes["n"].readings] == [50.0]
    cluster.driver_gone("a")
    cluster.sampled(messages.Sampled("n", [{**cluster.nodes["n"].readings[0], "value": 70.0}], True), "b")
    assert [reading["value"] for reading in cluster.nodes["n"].readings] == [70.0]


@pytest.mark.parametrize(
    ("readings", "protected", "text"),
    [
        (
            [("temperature", 61.4, "C"), ("temperature", 55.0, "C"), ("utilisation", 97.2, "percent")],
            True,
            "61 C, cpu 97 %",
        ),
        (
            [("temperature", None, "C"), ("memory", 41.0, "percent"), ("memory", 5e9, "bytes")],
            True,
            "no reading, memory 41 %",
        ),
        ([], False, "no sensor"),
    ],
)
def test_a_sample_is_summarised_in_one_line(
    readings: list[tuple[str, float | None, str]], protected: bool, text: str
) -> None:
    rows = [{"kind": kind, "value": value, "unit": unit} for kind, value, unit in readings]
    assert summarise(rows, protected) == text
