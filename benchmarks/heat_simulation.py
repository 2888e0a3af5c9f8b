"""A rehearsal of a policy on a simulated machine: what would it cost, and what would it spare?

Two heat capacities (die and chassis) with a room that warms in the afternoon; not any real machine. Concurrent
trials give heat; above `slows_at_celsius` the firmware slows them, as real ones do. The virtual clock makes
twelve hours a matter of seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.clock import Now
from supervisor.domain.command import Action
from supervisor.governor.ladder import decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind, Limits, Reading

TICK_S = 1.0
DIE_LIMITS = Limits(soft=92.0, pause=98.0, critical=105.0)


@dataclass(frozen=True)
class Machine:
    """Temperature rises are at full load, in degrees Celsius; time constants in seconds."""

    trials: int = 4
    room_celsius: float = 25.0
    room_swing_celsius: float = 3.0
    chassis_rise: float = 45.0
    chassis_tau_s: float = 400.0
    die_rise: float = 38.0
    die_tau_s: float = 6.0
    slows_at_celsius: float = 100.0
    slows_per_celsius: float = 0.08
    restart_s: float = 45.0
    """What one trial loses when it is stopped: the way back from its checkpoint."""
    limits: Limits = DIE_LIMITS


@dataclass(frozen=True)
class Orders:
    """What a controller lets run: how many trials, and the share of time that each rests."""

    trials: int
    rest_share: float = 0.0
    stopped: bool = False


class Controller(Protocol):
    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders: ...


class Unchecked:
    """Nobody looks: the firmware alone."""

    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders:
        return Orders(machine.trials)


@dataclass
class OnOff:
    """What scripts do: everything off above one temperature, on again below another."""

    off_celsius: float
    on_celsius: float
    dwell_s: float = 0.0
    min_off_s: float = 0.0
    _hot_since_s: float | None = None
    _off_since_s: float | None = None

    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders:
        if celsius < self.off_celsius:
            self._hot_since_s = None
        elif self._hot_since_s is None:
            self._hot_since_s = now.mono_s
        if self._off_since_s is not None:
            if celsius <= self.on_celsius and now.mono_s - self._off_since_s >= self.min_off_s:
                self._off_since_s = None
        elif self._hot_since_s is not None and now.mono_s - self._hot_since_s >= self.dwell_s:
            self._off_since_s = now.mono_s
        off = self._off_since_s is not None
        return Orders(0 if off else machine.trials, stopped=off)


class Ladder:
    """The governor itself, asked as often as it wants to be."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.memory = policy, GovernorState()
        self._orders: Orders | None = None
        self._next_s = -math.inf

    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders:
        if self._orders is not None and now.mono_s < self._next_s:
            return self._orders
        readings = [_die(celsius, machine, now)]
        command, self.memory, _ = decide(readings, self.policy, self.memory, now)
        self._next_s = now.mono_s + next_period_s(readings, self.policy, self.memory)
        stopped = command.action >= Action.PAUSE
        trials = 0 if stopped else max(1, machine.trials - command.shed_trials)
        self._orders = Orders(trials, command.throttle_share, stopped)
        return self._orders


def _die(celsius: float, machine: Machine, now: Now) -> Reading:
    return Reading(
        sensor_id="rehearsal:die",
        kind=Kind.TEMPERATURE,
        component="cpu",
        value=celsius,
        unit="celsius",
        mono_s=now.mono_s,
        wall_s=now.wall_s,
        source="rehearsal",
        limits=machine.limits,
    )


@dataclass
class Story:
    """What came of it. `throughput` is 1 where every trial runs unslowed all the time."""

    stops: int = 0
    trials_stopped: int = 0
    throughput: float = 0.0
    share_above_soft: float = 0.0
    share_above_slowing: float = 0.0
    hottest_celsius: float = 0.0
    celsius: list[float] = field(default_factory=list)
    trials: list[float] = field(default_factory=list)


def rehearse(controller: Controller, machine: Machine | None = None, hours: float = 12.0) -> Story:
    """Play `hours` of work under that controller. The lists of the story have one entry per minute."""
    machine = machine or Machine()
    ticks = int(hours * 3600 / TICK_S)
    story = Story()
    chassis = die = machine.room_celsius
    running, returning_s, stopped, work = machine.trials, 0.0, False, 0.0
    for tick in range(ticks):
        now = Now(mono_s=tick * TICK_S, wall_s=1.7e9 + tick * TICK_S)
        orders = controller.orders(now, die, machine)
        story.stops += int(orders.stopped and not stopped)
        fewer = max(0, running - orders.trials)
        story.trials_stopped += fewer
        returning_s += fewer * machine.restart_s
        running, stopped = orders.trials, orders.stopped
        pace = _pace(die, machine)
        load = running / machine.trials * (1 - orders.rest_share) * pace
        lost_s = min(returning_s, running * TICK_S)
        returning_s -= lost_s
        work += load * (1 - (lost_s / (running * TICK_S) if running else 0.0)) * TICK_S
        chassis, die = _warmed(chassis, die, load, now.mono_s, hours, machine)
        story.share_above_soft += die > (machine.limits.soft or math.inf)
        story.share_above_slowing += die >= machine.slows_at_celsius
        story.hottest_celsius = max(story.hottest_celsius, die)
        if tick % 60 == 0:
            story.celsius.append(die)
            story.trials.append(running * (1 - orders.rest_share))
    story.throughput = work / (ticks * TICK_S)
    story.share_above_soft /= ticks
    story.share_above_slowing /= ticks
    return story


def _pace(die: float, machine: Machine) -> float:
    return min(1.0, max(0.2, 1.0 - machine.slows_per_celsius * (die - machine.slows_at_celsius)))


def _warmed(
    chassis: float, die: float, load: float, at_s: float, hours: float, machine: Machine
) -> tuple[float, float]:
    """Both temperatures one tick later; exact for a load that is constant within the tick."""
    room = machine.room_celsius - machine.room_swing_celsius * math.cos(2 * math.pi * at_s / (hours * 3600))
    chassis += (room + machine.chassis_rise * load - chassis) * (1 - math.exp(-TICK_S / machine.chassis_tau_s))
    die += (chassis + machine.die_rise * load - die) * (1 - math.exp(-TICK_S / machine.die_tau_s))
    return chassis, die


ON_OFF: dict[str, Callable[[], OnOff]] = {
    "on/off 95/95": lambda: OnOff(95.0, 95.0),
    "on/off 95/85": lambda: OnOff(95.0, 85.0),
    "on/off 95/75": lambda: OnOff(95.0, 75.0),
    "on/off 95/75, 15 s dwell, 300 s off": lambda: OnOff(95.0, 75.0, 15.0, 300.0),
}
"""The switches that the ladder is compared with, from the plainest to the most patient."""
