"""Test the view of the cluster: each sample shows, and few become events."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from supervisor.daemon.cluster import NodeView, summarise
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
