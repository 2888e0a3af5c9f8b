"""Governs one node: samples its sensors, asks the governor, and writes the node's flag."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.trial.heartbeat import trials_of_workers
from actors.trial.node_files import FlagWriter, flag_path, heartbeats_folder
from actors.watchdog.changes import Changes
from actors.watchdog.gauges import WatchdogGauges
from actors.watchdog.state_file import read_state, write_state
from supervisor.clock import Clock, Now
from supervisor.domain.command import Action, Command, Origin, in_force_on, run
from supervisor.governor.ladder import decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.sensors import discovery
from supervisor.sensors.provider import Provider, Sampler, failed, provider_fault
from supervisor.sensors.reading import Availability, Kind, Reading
from supervisor.sensors.scripted import ScriptedProvider
from supervisor.sensors.trial_memory import LARGEST

STALLED_PERIODS = 4.0
STALLED_MIN_S = 15.0
"""After so long without a sample the flag's lease is no longer renewed."""

LOG = logging.getLogger("watchdog")

OpenProviders = Callable[..., tuple[list[Provider], list[tuple[str, Availability]]]]
"""The signature of sensors.discovery.open_providers."""


@dataclass(frozen=True)
class WatchdogSettings:
    """A driver's settings for a node's watchdog. `gate` is the common prefix of the flags (node_files.flag_path).

    `state` is the path of the governor's state; a node that does not see its folder keeps the state beside the flag.
    """

    node: str
    gate: str
    policy: Mapping[str, Any]
    script: str | None
    folders: tuple[str, ...]
    state: str | None = None


@dataclass(frozen=True)
class OperatorCommands:
    """The operator's commands in force; a larger `stamp` is newer."""

    commands: tuple[Command, ...]
    stamp: int


