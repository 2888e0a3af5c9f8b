"""The watchdog of a node, without Ray: real sensors of this machine, the scripted one, the real governor."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import pytest

from actors.trial.heartbeat import Heartbeat, Phase, Worker
from actors.trial.node_files import LAYOUT, flag_path, heartbeats_folder
from actors.watchdog import actor, hang_watch
from actors.watchdog.actor import Watchdog
from actors.watchdog.node_governor import NodeGovernor, WatchdogSettings
from supervisor.clock import Clock
from supervisor.domain.command import Action, Command, Origin
from supervisor.processes.identity import started_at
from supervisor.sensors.discovery import open_providers
from supervisor.sensors.isolation import IsolatedProvider, Patience
from supervisor.sensors.scripted import simple_reading

NODE = "n" * 40
CALM = {
    "period_s": 0.05, "fast_period_s": 0.05, "soft_dwell_s": 0, "pause_dwell_s": 0, "hold_min_s": 0,
    "ease_after_s": 0.1, "min_off_s": 0, "disk_hold_bytes": 2.0, "disk_pause_bytes": 1.0, "memory_shed_percent": 98.0,
    "memory_pause_percent": 99.0, "memory_critical_percent": 100.0,
}  # fmt: skip
PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "test")


@pytest.fixture
def start(tmp_path):
    """A watchdog in this process, with the providers of `more` beside the machine's own."""
    started = []

    def make(*more, **changes):
        def opened(*arguments, **named):
            providers, said = open_providers(*arguments, **named)
            return [*providers, *more], said

        settings = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
        started.append(Watchdog(WatchdogSettings(**{**vars(settings), **changes}), open_providers=opened))
        return started[-1]

    yield make
    for dog in started:
        dog.stop()


def flag(tmp_path):
    return Action(LAYOUT.unpack_from(flag_path(str(tmp_path / "gate"), NODE, "e").read_bytes())[2])


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_drill_pauses_and_ends_and_each_change_ends_the_long_poll(start, tmp_path):
    dog = start()
    dog.set_operator([], time.monotonic_ns(), "e")
    version = dog.snapshot()["version"]
    dog.start_drill("heat", 2.0)
    actions, drills = [], []
    while not (actions and actions[-1] == "RUN" and "PAUSE" in actions):
        snapshot = dog.wait_change(version, 20.0)
        version = snapshot["version"]
        actions.append(snapshot["command"]["action"])
        drills += [note["facts"]["drill"] for note in snapshot["notes"] if note["kind"] == "action.changed"]
    assert "PAUSE" in actions
    assert drills[0] is True
    assert flag(tmp_path) is Action.RUN


def test_the_next_driver_does_not_get_old_notes_again(start, tmp_path):
    dog = start()
    same = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
    version = dog.snapshot()["version"]
    dog.start_drill("heat", 0.5)
    old = dog.wait_change(version, 20.0)["notes"]
    assert old
    wait_until(lambda: dog.snapshot()["command"]["action"] == "RUN")
    # The end of the drill may be a note that no driver has had yet.
    assert [note for note in dog.configure(same)["notes"] if note in old] == []


def test_a_long_poll_ends_in_time_when_nothing_changes(start):
    dog = start()
    snapshot = dog.snapshot()
    wait_until(lambda: dog.snapshot()["version"] == dog.wait_change(dog.snapshot()["version"], 0.2)["version"])
    assert snapshot["readings"], "this machine has at least its memory and disk"


def test_an_unknown_drill_is_refused_with_the_names(start):
    with pytest.raises(ValueError, match="sensor-lost"):
        start().start_drill("haet", 1.0)


