"""Test faults of sensors, temperature, power and GPU with the real watchdog and governor.

The driver of these lives runs a watchdog in its own process and passes on its messages, as the real driver does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.home import Home
from supervisor.sensors.nvidia import describe_xids
from tests.acceptance.faults.evidence import names
from tests.acceptance.faults.stories import live_to_the_end, story
from tests.acceptance.lives import Setting, check_everything

POLICY = {
    "period_s": 0.1, "fast_period_s": 0.1, "soft_dwell_s": 0.1, "pause_dwell_s": 0.2, "hold_min_s": 0.1,
    "ease_after_s": 0.1, "min_off_s": 0.5, "lost_pause_s": 1.0, "resume_band": 12.0,
}  # fmt: skip
"""The product's policy with a hundredth of its times."""

WATCHED = """
from actors.watchdog.actor import Watchdog
from actors.watchdog.node_governor import WatchdogSettings
from supervisor.clock import Clock
from supervisor.domain.command import Action
from supervisor.sensors.isolation import IsolatedProvider, Patience
from supervisor.sensors.provider import Availability
from supervisor.sensors.scripted import ScriptedProvider

def open_providers(*_, **__):
    provider = PROVIDER
    return [provider], [(provider.name, provider.probe())]

settings = WatchdogSettings("node", str(folder / "gate"), POLICY, None, ())
dog = Watchdog(settings, open_providers=open_providers)
dog.set_operator([], 1, "e")
heard, command, seen = 0, None, dog.snapshot()
send(link.WatchdogUp("node", seen["pid"], seen["protected"], seen["missing"]))

def pass_on():
    global heard, command
    seen = dog.snapshot(since=heard)
    heard = seen["version"]
    for note in seen["notes"]:
        if note["kind"] != "action.changed":
            send(link.SensorNoted("node", note["kind"], note["facts"]))
    outbox.write(codec.encode(link.Sampled("node", seen["readings"], seen["protected"])))
    before, command = command, seen["command"]
    if before is None or any(before[key] != command[key] for key in ("action", "shed_trials")):
        send(link.ActionChanged("node", command))
    return Action[command["action"]]

def at(number, attempt, step):
    "An epoch of half a second, and of as long as the governor pauses."
    begun = time.monotonic()
    while pass_on() >= Action.PAUSE or time.monotonic() < begun + 0.5:
        if time.monotonic() > begun + 60.0:
            os._exit(1)
        time.sleep(0.05)
"""

CHILD = """
import json, pathlib, sys, time
plan, born = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
life = len(born.read_text()) if born.exists() else 0
born.write_text("x" * (life + 1))
for count, verb in enumerate(sys.stdin):
    if verb.strip() == "probe":
        answer = {"availability": {"ok": True, "reason": "here", "remedy": None}}
    else:
        what = plan["lives"][min(life, len(plan["lives"]) - 1)]
        what = plan["good"] if what == "good" or count < what[1] else what[0]
        if what == "hang":
            time.sleep(1000)
        stamp = {"mono_s": time.monotonic(), "wall_s": time.time()}
        answer = {"readings": [{**each, **stamp} for each in what]} if isinstance(what, list) else what
    print(json.dumps(answer) if isinstance(answer, dict) else answer, flush=True)
"""
"""A provider's process. Its n-th life is `good`, or [its answer from a read on, that read]; `hang` answers nothing."""


def scripted(frames: list[dict[str, Any]], folder: Path) -> str:
    """Make a story whose sensors play `frames`."""
    trace = folder / "trace.jsonl"
    trace.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    return watched(f"ScriptedProvider.playing({str(trace)!r}, Clock())")


def isolated(good: list[dict[str, Any]], lives: list[Any], folder: Path) -> str:
    """Make a story whose sensors are read by a process of their own, which has a fault in some of its `lives`."""
    plan = json.dumps({"good": good, "lives": lives})
    command = f"[__import__('sys').executable, '-c', {CHILD!r}, {plan!r}, {str(folder / 'born')!r}]"
    patience = "Patience(grace_s=0.5, deadline_s=1.0, start_s=10.0, back_off_s=0.4)"
    return watched(f"IsolatedProvider('die', {command}, Clock(), {patience})")


def watched(provider: str) -> str:
    return story(WATCHED.replace("PROVIDER", provider).replace("POLICY", repr(POLICY)))


def reading(sensor_id: str, kind: str, component: str, value: float | None, unit: str, **more: Any) -> dict[str, Any]:
    limits = {"soft": 92.0, "pause": 99.0, "critical": 105.0, "source": "default"} if kind == "temperature" else {}
    return {
        "sensor_id": sensor_id, "kind": kind, "component": component, "value": value, "unit": unit, "mono_s": 0.0,
        "wall_s": 0.0, "source": "fake", "quality": "error" if value is None else "ok", "limits": limits,
        "detail": None, **more,
    }  # fmt: skip