class NodeGovernor:
    """Owns providers, governor state and flag of a node, with their lock, until `close`.

    Each public method may be called from any thread. `operator` is None until a driver has sent the operator's
    commands; until then the flag says PAUSE, so that a watchdog that started anew lifts no pause even for a moment.
    """

    def __init__(
        self,
        settings: WatchdogSettings,
        changes: Changes,
        clock: Clock,
        open_providers: OpenProviders = discovery.open_providers,
        operator: OperatorCommands | None = None,
    ) -> None:
        self.policy = Policy.from_mapping(settings.policy)
        self.operator = operator
        self._node, self._changes, self._clock = settings.node, changes, clock
        folders, heartbeats = map(Path, settings.folders), heartbeats_folder(settings.gate, settings.node)
        self._providers, said = open_providers(
            settings.script, list(folders), clock, workers=lambda: trials_of_workers(heartbeats)
        )
        self._missing = {name: found.reason for name, found in said if not found.ok}
        flag = flag_path(settings.gate, settings.node)
        self._state_file = _state_file(settings, flag)
        self._state = read_state(self._state_file, Now.of(clock))
        self._command = self._in_force = run(Origin.GOVERNOR)
        self._readings: Sequence[Reading] = ()
        self._paused_since_mono_s: float | None = None
        self._held_since_mono_s: dict[int, float] = {}
        self._sampled_mono_s = clock.mono_s()
        self.next_period_s = self.policy.period_s
        """The seconds until the next sample; read without the lock."""
        self.flag = FlagWriter(flag, clock.mono_s)
        self._lock, self._closed = threading.Lock(), False
        self._sample()

    def set_operator(self, operator: OperatorCommands) -> None:
        """Write the operator's commands to the flag; older ones than the last change nothing."""
        with self._lock:
            if self.operator is None or operator.stamp >= self.operator.stamp:
                self.operator = operator
                self._write_flag()

    def start_drill(self, name: str, duration_s: float) -> None:
        """Play a drill through the scripted provider. Raises ValueError with the valid names."""
        with self._lock:
            next(p for p in self._providers if isinstance(p, ScriptedProvider)).start_drill(name, duration_s)

    def force(self, for_s: float) -> None:
        """Let only a critical reading pause for `for_s` seconds."""
        with self._lock:
            self._state = self._state.forced(Now.of(self._clock), for_s)
            self._sample()
            write_state(self._state_file, self._state)

    def sample(self) -> None:
        """Read all sensors and let the governor decide."""
        with self._lock:
            if not self._closed:
                self._sample()

    def report(self) -> dict[str, Any]:
        """Return the governor's command and the latest readings, as a driver reads them."""
        with self._lock:
            return {
                "command": self._command.to_json(),
                "readings": [reading.to_json() for reading in self._readings],
                "protected": self._state.protected,
                "missing": dict(self._missing),
                "largest_trial": self._largest_trial(),
            }

    def close(self) -> None:
        """Sample no more and release sensors and flag; the flag's lease runs out."""
        with self._lock:
            self._closed = True
            for provider in self._providers:
                _close_quietly(provider)
            self.flag.close()

    # These take no lock: a provider that hangs holds it, and the lease must then run out.

    def renew(self, gauges: WatchdogGauges | None) -> None:
        """Renew the flag's lease unless sampling has stalled, and show the gauges."""
        age_s = self._clock.mono_s() - self._sampled_mono_s
        if age_s < max(STALLED_MIN_S, STALLED_PERIODS * self.policy.period_s):
            self.flag.renew()
        if gauges is not None:
            gauges.show(self._in_force, self._readings, age_s, self.flag.age_s)

    # These are called with the lock held.

    def _sample(self) -> None:
        self._readings = [reading for provider in self._providers for reading in self._read(provider)]
        before = self._command
        self._command, self._state, notes = decide(self._readings, self.policy, self._state, Now.of(self._clock))
        self._sampled_mono_s = self._clock.mono_s()
        self.next_period_s = next_period_s(self._readings, self.policy, self._state)
        self._write_flag()
        if notes or differs(self._command, before):
            self._changes.add(notes)
            write_state(self._state_file, self._state)

    def _read(self, provider: Provider) -> list[Reading]:
        """Return a provider's readings; if it raises, its sensors are absent and an event names it."""
        try:
            return provider.read()
        except Exception as error:
            fault = provider_fault(provider.name)
            if fault.sensor_id not in self._state.failing:
                LOG.exception("reading provider %s", provider.name)
            return [Sampler(provider.name, Now.of(self._clock)).reading(fault, failed(error))]

    def _write_flag(self) -> None:
        if self.operator is None:
            self.flag.write(Action.PAUSE, 0.0)
            return
        command = self._in_force = in_force_on(self._node, self.operator.commands, self._command)
        release, held = self._release(command), self._held(self.operator.commands)
        self.flag.write(command.action, command.throttle_share, release=release, held=held)

    def _held(self, operator: tuple[Command, ...]) -> dict[int, bool]:
        """Return the trials held one by one, and whether each must leave its worker. On STOP it must at once."""
        now, short = self._clock.mono_s(), self._memory_is_short()
        # By action: where two commands hold one trial, the stricter one comes last and counts.
        commands = sorted(operator, key=lambda command: command.action)
        held = {c.trial[1]: c.action is Action.STOP for c in commands if c.trial and c.action >= Action.PAUSE}
        self._held_since_mono_s = {number: self._held_since_mono_s.get(number, now) for number in held}
        return {
            number: short or held[number] or now - since > self.policy.release_after_s
            for number, since in self._held_since_mono_s.items()
        }

    def _release(self, command: Command) -> bool:
        """Return whether paused trials must free their memory: the pause is long, or memory is short."""
        now = self._clock.mono_s()
        if command.action is not Action.PAUSE:
            self._paused_since_mono_s = None
            return False
        if self._paused_since_mono_s is None:
            self._paused_since_mono_s = now
        return now - self._paused_since_mono_s > self.policy.release_after_s or self._memory_is_short()

    def _memory_is_short(self) -> bool:
        return self._memory_percent() >= self.policy.memory_pause_percent

    def _memory_percent(self) -> float:
        """Return the host's memory in use; 0 if no sensor knows it."""
        found = [
            reading.value
            for reading in self._readings
            if (reading.kind, reading.component, reading.unit) == (Kind.MEMORY, "host", "percent")
        ]
        return max((value for value in found if value is not None), default=0.0)

    def _largest_trial(self) -> str | None:
        """Return the trial (EXPERIMENT/NUMBER) that holds most memory; None while memory is not short."""
        if self._memory_percent() < self.policy.memory_shed_percent:
            return None
        return next((reading.detail for reading in self._readings if reading.sensor_id == LARGEST), None)


def differs(command: Command, before: Command) -> bool:
    """Return whether a governor's command is another one; its reason alone may change at each sample."""
    return (command.step, command.drill) != (before.step, before.drill)


def _state_file(settings: WatchdogSettings, flag: Path) -> Path:
    if settings.state is not None and (asked := Path(settings.state)).parent.is_dir():
        return asked
    return flag.with_name(flag.name + ".state")


def _close_quietly(provider: Provider) -> None:
    try:
        provider.close()
    except Exception:
        # A provider that cannot close its device must not end the watchdog.
        LOG.exception("closing provider %s", provider.name)
