"""Plays a recording of sensors to the governor (`supervisorctl sensors --replay`).

A recording is a trace of the scripted provider, so a plan can play the same file (`hardware.sensor_script`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import FakeClock, Now
from supervisor.domain.command import Action, Command
from supervisor.errors import UsageError
from supervisor.governor.ladder import decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note
from supervisor.governor.state import GovernorState
from supervisor.sensors.scripted import ScriptedProvider, load_trace


@dataclass(frozen=True)
class Step:
    """A change of action, or notes, `at_s` seconds after the start of the trace."""

    at_s: float
    command: Command
    notes: tuple[Note, ...]


def replay(file: Path, policy: Policy) -> Iterator[Step]:
    """Yield the governor's steps on a trace; hours of it take a second. Raises UsageError, OSError."""
    try:
        frames = load_trace(file)
    except ValueError as error:
        raise UsageError(f"{file} is not a recording: {error}") from error
    clock = FakeClock(0.0)
    provider = ScriptedProvider(clock, frames)
    state, action = GovernorState(), Action.RUN
    while clock.now_s <= frames[-1].at_s:
        readings = provider.read()
        command, state, notes = decide(readings, policy, state, Now.of(clock))
        if command.action is not action or notes:
            yield Step(clock.now_s, command, notes)
        action = command.action
        clock.now_s += next_period_s(readings, policy, state)


def render(step: Step) -> str:
    """Return the step as a line of text."""
    noted = "".join(
        f"; {note.kind} {note.facts.get('sensor', '')}" for note in step.notes if note.kind != "action.changed"
    )
    return f"{step.at_s:8.1f} s  {step.command.action.name:<9} {step.command.reason}{noted}"
