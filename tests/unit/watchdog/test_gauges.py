"""Test the watchdog's gauges: their values, and that absence is no number."""

from __future__ import annotations

import math
import time
from pathlib import Path

from actors.watchdog.actor import Watchdog
from actors.watchdog.gauges import GAUGES, WatchdogGauges
from actors.watchdog.node_governor import WatchdogSettings
from supervisor.clock import FakeClock, Now
from supervisor.domain.command import Action, Command, Origin
from supervisor.sensors.provider import Absence, Sampler, Sensor
from supervisor.sensors.reading import Kind, Quality


class Shown:
    """Stands for ray.util.metrics.Gauge."""

    def __init__(self):
        self.values, self.tags = {}, set()

    def new(self, name, description):
        assert description
        shown = self

        class One:
            def set(self, value, tags=None):
                shown.values[name] = value
                shown.tags.add(tuple(tags.items()))

        return One()


def test_each_gauge_shows_the_value_of_its_description():
    shown, sampler = Shown(), Sampler("test", Now.of(FakeClock()))
    readings = [
        sampler.reading(Sensor("a", Kind.TEMPERATURE, "cpu", "celsius"), 71.0),
        sampler.reading(Sensor("b", Kind.TEMPERATURE, "cpu", "celsius"), 64.0),
        sampler.reading(Sensor("m", Kind.MEMORY, "host", "percent"), 41.0),
        sampler.reading(Sensor("c", Kind.TEMPERATURE, "gpu", "celsius"), Absence(Quality.ERROR, "gone")),
        sampler.reading(Sensor("d", Kind.SWAP, "host", "percent"), Absence(Quality.UNSUPPORTED, "no swap")),
    ]
    command = Command(Action.THROTTLE, Origin.GOVERNOR, "x", throttle_share=0.25, shed_trials=2)
    WatchdogGauges("n" * 40, shown.new).show(command, readings, 1.5, 0.5)
    assert set(shown.values) == set(GAUGES)
    assert list(shown.values.values()) == [3.0, 2.0, 0.25, 71.0, 41.0, 1.0, 1.5, 0.5]
    assert shown.tags == {(("node", "n" * 12),)}


def test_an_unknown_value_is_not_a_number():
    shown = Shown()
    WatchdogGauges("n", shown.new).show(Command(Action.RUN, Origin.GOVERNOR, "x"), [], 0.0, 0.0)
    unknown = {name for name, value in shown.values.items() if math.isnan(value)}
    assert unknown == {"sweep_watchdog_hottest_celsius", "sweep_watchdog_memory_percent"}


def test_a_watchdog_keeps_its_gauges_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr("actors.watchdog.actor.RENEW_S", 0.02)
    shown = Shown()
    dog = Watchdog(WatchdogSettings("n", str(tmp_path / "g"), {}, None, ()), WatchdogGauges("n", shown.new))
    dog.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "x")], 2**62, "e")
    deadline = time.monotonic() + 20
    while shown.values.get("sweep_watchdog_action") != 4.0 or math.isnan(shown.values["sweep_watchdog_memory_percent"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert shown.values["sweep_watchdog_lease_age_seconds"] < 15.0
    dog.stop()


def test_the_docs_list_each_gauge_with_its_description():
    page = (Path(__file__).resolve().parents[3] / "docs" / "sensors.md").read_text()
    table = page.partition("<!-- gauges: begin -->")[2].partition("<!-- gauges: end -->")[0]
    rows = [line for line in table.strip().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {description} |" for name, description in GAUGES.items()]
