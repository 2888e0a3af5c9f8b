"""Simulates a machine under a policy: the work that it does, and its temperatures.

Two heat capacities (die and chassis) in a room that is warmer in the afternoon; not a real machine. Concurrent trials
produce heat; above `slows_at_celsius` the firmware slows them. With the virtual clock twelve hours take seconds.
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
    """The time that a stopped trial loses: the resume from its checkpoint."""
    limits: Limits = DIE_LIMITS


@dataclass(frozen=True)
class Orders:
    """The orders of a controller: the number of trials, and the share of time in which each rests."""

    trials: int
    rest_share: float = 0.0
    stopped: bool = False


class Controller(Protocol):
    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders: ...


class Unchecked:
    """Never interferes: only the firmware protects the machine."""

    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders:
        return Orders(machine.trials)


@dataclass
class OnOff:
    """Stops all trials above one temperature and starts them below another, as scripts do."""

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
    """Asks the governor itself, at the periods that it returns."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.state = policy, GovernorState()
        self._orders: Orders | None = None
        self._next_s = -math.inf

    def orders(self, now: Now, celsius: float, machine: Machine) -> Orders:
        if self._orders is not None and now.mono_s < self._next_s:
            return self._orders
        readings = [_die(celsius, machine, now)]
        command, self.state, _ = decide(readings, self.policy, self.state, now)
        self._next_s = now.mono_s + next_period_s(readings, self.policy, self.state)
        stopped = command.action >= Action.PAUSE
        trials = 0 if stopped else max(1, machine.trials - command.shed_trials)
        self._orders = Orders(trials, command.throttle_share, stopped)
        return self._orders


def _die(celsius: float, machine: Machine, now: Now) -> Reading:
    return Reading(
        sensor_id="simulated:die",
        kind=Kind.TEMPERATURE,
        component="cpu",
        value=celsius,
        unit="celsius",
        mono_s=now.mono_s,
        wall_s=now.wall_s,
        source="simulated",
        limits=machine.limits,
    )


@dataclass
class Story:
    """The results. `throughput` is 1 if every trial runs at full speed all the time."""

    stops: int = 0
    trials_stopped: int = 0
    throughput: float = 0.0
    share_above_soft: float = 0.0
    share_above_slowing: float = 0.0
    hottest_celsius: float = 0.0
    celsius: list[float] = field(default_factory=list)
    trials: list[float] = field(default_factory=list)


def simulate(controller: Controller, machine: Machine | None = None, hours: float = 12.0) -> Story:
    """Play `hours` of work under the controller; the lists of the story have one entry per minute."""
    machine = machine or Machine()
    ticks = int(hours * 3600 / TICK_S)
    story = Story()
    chassis = die = machine.room_celsius
    trials, work = _Trials(machine), 0.0
    for tick in range(ticks):
        now = Now(mono_s=tick * TICK_S, wall_s=1.7e9 + tick * TICK_S)
        orders = controller.orders(now, die, machine)
        trials.obey(orders, story)
        load = trials.running / machine.trials * (1 - orders.rest_share) * _pace(die, machine)
        work += load * trials.productive_share() * TICK_S
        chassis, die = _warmed(chassis, die, load, now.mono_s, hours, machine)
        story.share_above_soft += (die > (machine.limits.soft or math.inf)) / ticks
        story.share_above_slowing += (die >= machine.slows_at_celsius) / ticks
        story.hottest_celsius = max(story.hottest_celsius, die)
        if tick % 60 == 0:
            story.celsius.append(die)
            story.trials.append(trials.running * (1 - orders.rest_share))
    story.throughput = work / (ticks * TICK_S)
    return story


class _Trials:
    """The trials at work, and the time that resumes still take from them."""

    def __init__(self, machine: Machine) -> None:
        self.running, self._restart_s = machine.trials, machine.restart_s
        self._stopped, self._resuming_s = False, 0.0

    def obey(self, orders: Orders, story: Story) -> None:
        fewer = max(0, self.running - orders.trials)
        story.stops += int(orders.stopped and not self._stopped)
        story.trials_stopped += fewer
        self._resuming_s += fewer * self._restart_s
        self.running, self._stopped = orders.trials, orders.stopped

    def productive_share(self) -> float:
        """Return the share of this tick that is not spent on resuming."""
        available_s = self.running * TICK_S
        lost_s = min(self._resuming_s, available_s)
        self._resuming_s -= lost_s
        return 1 - lost_s / available_s if available_s else 1.0


def _pace(die: float, machine: Machine) -> float:
    return min(1.0, max(0.2, 1.0 - machine.slows_per_celsius * (die - machine.slows_at_celsius)))


def _warmed(
    chassis: float, die: float, load: float, at_s: float, hours: float, machine: Machine
) -> tuple[float, float]:
    """Return both temperatures one tick later; exact for a load that is constant within the tick."""
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
"""The switches that the ladder is compared with, from the simplest to the slowest."""
