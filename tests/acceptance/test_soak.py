"""Run a small soak, an hour of the simulated day; assert no figure of time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.stages.soak_driver import Measurement
from supervisor.audit.rotation import Limits
from supervisor.home import Home

EXPERIMENTS, EVENTS = 2, 600


@pytest.mark.slow
def test_a_simulated_hour_leaves_a_whole_run_and_no_more_open_than_before(home: Home, tmp_path: Path) -> None:
    scenario = soak.scenario_of(home.root, tmp_path / "soak.csv", 1.0, EVENTS, EXPERIMENTS)
    measurements = soak.live(scenario)
    assert [measure.hour for measure in measurements] == [0.5, 1.0]
    assert measurements[0].events < measurements[1].events
    assert abs(measurements[-1].events - EVENTS) < EVENTS // 5
    assert measurements[1].readings > 0
    # One descriptor more or less: of the connection that is being closed.
    assert abs(measurements[1].descriptors - measurements[0].descriptors) <= 1
    assert measurements[1].threads <= measurements[0].threads + 1
    assert soak.broken_promises(home) == []
    soak.draw(measurements, tmp_path / "soak")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    assert "simulated hours" in soak.render(measurements, soak.judge(measurements), 1.0)


DAY = [
    Measurement(
        hour=place / 2, events=2000 * place, rss_bytes=60 << 20, descriptors=15, threads=5,
        store_bytes=1_600_000 * place, wal_bytes=4 << 20, log_bytes=1_000_000 * (place % 40),
        log_parts_bytes=1_000_000 * place, readings=600 * place, status_p50_s=0.0015, status_p99_s=0.006,
        full_status_s=None, commit_p50_s=0.0005, commit_p99_s=0.005,
    )
    for place in range(1, 49)
]  # fmt: skip


def test_a_day_without_growth_is_flat() -> None:
    assert [verdict.name for verdict in soak.judge(DAY) if not verdict.holds] == []


@pytest.mark.parametrize(
    ("name", "growth"),
    [
        ("rss_bytes", 300_000.0),
        ("descriptors", 0.2),
        ("threads", 0.1),
        ("status_p50_s", 0.0001),
        ("status_p99_s", 0.0003),
        ("commit_p50_s", 0.00001),
        ("wal_bytes", 100_000.0),
        ("store bytes an event", 40_000.0),
        ("log at work", Limits().max_bytes / 40),
    ],
)
def test_what_grows_by_a_little_each_half_hour_is_found(name: str, growth: float) -> None:
    """Each by itself; the store's growth is one an event, on top of what it must keep."""
    field = {"store bytes an event": "store_bytes", "log at work": "log_bytes"}.get(name, name)
    power = 2 if name == "store bytes an event" else 1
    grown = [
        replace(measure, **{field: type(getattr(measure, field))(getattr(measure, field) + growth * place**power)})
        for place, measure in enumerate(DAY)
    ]
    assert [verdict.name for verdict in soak.judge(grown) if not verdict.holds] == [name]