def battery(percent: float, discharging: bool) -> list[dict[str, Any]]:
    return [
        reading("bat:0/charge", "battery", "battery", percent, "percent"),
        reading("bat:0/discharging", "battery", "battery", float(discharging), "flag"),
    ]


def paused_for(events: list[dict[str, Any]]) -> list[str]:
    return [event["reason"] for event in events if event["event"] == "experiment.paused"]


LIMITS = {
    "heat": (
        [{"at_s": 0, "celsius": 50}, {"at_s": 1, "celsius": 101}, {"at_s": 2.5, "celsius": 50}],
        "101",
    ),
    "battery": (
        [
            {"at_s": 0, "readings": battery(80.0, True)},
            {"at_s": 1, "readings": battery(12.0, True)},
            {"at_s": 2.5, "readings": battery(60.0, False)},
        ],
        "bat:0/charge",
    ),
}


@pytest.mark.fault(
    "47", "too hot; battery nearly empty", "paused with the cause, resumed by itself once it is well below the limit"
)
@pytest.mark.parametrize("limit", LIMITS)
def test_heat_and_an_empty_battery_pause_the_run_until_they_end(home: Home, limit: str) -> None:
    frames, cause = LIMITS[limit]
    live_to_the_end(home, Setting(driver=scripted(frames, home.root)))
    events = check_everything(home)
    (reason,) = paused_for(events)
    assert cause in reason
    seen = names(events)
    assert seen.count("experiment.resumed") == 1
    assert seen.index("action.changed") < seen.index("experiment.paused") < seen.index("experiment.resumed")
    between = seen[seen.index("experiment.paused") : seen.index("experiment.resumed")]
    assert "trial.reported" not in between
    actions = [event["action"] for event in events if event["event"] == "action.changed"]
    assert "PAUSE" in actions
    assert not {"driver.hung", "driver.exited"} & set(seen)


DIE = [reading("fake:die/a", "temperature", "cpu", 50.0, "celsius")]


@pytest.mark.fault(
    "46", "a sensor's process hangs, then prints garbage",
    "the reading is unknown after its deadline, so the run pauses until it is back; nothing crashes",
)  # fmt: skip
def test_a_sensor_that_hangs_and_prints_garbage_pauses_the_run_until_it_is_back(home: Home) -> None:
    """Its process hangs in its first life, prints garbage in the next three, and works after that."""
    lives = [["hang", 12], ["not json", 0], ["not json", 0], ["not json", 0], "good"]
    live_to_the_end(home, Setting(driver=isolated(DIE, lives, home.root)))
    events = check_everything(home)
    (reason,) = paused_for(events)
    assert "fake:die/a" in reason
    seen = names(events)
    hung = [event for event in events if event["event"] in ("sensor.hung", "sensor.lost")]
    assert any("hung: no answer" in json.dumps(event["facts"]) for event in hung), hung
    assert seen.index("experiment.paused") < seen.index("sensor.recovered") <= seen.index("experiment.resumed")
    assert seen.count("driver.started") == 1


XID_79 = describe_xids([79])
GPU = [
    reading("nvml:GPU-1/core", "temperature", "gpu", 60.0, "celsius"),
    reading("nvml:GPU-1/xid", "event", "gpu", 0.0, "count", detail="no Xid"),
]
FALLEN = [
    reading("nvml:GPU-1/core", "temperature", "gpu", None, "celsius", detail="GPU is lost"),
    reading("nvml:GPU-1/xid", "event", "gpu", 1.0, "count", detail=XID_79),
]


@pytest.mark.fault(
    "24", "the GPU falls off the bus (Xid 79)", "the run pauses and names the sensor; it resumes when the card is back",
    faked="a provider with the answers of NVML",
)  # fmt: skip
def test_a_gpu_that_fell_off_the_bus_pauses_the_run_with_the_cause(home: Home) -> None:
    frames = [{"at_s": 0, "readings": GPU}, {"at_s": 1, "readings": FALLEN}, {"at_s": 4, "readings": GPU}]
    live_to_the_end(home, Setting(driver=scripted(frames, home.root)))
    events = check_everything(home)
    (reason,) = paused_for(events)
    assert "nvml:GPU-1/core" in reason
    lost = [event["facts"] for event in events if event["event"] == "sensor.lost"]
    assert "GPU is lost" in json.dumps(lost)
    assert "experiment.resumed" in names(events)
