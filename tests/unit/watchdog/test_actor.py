"""The watchdog of a node, without Ray: real sensors of this machine, the scripted one, the real governor."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from actors.driver.watchdog_links import memory_file
from actors.trial.gate import Gate, Leave
from actors.trial.node_files import LAYOUT, flag_path
from actors.watchdog import actor
from actors.watchdog.actor import Watchdog, WatchdogSettings, _restored
from supervisor.clock import Clock, FakeClock, Now
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import trial_scope
from supervisor.governor.state import GovernorState
from supervisor.sensors.isolation import IsolatedProvider, Patience
from supervisor.sensors.scripted import simple_reading

NODE = "n" * 40
CALM = {
    "period_s": 0.05, "fast_period_s": 0.05, "soft_dwell_s": 0, "pause_dwell_s": 0, "hold_min_s": 0,
    "ease_after_s": 0.1, "min_off_s": 0, "disk_hold_bytes": 2.0, "disk_pause_bytes": 1.0, "memory_shed_percent": 98.0,
    "memory_pause_percent": 99.0, "memory_critical_percent": 100.0,
}  # fmt: skip
PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "test").to_json()


@pytest.fixture
def start(tmp_path):
    """A watchdog in this process; `script="heat"` style drills are asked of it later."""
    started = []

    def make(**changes):
        settings = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
        started.append(Watchdog(WatchdogSettings(**{**vars(settings), **changes})))
        return started[-1]

    yield make
    for dog in started:
        dog.stop()


def flag(tmp_path):
    _, _, action, _, _, lease, _ = LAYOUT.unpack_from(flag_path(str(tmp_path / "gate"), NODE).read_bytes())
    return Action(action), lease


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_until_a_driver_has_spoken_the_flag_says_pause(start, tmp_path):
    """A watchdog that Ray restarted does not know of an operator's pause."""
    dog = start()
    assert flag(tmp_path)[0] is Action.PAUSE
    dog.set_operator([], time.monotonic_ns())
    assert flag(tmp_path)[0] is Action.RUN


def test_the_operators_command_is_in_the_flag_when_the_call_returns(start, tmp_path):
    dog = start()
    for commands, action in (([PAUSE], Action.PAUSE), ([], Action.RUN)):
        dog.set_operator(commands, time.monotonic_ns())
        assert flag(tmp_path)[0] is action


def test_a_command_for_another_node_is_not_ours(start, tmp_path):
    dog = start()
    dog.set_operator([{**PAUSE, "scope": "another"}], time.monotonic_ns())
    assert flag(tmp_path)[0] is Action.RUN


def test_an_older_wish_of_the_operator_that_comes_late_changes_nothing(start, tmp_path):
    dog = start()
    dog.set_operator([PAUSE], 2)
    dog.set_operator([], 1)
    assert flag(tmp_path)[0] is Action.PAUSE


def test_a_drill_pauses_and_ends_and_each_change_wakes_the_long_poll(start, tmp_path):
    dog = start()
    dog.set_operator([], time.monotonic_ns())
    version = dog.snapshot()["version"]
    dog.start_drill("heat", 2.0)
    rungs, drills = [], []
    while not (rungs and rungs[-1] == "RUN" and "PAUSE" in rungs):
        snapshot = dog.wait_change(version, 20.0)
        assert snapshot["version"] > version, "nothing changed for 20 s"
        version = snapshot["version"]
        rungs.append(snapshot["command"]["action"])
        drills += [note["facts"]["drill"] for note in snapshot["notes"] if note["kind"] == "action.changed"]
    assert "PAUSE" in rungs
    assert drills[0] is True
    assert flag(tmp_path)[0] is Action.RUN


def test_the_next_driver_does_not_hear_old_notes_again(start, tmp_path):
    dog = start()
    same = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
    version = dog.snapshot()["version"]
    dog.start_drill("heat", 0.5)
    assert dog.wait_change(version, 20.0)["notes"]
    wait_until(lambda: dog.snapshot()["command"]["action"] == "RUN")
    assert dog.configure(same)["notes"] == []


def test_a_long_poll_ends_in_time_when_nothing_changes(start):
    dog = start()
    snapshot = dog.snapshot()
    wait_until(lambda: dog.snapshot()["version"] == dog.wait_change(dog.snapshot()["version"], 0.2)["version"])
    assert snapshot["readings"], "this machine has at least its memory and disk"


