"""The hardware's log between drivers: an event each five minutes while no watchdog sends samples."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.cluster import HARDWARE_EVENT_PERIOD_S, SILENT_AFTER_S, NodeView
from supervisor.daemon.upkeep.hardware_log import LOOK_PERIOD_S, MACHINE, HardwareLog
from supervisor.errors import WorkerFailed
from tests.unit.daemon.orchestrator_stage import Stage
from tests.waits import NET_S

FOUND = {
    "protected": True,
    "providers": [{"name": "nvidia", "ok": False, "reason": "no library", "remedy": None}],
    "readings": [{"kind": "temperature", "unit": "celsius", "value": 61.2}],
}


class HandClock(Clock):
    """A clock that a test sets."""

    now_s = 1000.0

    def mono_s(self) -> float:
        return self.now_s


class Machine:
    """A machine whose sensors are asked, and nodes whose watchdogs may send samples."""

    def __init__(self, folder: Path) -> None:
        self.stage, self.clock = Stage(folder), HandClock()
        self.nodes: dict[str, NodeView] = {}
        self.asked = 0
        self.fails = False
        self.log = HardwareLog(self.stage.writer, self.clock, lambda: self.nodes, self.sample)

    async def sample(self) -> dict[str, Any]:
        self.asked += 1
        if self.fails:
            raise WorkerFailed("took longer than 60 s")
        return FOUND

    def wait(self, seconds: float, watched: bool = False) -> None:
        """Let time pass; `watched`: a watchdog sends samples all the while, and records as the daemon does."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s += LOOK_PERIOD_S
            if watched:
                node = self.nodes.setdefault("n", NodeView())
                node.message_mono_s = self.clock.now_s
                last_s = node.recorded_mono_s
                if last_s is None or self.clock.now_s - last_s >= HARDWARE_EVENT_PERIOD_S:
                    node.recorded_mono_s = self.clock.now_s
            asyncio.run(self.log.look())

    def events(self) -> int:
        return len(self.stage.facts("hardware.sampled"))


def test_without_a_watchdog_the_machine_is_logged_each_five_minutes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.wait(60.0)
    assert machine.events() == 1, "the first a moment after the start"
    machine.wait(HARDWARE_EVENT_PERIOD_S * 4)
    assert machine.events() == machine.asked == 5
    (fact, *_) = machine.stage.facts("hardware.sampled")
    assert (fact["node"], fact["summary"]) == (MACHINE, "61 C")
    assert fact["missing"] == {"nvidia": "no library"}


def test_while_a_watchdog_sends_samples_nothing_is_asked(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.wait(3600.0, watched=True)
    assert machine.asked == 0
    machine.nodes.clear()  # Ray starts anew
    machine.wait(HARDWARE_EVENT_PERIOD_S)
    assert machine.asked == 1


def test_a_hung_sensor_is_not_asked_at_each_look(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.fails = True

    def hour() -> int:
        failed = 0
        for _ in range(int(3600 / LOOK_PERIOD_S)):
            try:
                machine.wait(LOOK_PERIOD_S)
            except WorkerFailed:
                failed += 1
        return failed

    assert hour() == machine.asked <= 3600 / HARDWARE_EVENT_PERIOD_S + 1


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 2000.0)), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_no_six_minutes_pass_without_a_sample_logged(phases: list[tuple[bool, float]]) -> None:
    """Whatever the order of drivers, and of times without one."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        logged_s, asked = machine.clock.now_s, 0
        for watched, seconds in phases:
            end_s = machine.clock.now_s + seconds
            while machine.clock.now_s < end_s:
                machine.wait(LOOK_PERIOD_S, watched)
                recorded = [node.recorded_mono_s for node in machine.nodes.values() if node.recorded_mono_s is not None]
                if machine.asked > asked:
                    logged_s, asked = machine.clock.now_s, machine.asked
                logged_s = max([logged_s, *recorded])
                assert machine.clock.now_s - logged_s <= HARDWARE_EVENT_PERIOD_S + SILENT_AFTER_S + 2 * LOOK_PERIOD_S


def test_the_process_that_reads_the_sensors_answers_with_json(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "supervisor.sensors.survey"], input=json.dumps([str(tmp_path)]), text=True,
        capture_output=True, check=True, timeout=NET_S,
    )  # fmt: skip
    found = json.loads(answer.stdout)
    assert {"protected", "providers", "readings"} <= set(found)
    assert f"disk:{tmp_path}" in {reading["sensor_id"] for reading in found["readings"]}
