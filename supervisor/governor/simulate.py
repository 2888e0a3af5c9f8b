"""`supervisorctl doctor`: what every sensor says, as one file to send; and what the governor would make of such a file.

A recording is a trace of the scripted provider, so the same file also plays in a plan (`hardware.sensor_script`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import FakeClock
from supervisor.domain.command import Action, Command
from supervisor.errors import UsageError
from supervisor.governor.ladder import GovernorState, Note, Now, decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.sensors.scripted import ScriptedProvider, load_trace


@dataclass(frozen=True)
class Step:
    """A change of action, or something noticed, at `at_s` seconds into the trace."""

    at_s: float
    command: Command
    notes: tuple[Note, ...]


def replay(file: Path, policy: Policy) -> Iterator[Step]:
    """What the governor would have done, step by step; hours of trace take a second. Raises UsageError, OSError."""
    try:
        frames = load_trace(file)
    except ValueError as error:
        raise UsageError(f"{file} is not a recording: {error}") from error
    if not frames:
        raise UsageError(f"{file} holds no readings")
    clock = FakeClock(0.0)
    provider = ScriptedProvider(clock, frames)
    memory, action = GovernorState(), Action.RUN
    while clock.now_s <= frames[-1].at_s:
        readings = provider.read()
        command, memory, notes = decide(readings, policy, memory, Now.of(clock))
        if command.action is not action or notes:
            yield Step(clock.now_s, command, notes)
        action = command.action
        clock.now_s += next_period_s(readings, policy, memory)


def render(step: Step) -> str:
    """A line for people."""
    told = "".join(
        f"; {note.kind} {note.facts.get('sensor', '')}" for note in step.notes if note.kind != "action.changed"
    )
    return f"{step.at_s:8.1f} s  {step.command.action.name:<9} {step.command.reason}{told}"