def test_an_unknown_drill_is_refused_with_the_names(start):
    with pytest.raises(ValueError, match="sensor-lost"):
        start().start_drill("haet", 1.0)


def test_the_governors_memory_survives_a_restart(start, tmp_path):
    """A pause goes on under the next watchdog: its minimum time off is not forgotten."""
    hot, cool = tmp_path / "hot.jsonl", tmp_path / "cool.jsonl"
    hot.write_text('{"at_s": 0.0, "celsius": 104.0}\n')
    cool.write_text('{"at_s": 0.0, "celsius": 40.0}\n')
    dog = start(policy={**CALM, "min_off_s": 3600.0}, script=str(hot))
    dog.set_operator([], time.monotonic_ns())
    wait_until(lambda: flag(tmp_path)[0] is Action.PAUSE)
    dog.stop()
    again = start(policy={**CALM, "min_off_s": 3600.0}, script=str(cool))
    again.set_operator([], time.monotonic_ns())
    time.sleep(0.3)
    assert flag(tmp_path)[0] is Action.PAUSE


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}'])
def test_a_memory_that_is_of_no_use_is_begun_anew(start, tmp_path, content):
    path = flag_path(str(tmp_path / "gate"), NODE)
    path.with_name(path.name + ".memory").write_text(content)
    dog = start()
    dog.set_operator([], time.monotonic_ns())
    assert flag(tmp_path)[0] is Action.RUN


def test_the_lease_is_renewed_while_sampling_goes_on_and_not_after(start, tmp_path, monkeypatch):
    """A provider that hangs must not leave trials running unwatched."""
    monkeypatch.setattr(actor, "RENEW_S", 0.02)
    monkeypatch.setattr(actor, "STALLED_MIN_S", 0.3)
    dog = start()
    dog.set_operator([], time.monotonic_ns())
    before = flag(tmp_path)[1]
    wait_until(lambda: flag(tmp_path)[1] > before)
    hanging, let_go = threading.Event(), threading.Event()

    class Hangs:
        name = "hangs"

        def read(self):
            hanging.set()
            let_go.wait(20)
            return []

        def close(self):
            pass

    dog._providers.append(Hangs())
    assert hanging.wait(20)
    time.sleep(0.6)
    stale = flag(tmp_path)[1]
    time.sleep(0.2)
    assert flag(tmp_path)[1] == stale
    let_go.set()
    wait_until(lambda: flag(tmp_path)[1] > stale)


