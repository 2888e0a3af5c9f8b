"""Traces and drills: their readings, their end, and the errors of a bad file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from supervisor.clock import FakeClock, Now
from supervisor.domain.command import Action
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note
from supervisor.governor.state import GovernorState
from supervisor.sensors.drills import DRILL, DRILLS
from supervisor.sensors.reading import Kind, Quality, Reading
from supervisor.sensors.scripted import ScriptedProvider, load_trace


def test_a_line_is_valid_until_the_next_and_the_last_for_ever(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"at_s": 0, "celsius": 60}\n\n{"at_s": 10, "celsius": 101.5}\n{"at_s": 20, "celsius": null}\n')
    clock = FakeClock()
    provider = ScriptedProvider.playing(trace, clock)
    values = []
    for _ in range(6):
        (reading,) = provider.read()
        values.append(reading.value)
        assert reading.mono_s == clock.now_s
        clock.now_s += 5.0
    assert values == [60.0, 60.0, 101.5, 101.5, None, None]


def test_a_trace_may_contain_whole_readings(tmp_path: Path) -> None:
    reading = {"sensor_id": "x:m", "kind": "memory", "component": "host", "value": 95, "unit": "percent"}
    trace = tmp_path / "trace.jsonl"
    trace.write_text(json.dumps({"at_s": 0, "readings": [reading]}) + "\n")
    (played,) = ScriptedProvider.playing(trace, FakeClock()).read()
    assert (played.sensor_id, played.kind, played.value) == ("x:m", Kind.MEMORY, 95.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the trace is empty"),
        ("nonsense\n", ":1: Expecting value"),
        ('{"celsius": 5}\n', ":1: the key 'at_s' is missing"),
        ('{"at_s": 0}\n', ":1: expected celsius or readings"),
        ('{"at_s": 5, "celsius": 1}\n{"at_s": 1, "celsius": 2}\n', ":2: expected at_s of at least 5.0, found 1.0"),
        ('{"at_s": 0, "celcius": 1}\n', "unknown keys ['celcius']"),
        ('{"at_s": "x", "celsius": 1}\n', ":1: could not convert"),
        ('[1]\n', ":1: list indices"),
        ('{"at_s": 0, "readings": [{"sensor_id": "a"}]}\n', ":1: a Reading needs the field kind"),
        ('{"at_s": 0, "readings": [{"sensor_id": "a", "kind": "smell", "component": "c", "value": 1, "unit": "u"}]}\n',
         "'smell' is not a valid Kind"),
    ],
)  # fmt: skip
def test_the_error_of_a_bad_trace_names_file_line_and_problem(tmp_path: Path, text: str, message: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_trace(trace)
    assert str(caught.value).startswith(str(trace))
    assert message in str(caught.value)


def test_the_error_for_an_unknown_drill_lists_the_drills() -> None:
    with pytest.raises(ValueError, match="unknown drill 'fire'; expected one of battery, disk-full"):
        ScriptedProvider(FakeClock()).start_drill("fire", 10)


@pytest.mark.parametrize("duration_s", [0, -1, 3601, float("nan")])
def test_a_drill_has_an_end(duration_s: float) -> None:
    with pytest.raises(ValueError, match="at most 3600 s"):
        ScriptedProvider(FakeClock()).start_drill("heat", duration_s)


def test_a_drills_readings_are_marked_and_end_with_it() -> None:
    clock = FakeClock()
    provider = ScriptedProvider.playing("heat", clock)
    assert provider.read()
    assert all(reading.detail == DRILL for reading in provider.read())
    clock.now_s += 60.0
    assert provider.read() == []


EXPECTED = {
    "heat": Action.PAUSE,
    "spike": Action.PAUSE,
    "flap": Action.PAUSE,
    "sensor-lost": Action.PAUSE,
    "sensor-stuck": Action.PAUSE,
    "sensor-hang": Action.PAUSE,
    "memory": Action.PAUSE,
    "swap": Action.PAUSE,
    "disk-full": Action.PAUSE,
    "battery": Action.PAUSE,
}


@dataclass
class Drilled:
    highest: Action
    notes: list[Note]
    state: GovernorState
    actions: list[Action]


def drill(name: str, policy: Policy, duration_s: float, after_s: float) -> Drilled:
    clock = FakeClock()
    provider = ScriptedProvider(clock)
    story = Drilled(Action.RUN, [], GovernorState(protected=True), [])
    real = Reading("t:die", Kind.TEMPERATURE, "cpu", 60.0, "celsius", 0.0, 0.0, "test")
    for tick in range(int(duration_s + after_s) + 5):
        if tick == 5:
            provider.start_drill(name, duration_s)
        stamped = replace(real, value=60.0 + tick % 3, mono_s=clock.mono_s(), wall_s=clock.wall_s())
        readings = [stamped, *provider.read()]
        command, story.state, notes = decide(readings, policy, story.state, Now.of(clock))
        story.notes += notes
        story.actions.append(command.action)
        clock.now_s += 1.0
    story.highest = max(story.actions)
    return story


def test_every_drill_has_an_expected_action() -> None:
    assert set(EXPECTED) == set(DRILLS)


@pytest.mark.parametrize("name", sorted(DRILLS))
def test_a_drill_has_its_effect_is_marked_ends_by_itself_and_leaves_no_state(name: str) -> None:
    """With the default policy except for shorter waits for sensors, as a drill of four minutes on a live run."""
    policy = Policy(period_s=1.0, lost_pause_s=30.0, stuck_s=40.0, stuck_integer_s=40.0)
    story = drill(name, policy, duration_s=240.0, after_s=40.0)
    assert story.highest is EXPECTED[name]
    assert all(note.facts["drill"] for note in story.notes if note.facts.get("action") != "RUN")
    assert story.actions[-1] is Action.RUN
    assert story.state.step == 0
    assert story.state.floor_step == 0
    assert story.state.pauses_mono_s == ()
    assert [sensor for sensor in story.state.sensors if sensor.startswith("script")] == []


def test_a_sensor_that_a_drill_takes_away_reads_as_an_error() -> None:
    (before,) = DRILLS["sensor-lost"](1.0, 60.0)
    (after,) = DRILLS["sensor-lost"](30.0, 60.0)
    assert (before.quality, after.quality) == (Quality.OK, Quality.ERROR)