def test_a_watchdog_without_calls_ends_itself(start, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(actor, "RENEW_S", 0.02)
    monkeypatch.setattr(actor, "IDLE_END_S", 0.2)
    monkeypatch.setattr(actor, "_end_this_actor", ended.set)
    start()
    assert ended.wait(120)


@pytest.mark.parametrize("work", ["sample", "renew"])
def test_an_error_in_a_thread_is_noted_once_and_the_thread_goes_on(start, monkeypatch, work):
    """Without samples the flag's lease runs out, and with them it is renewed again."""
    monkeypatch.setattr(actor, "RENEW_S", 0.02)
    dog, rounds, fails = start(), [], [True]
    right = getattr(NodeGovernor, work)

    def broken(self, *arguments):
        rounds.append(work)
        if fails:
            raise ArithmeticError("a bug")
        return right(self, *arguments)

    monkeypatch.setattr(NodeGovernor, work, broken)
    wait_until(lambda: len(rounds) >= 5)
    found = [note for note in dog.snapshot()["notes"] if note["kind"] == "watchdog.failed"]
    assert [note["facts"]["why"] for note in found] == ["ArithmeticError: a bug"]
    fails.clear()
    before = len(rounds)
    wait_until(lambda: len(rounds) >= before + 2)


def test_new_settings_are_taken_and_the_same_ones_change_nothing(start, tmp_path):
    dog = start()
    dog.set_operator([], time.monotonic_ns(), "e")
    same = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
    version = dog.snapshot()["version"]
    assert dog.configure(same)["version"] == version
    dog.configure(WatchdogSettings(**{**vars(same), "script": "heat"}))
    wait_until(lambda: flag(tmp_path) is Action.PAUSE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_sensors_child_that_is_gone_is_noted_eases_the_work_and_comes_back(start, tmp_path, how):
    """A vital sensor that is lost sheds and pauses; with its child back the work continues."""
    answer = json.dumps({"readings": [simple_reading(61.5).to_json()]})
    stamped = f"""
import sys, time
for line in sys.stdin:
    answer = {answer!r}.replace('"mono_s": 0.0', f'"mono_s": {{time.monotonic()}}')
    print(answer.replace('"wall_s": 0.0', f'"wall_s": {{time.time()}}'), flush=True)
"""
    patience = Patience(deadline_s=0.5, back_off_s=1.5, max_back_off_s=1.5)
    child = IsolatedProvider("fake", [sys.executable, "-c", stamped], Clock(), patience)
    dog = start(child, policy={**CALM, "lost_pause_s": 0.2, "lost_shed_periods": 2.0})
    dog.set_operator([], time.monotonic_ns(), "e")
    wait_until(lambda: any(r["sensor_id"] == "script:cpu" and r["quality"] == "ok" for r in dog.snapshot()["readings"]))
    version = dog.snapshot()["version"]
    os.kill(child.pid, how)
    wait_until(lambda: flag(tmp_path) is Action.PAUSE)
    wait_until(lambda: flag(tmp_path) is Action.RUN)
    notes = [note["kind"] for note in dog.snapshot(since=version)["notes"]]
    assert {"sensor.hung", "sensor.lost", "sensor.recovered"} <= set(notes)


def test_a_driver_gets_the_attempts_that_wait_at_a_closed_gate_until_they_move_again(start, tmp_path):
    """By their heartbeats; the flag alone says only that they must."""
    pid = os.getpid()
    folder = heartbeats_folder(str(tmp_path / "gate"), NODE)
    heartbeat = Heartbeat(folder, Worker("e", 3, 1, str(tmp_path), pid, started_at(pid)), in_batches=True)
    heartbeat.begin_step()
    dog = start()
    dog.set_operator([PAUSE], time.monotonic_ns(), "e")
    assert dog.snapshot()["waiting"] == []
    heartbeat.phase(Phase.WAITING)
    wait_until(lambda: dog.snapshot()["waiting"] == [("e", 3, 1)])
    dog.set_operator([], time.monotonic_ns(), "e")
    heartbeat.phase(Phase.WORKING)
    wait_until(lambda: dog.snapshot()["waiting"] == [])


def test_a_flag_that_closes_brings_the_look_at_waiting_trials_forward(start, tmp_path, monkeypatch):
    """While the flag is open a watchdog looks rarely, here once a day: nothing waits."""
    monkeypatch.setattr(hang_watch, "OPEN_WAIT_PERIOD_S", 86400.0)
    pid = os.getpid()
    folder = heartbeats_folder(str(tmp_path / "gate"), NODE)
    heartbeat = Heartbeat(folder, Worker("e", 3, 1, str(tmp_path), pid, started_at(pid)), in_batches=True)
    heartbeat.phase(Phase.WAITING)
    dog = start()
    dog.set_operator([], time.monotonic_ns(), "e")
    heartbeat.phase(Phase.WORKING)
    wait_until(lambda: dog.snapshot()["waiting"] == [])
    heartbeat.phase(Phase.WAITING)
    dog.set_operator([PAUSE], time.monotonic_ns(), "e")
    wait_until(lambda: dog.snapshot()["waiting"] == [("e", 3, 1)])


def test_the_first_snapshot_of_a_new_watchdog_has_the_attempts_that_wait_already(start, tmp_path, monkeypatch):
    """Otherwise a driver would take them for resumed, when a pause is lifted while their watchdog starts anew."""
    monkeypatch.setattr(hang_watch, "WAIT_PERIOD_S", 3600.0)
    pid = os.getpid()
    folder = heartbeats_folder(str(tmp_path / "gate"), NODE)
    heartbeat = Heartbeat(folder, Worker("e", 3, 1, str(tmp_path), pid, started_at(pid)), in_batches=True)
    heartbeat.phase(Phase.WAITING)
    dog = start()
    dog.set_operator([], time.monotonic_ns(), "e")
    assert dog.snapshot()["waiting"] == [("e", 3, 1)]
