"""Governs one node: samples its sensors, asks the governor, and writes the flags of the node's experiments."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.trial.heartbeat import trials_of_workers
from actors.trial.node_files import flag_path, flags_of, heartbeats_folder, node_prefix
from actors.watchdog.changes import Changes
from actors.watchdog.experiment_flag import ExperimentFlag, OperatorCommands
from actors.watchdog.gauges import WatchdogGauges
from actors.watchdog.state_file import read_state, write_state
from supervisor.clock import Clock, Now
from supervisor.domain.command import Command, Origin, run, strictest
from supervisor.governor.ladder import decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.sensors import discovery
from supervisor.sensors.provider import Provider, Sampler, failed, provider_fault
from supervisor.sensors.reading import Availability, Kind, Reading
from supervisor.sensors.scripted import ScriptedProvider
from supervisor.sensors.trial_memory import LARGEST

STALLED_PERIODS = 4.0
STALLED_MIN_S = 15.0
"""After so long without a sample the leases of the flags are no longer renewed."""

MAX_FLAGS = 16
"""Flags of a node; the one whose driver sent commands longest ago goes first. More than drivers that run at once."""

LOG = logging.getLogger("watchdog")

OpenProviders = Callable[..., tuple[list[Provider], list[tuple[str, Availability]]]]
"""The signature of sensors.discovery.open_providers."""


@dataclass(frozen=True)
class WatchdogSettings:
    """A driver's settings for a node's watchdog. `gate` is the common prefix of the flags (node_files.flag_path).

    `state` is the path of the governor's state; a node that does not see its folder keeps the state beside the flags.
    """

    node: str
    gate: str
    policy: Mapping[str, Any]
    script: str | None
    folders: tuple[str, ...]
    state: str | None = None


class NodeGovernor:
    """Owns providers, governor state and flags of a node, with their lock, until `close`.

    Each public method may be called from any thread. An experiment has no flag until its driver has sent the operator's
    commands, and its trials wait as long: a watchdog that started anew lifts no pause even for a moment.
    """

    def __init__(
        self,
        settings: WatchdogSettings,
        changes: Changes,
        clock: Clock,
        open_providers: OpenProviders = discovery.open_providers,
        operators: Mapping[str, OperatorCommands] | None = None,
        flag_changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`operators` are the commands that drivers have sent already, by experiment.

        `flag_changed` is called when a flag closes for other trials than before.
        """
        self.policy = Policy.from_mapping(settings.policy)
        self._flag_changed = flag_changed
        self._node, self._changes, self._clock = settings.node, changes, clock
        folders, heartbeats = map(Path, settings.folders), heartbeats_folder(settings.gate, settings.node)
        self._providers, said = open_providers(
            settings.script, list(folders), clock, workers=lambda: trials_of_workers(heartbeats)
        )
        self._missing = {name: found.reason for name, found in said if not found.ok}
        self._gate = settings.gate
        self._state_file = _state_file(settings)
        self._state = read_state(self._state_file, Now.of(clock))
        self._command = self._in_force = run(Origin.GOVERNOR)
        self._readings: Sequence[Reading] = ()
        self._sampled_mono_s = clock.mono_s()
        self.next_period_s = self.policy.period_s
        """The seconds until the next sample; read without the lock."""
        # Of an earlier watchdog: what they say may not hold any more.
        for stale in flags_of(settings.gate, settings.node):
            stale.unlink(missing_ok=True)
        self._flags = {experiment: self._new_flag(experiment, sent) for experiment, sent in (operators or {}).items()}
        """By experiment. A new dict at each change: `renew` and the waits read it without the lock."""
        self._lock, self._closed = threading.Lock(), False
        self._sample()

    @property
    def operators(self) -> dict[str, OperatorCommands]:
        """The commands that drivers have sent, by experiment."""
        return {experiment: flag.operator for experiment, flag in self._flags.items()}

    def set_operator(self, experiment: str, operator: OperatorCommands) -> None:
        """Write the commands of an experiment's driver to its flag; older ones than the last change nothing."""
        with self._lock:
            flag = self._flags.get(experiment)
            if self._closed or (flag is not None and not flag.set_operator(operator)):
                return
            others = {name: kept for name, kept in self._flags.items() if name != experiment}
            for name in list(others)[: max(0, len(others) + 1 - MAX_FLAGS)]:
                others.pop(name).close()
            self._flags = {**others, experiment: flag or self._new_flag(experiment, operator)}
            self._write_flags()

    def _new_flag(self, experiment: str, operator: OperatorCommands) -> ExperimentFlag:
        path = flag_path(self._gate, self._node, experiment)
        return ExperimentFlag(path, self._node, operator, self.policy.release_after_s, self._clock.mono_s)

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
        """Sample no more and release sensors and flags; the leases of the flags run out."""
        with self._lock:
            self._closed = True
            for provider in self._providers:
                _close_quietly(provider)
            for flag in self._flags.values():
                flag.close()

    # These take no lock: a provider that hangs holds it, and the lease must then run out.

    def renew(self, gauges: WatchdogGauges | None) -> None:
        """Renew the leases of the flags unless sampling has stalled, and show the gauges."""
        age_s, flags = self._clock.mono_s() - self._sampled_mono_s, self._flags.values()
        if age_s < max(STALLED_MIN_S, STALLED_PERIODS * self.policy.period_s):
            for flag in flags:
                flag.renew()
        if gauges is not None:
            gauges.show(self._in_force, self._readings, age_s, max((flag.age_s for flag in flags), default=age_s))

    @property
    def closes_any(self) -> bool:
        """Return whether a flag forbids the work of any trial."""
        return any(flag.closes_any for flag in self._flags.values())

    def closes(self, experiment: str, number: int) -> bool:
        """Return whether a trial must not work here; a trial of an experiment without a flag must not."""
        flag = self._flags.get(experiment)
        return flag is None or flag.closes(number)

    # These are called with the lock held.

    def _sample(self) -> None:
        self._readings = [reading for provider in self._providers for reading in self._read(provider)]
        before = self._command
        self._command, self._state, notes = decide(self._readings, self.policy, self._state, Now.of(self._clock))
        self._sampled_mono_s = self._clock.mono_s()
        self.next_period_s = next_period_s(self._readings, self.policy, self._state)
        self._write_flags()
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

    def _write_flags(self) -> None:
        before = self._closed_by_experiment()
        short = self._memory_is_short()
        written = [flag.write(self._command, memory_is_short=short) for flag in self._flags.values()]
        self._in_force = strictest([self._command, *written])
        if self._closed_by_experiment() != before:
            self._flag_changed()

    def _closed_by_experiment(self) -> dict[str, object]:
        return {experiment: flag.closed for experiment, flag in self._flags.items()}

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


def _state_file(settings: WatchdogSettings) -> Path:
    if settings.state is not None and (asked := Path(settings.state)).parent.is_dir():
        return asked
    return Path(f"{node_prefix(settings.gate, settings.node)}.state")


def _close_quietly(provider: Provider) -> None:
    try:
        provider.close()
    except Exception:
        # A provider that cannot close its device must not end the watchdog.
        LOG.exception("closing provider %s", provider.name)