def test_a_watchdog_that_nobody_calls_ends_itself(start, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(actor, "RENEW_S", 0.02)
    monkeypatch.setattr(actor, "IDLE_END_S", 0.2)
    monkeypatch.setattr(actor, "_end_this_actor", ended.set)
    start()
    assert ended.wait(20)


def test_new_settings_are_taken_and_the_same_ones_change_nothing(start, tmp_path):
    dog = start()
    dog.set_operator([], time.monotonic_ns())
    same = WatchdogSettings(NODE, str(tmp_path / "gate"), CALM, None, (str(tmp_path),))
    providers = dog._providers
    dog.configure(same)
    assert dog._providers is providers
    dog.configure(WatchdogSettings(**{**vars(same), "script": "heat"}))
    assert dog._providers is not providers
    wait_until(lambda: flag(tmp_path)[0] is Action.PAUSE)


def test_a_single_trials_pause_closes_the_gate_for_it_alone(start, tmp_path):
    """And after `release_after_s` it is told to give its memory back."""
    dog = start(policy={**CALM, "release_after_s": 0.2})
    dog.set_operator([{**PAUSE, "scope": trial_scope("e", 5)}], time.monotonic_ns())
    path = flag_path(str(tmp_path / "gate"), NODE)
    gates = {number: Gate(path, trial=number, may_be_released=True) for number in (5, 6)}
    assert gates[5]._read(time.monotonic())[0] is Action.PAUSE
    assert gates[6].wait() == 0.0
    with pytest.raises(Leave):
        gates[5].wait()


def test_a_single_trials_stop_makes_it_leave_at_once_and_the_others_go_on(start, tmp_path):
    """So the governor asks the largest for its memory back."""
    dog = start()
    stop = Command(Action.STOP, Origin.GOVERNOR, "memory at 91 %", trial_scope("e", 5))
    dog.set_operator([stop.to_json()], time.monotonic_ns())
    path = flag_path(str(tmp_path / "gate"), NODE)
    gates = {number: Gate(path, trial=number, may_be_released=True) for number in (5, 6)}
    with pytest.raises(Leave):
        gates[5].wait()
    assert gates[6].wait() == 0.0
    dog.set_operator([], time.monotonic_ns())
    assert gates[5].wait() == 0.0


def test_an_operators_force_lifts_the_governors_pause_but_not_above_critical(start, tmp_path):
    """And it outlives the watchdog: the pause does not come back with the next one."""
    script = tmp_path / "trace.jsonl"
    script.write_text('{"at_s": 0.0, "celsius": 101.0}\n')
    settings = {"script": str(script), "policy": {**CALM, "min_off_s": 3600.0}}
    dog = start(**settings)
    dog.set_operator([], time.monotonic_ns())
    wait_until(lambda: flag(tmp_path)[0] is Action.PAUSE)
    assert dog.force(600.0)["command"]["action"] == "THROTTLE"
    assert flag(tmp_path)[0] is Action.THROTTLE
    dog.stop()
    again = start(**settings)
    again.set_operator([], time.monotonic_ns())
    assert flag(tmp_path)[0] is Action.THROTTLE
    again.stop()
    script.write_text('{"at_s": 0.0, "celsius": 107.0}\n')
    hotter = start(**settings)
    assert hotter.force(600.0)["command"]["action"] == "PAUSE"


def test_a_stop_is_kept_for_the_host_and_a_pause_of_yesterday_is_not(tmp_path):
    """A new cluster has new node ids, and a reboot a new clock; an operator's absence outlasts both."""
    clock = FakeClock()
    for action, kept in ((Action.STOP, Action.STOP), (Action.PAUSE, Action.RUN)):
        memory = replace(GovernorState(action=action, reason="hot"), last=Now.of(clock))
        (tmp_path / "governor.host").write_text(json.dumps(memory.to_json()))
        assert _restored(tmp_path / "governor.host", Now(5.0, clock.wall_s() + 86400.0)).action is kept
        assert _restored(tmp_path / "governor.host", Now(clock.mono_s() + 5.0, clock.wall_s() + 5.0)).action is action


def test_the_memory_is_named_by_its_host_and_of_two_nodes_on_one_host_each_has_its_own():
    hosts = {"b" * 40: "ann's mac", "a" * 40: "ann's mac", "c" * 40: "other"}
    assert memory_file("/s/governor", "a" * 40, hosts) == "/s/governor.ann_s_mac"
    assert memory_file("/s/governor", "c" * 40, hosts) == "/s/governor.other"
    assert memory_file("/s/governor", "b" * 40, hosts) == "/s/governor.ann_s_mac." + "b" * 12


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_sensors_child_that_is_gone_is_told_eases_the_work_and_comes_back(start, tmp_path, how):
    """A vital sensor that is lost sheds and pauses; with its child back the work goes on."""
    dog = start(policy={**CALM, "lost_pause_s": 0.2, "lost_shed_periods": 2.0})
    dog.set_operator([], time.monotonic_ns())
    answer = json.dumps({"readings": [simple_reading(61.5).to_json()]})
    stamped = f"""
import sys, time
for line in sys.stdin:
    answer = {answer!r}.replace('"mono_s": 0.0', f'"mono_s": {{time.monotonic()}}')
    print(answer.replace('"wall_s": 0.0', f'"wall_s": {{time.time()}}'), flush=True)
"""
    patience = Patience(deadline_s=0.5, back_off_s=1.5, max_back_off_s=1.5)
    child = IsolatedProvider("fake", [sys.executable, "-c", stamped], Clock(), patience)
    with dog._changed:
        dog._providers.append(child)
    wait_until(lambda: any(r["sensor_id"] == "script:cpu" and r["quality"] == "ok" for r in dog.snapshot()["readings"]))
    version = dog.snapshot()["version"]
    os.kill(child.pid, how)
    wait_until(lambda: flag(tmp_path)[0] is Action.PAUSE)
    wait_until(lambda: flag(tmp_path)[0] is Action.RUN)
    notes = [note["kind"] for note in dog.snapshot(since=version)["notes"]]
    assert {"sensor.hung", "sensor.lost", "sensor.recovered"} <= set(notes)
