"""The watchdog of a node: samples its sensors, asks the governor, and signals its trials by the node's flag file.

One detached Ray actor per node. It outlives a driver that is killed and serves the next one; when nobody has called it
for IDLE_END_S it ends itself, and with it the lease on its flag, which stops every trial that still runs there.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.trial.heartbeat import trials_of_workers
from actors.trial.node_files import FlagWriter, flag_path, heartbeats_folder
from actors.watchdog.gauges import WatchdogGauges
from actors.watchdog.hang_watch import HangWatch
from supervisor.clock import Clock
from supervisor.domain.command import Action, Command, Origin, in_force_on, run
from supervisor.governor.ladder import GovernorState, Note, Now, decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.sensors.discovery import open_providers
from supervisor.sensors.provider import Provider
from supervisor.sensors.reading import Kind, Reading
from supervisor.sensors.scripted import ScriptedProvider
from supervisor.sensors.trial_memory import LARGEST

RENEW_S = 1.0
"""Well within the lease: a writer that is held up once or twice loses nothing."""

STALLED_PERIODS = 4.0
STALLED_MIN_S = 15.0
"""A sampler that has not come round for this long vouches for nothing: the lease is no longer renewed."""

IDLE_END_S = 120.0
MAX_NOTES = 200
"""Notes that nobody fetched; older ones are dropped."""

MAX_LONG_POLL_S = 30.0

MEMORY_KEPT_S = 3600.0
"""As long as the governor looks back (flap control); what it knew before that is no news of this machine."""


@dataclass(frozen=True)
class WatchdogSettings:
    """What a driver tells a node's watchdog. `gate` is the flag files' common prefix (gate.flag_path).

    `memory` is the file of the governor's memory; where its folder is not to be seen, it is kept beside the flag.
    """

    node: str
    gate: str
    policy: Mapping[str, Any]
    script: str | None
    folders: tuple[str, ...]
    memory: str | None = None


class Watchdog:
    """Every public method is an RPC and returns at once, `wait_change` after a while."""

    def __init__(self, settings: WatchdogSettings, gauges: WatchdogGauges | None = None) -> None:
        self._clock = Clock()
        self._gauges = gauges
        self._in_force = run(Origin.GOVERNOR)
        self._changed = threading.Condition()
        # None until a driver has said what the operator wants: a restarted watchdog must not lift a pause for a moment.
        self._operator: tuple[Command, ...] | None = None
        self._operator_stamp = 0
        self._paused_since_mono_s: float | None = None
        self._held_since_mono_s: dict[int, float] = {}
        self._stopped = threading.Event()
        self._governor = run(Origin.GOVERNOR)
        self._readings: list[Reading] = []
        self._notes: deque[tuple[int, Note]] = deque(maxlen=MAX_NOTES)
        self._version = self._fetched = 0
        self._called_mono_s = self._clock.mono_s()
        self._wake = threading.Event()
        with self._changed:
            self._open(settings)
        for target in (self._sample_for_ever, self._renew_for_ever, self._look_for_hangs_for_ever):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def _open(self, settings: WatchdogSettings) -> None:
        self._settings = settings
        self._policy = Policy.from_mapping(settings.policy)
        folders, heartbeats = (
            [Path(folder) for folder in settings.folders],
            heartbeats_folder(settings.gate, settings.node),
        )
        self._providers, said = open_providers(
            settings.script, folders, self._clock, workers=lambda: trials_of_workers(heartbeats)
        )
        self._missing = {name: found.reason for name, found in said if not found.ok}
        path = flag_path(settings.gate, settings.node)
        asked = Path(settings.memory) if settings.memory is not None else None
        seen = asked is not None and asked.parent.is_dir()
        self._memory_file = asked if asked is not None and seen else path.with_name(path.name + ".memory")
        self._memory = _restored(self._memory_file, Now.of(self._clock))
        self._sampled_mono_s = self._clock.mono_s()
        self._hangs = HangWatch(heartbeats_folder(settings.gate, settings.node), self._policy, self._note, self._clock)
        self._gate = FlagWriter(path)
        self._sample()

    # What a driver calls.

    def configure(self, settings: WatchdogSettings) -> dict[str, Any]:
        """Take new settings, of another experiment say; the same ones change nothing. The snapshot after it."""
        with self._changed:
            self._called()
            if settings != self._settings:
                self._close()
                self._open(settings)
                self._tell()
        # What an earlier driver fetched it also told.
        return self.snapshot(since=self._fetched)

    def set_operator(self, commands: list[dict[str, Any]], stamp: int) -> None:
        """The operator's commands in force: written to the flag before this returns.

        `stamp` grows with each change; calls can overtake one another, and an older one changes nothing.
        """
        with self._changed:
            self._called()
            if stamp < self._operator_stamp:
                return
            self._operator_stamp = stamp
            self._operator = tuple(Command.from_json(command) for command in commands)
            self._write()

    def start_drill(self, name: str, duration_s: float) -> None:
        """Play a drill through the scripted provider. Raises ValueError with the valid names."""
        with self._changed:
            self._called()
            self._scripted().start_drill(name, duration_s)
        self._wake.set()

    def force(self, for_s: float) -> dict[str, Any]:
        """The operator's word: for `for_s` seconds only a critical reading pauses. The snapshot after it."""
        with self._changed:
            self._called()
            self._memory = self._memory.forced(Now.of(self._clock), for_s)
            self._sample()
            _save(self._memory_file, self._memory)
        return self.snapshot(since=self._fetched)

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """The governor's command, the latest readings, and the notes that are newer than version `since`."""
        with self._changed:
            self._called()
            self._fetched = self._version
            return {
                "version": self._version,
                "pid": os.getpid(),
                "command": self._governor.to_json(),
                "readings": [reading.to_json() for reading in self._readings],
                "protected": not self._memory.unprotected,
                "missing": dict(self._missing),
                "largest_trial": self._largest_trial(),
                "notes": [
                    {"kind": note.kind, "facts": dict(note.facts)} for version, note in self._notes if version > since
                ],
            }

    def wait_change(self, version: int, timeout_s: float) -> dict[str, Any]:
        """The snapshot as soon as it is newer than `version`, at the latest after `timeout_s`."""
        with self._changed:
            self._called()
            self._changed.wait_for(lambda: self._version != version, timeout=min(timeout_s, MAX_LONG_POLL_S))
            return self.snapshot(since=version)

    def how_died(self, experiment: str, number: int, attempt: int) -> dict[str, Any] | None:
        """How that attempt's worker died (worker_death.Death); None where it is not of this node, or alive."""
        return self._hangs.how_died(experiment, number, attempt)

    def ping(self) -> int:
        """The watchdog's pid."""
        with self._changed:
            self._called()
        return os.getpid()

    def stop(self) -> None:
        """Sample and renew no more; the flag's lease runs out."""
        self._stopped.set()
        self._wake.set()
        with self._changed:
            self._close()

    # Its own threads.

    def _called(self) -> None:
        self._called_mono_s = self._clock.mono_s()

    def _sample_for_ever(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(next_period_s(self._readings, self._policy, self._memory))
            self._wake.clear()
            with self._changed:
                if not self._stopped.is_set():
                    self._sample()

    def _look_for_hangs_for_ever(self) -> None:
        while not self._stopped.wait(self._hangs.period_s):
            try:
                self._hangs.look()
            except Exception:
                # Whatever one look stumbles over: with this thread gone, every later hang would stay unseen.
                logging.getLogger("watchdog").exception("looking for trials that hang")

    def _note(self, kind: str, facts: dict[str, Any]) -> None:
        with self._changed:
            self._notes.append((self._version + 1, Note(kind, facts)))
            self._tell()

    def _renew_for_ever(self) -> None:
        while not self._stopped.wait(RENEW_S):
            now = self._clock.mono_s()
            # Without the lock: a provider that hangs holds it, and then the lease shall run out, not this thread hang.
            if now - self._sampled_mono_s < max(STALLED_MIN_S, STALLED_PERIODS * self._policy.period_s):
                self._gate.renew()
            if self._gauges is not None:
                self._gauges.show(self._in_force, self._readings, now - self._sampled_mono_s, self._gate.age_s)
            if now - self._called_mono_s > IDLE_END_S:
                _end_this_actor()

    def _sample(self) -> None:
        self._readings = [reading for provider in self._providers for reading in provider.read()]
        before = self._governor
        self._governor, self._memory, notes = decide(self._readings, self._policy, self._memory, Now.of(self._clock))
        self._sampled_mono_s = self._clock.mono_s()
        self._write()
        if notes or shape(self._governor) != shape(before):
            self._notes.extend((self._version + 1, note) for note in notes)
            self._tell()
            _save(self._memory_file, self._memory)

    def _write(self) -> None:
        if self._operator is None:
            self._gate.write(Action.PAUSE, 0.0)
            return
        command = self._in_force = in_force_on(self._settings.node, self._operator, self._governor)
        release = self._release(command)
        self._gate.write(command.action, command.throttle_share, release=release, held=self._held(self._operator))

    def _held(self, operator: tuple[Command, ...]) -> dict[int, bool]:
        """The trials that are held each by itself, with whether it is to give its memory back: a STOP says at once."""
        now, short = self._clock.mono_s(), self._memory_is_short()
        held = [command for command in operator if command.trial and command.action >= Action.PAUSE]
        numbers = [command.trial[1] for command in held if command.trial]
        leaving = {command.trial[1] for command in held if command.trial and command.action is Action.STOP}
        self._held_since_mono_s = {number: self._held_since_mono_s.get(number, now) for number in numbers}
        return {
            number: short or number in leaving or now - since > self._policy.release_after_s
            for number, since in self._held_since_mono_s.items()
        }

    def _release(self, command: Command) -> bool:
        """Whether paused trials are to give their memory back: the pause is long, or memory is what is short."""
        now = self._clock.mono_s()
        if command.action is not Action.PAUSE:
            self._paused_since_mono_s = None
            return False
        if self._paused_since_mono_s is None:
            self._paused_since_mono_s = now
        return now - self._paused_since_mono_s > self._policy.release_after_s or self._memory_is_short()

    def _memory_is_short(self) -> bool:
        return self._memory_percent() >= self._policy.memory_pause_percent

    def _memory_percent(self) -> float:
        """Of the host; 0 where nobody says."""
        found = [
            reading.value
            for reading in self._readings
            if (reading.kind, reading.component, reading.unit) == (Kind.MEMORY, "host", "percent")
        ]
        return max((value for value in found if value is not None), default=0.0)

    def _largest_trial(self) -> str | None:
        """The trial (EXPERIMENT/NUMBER) that gives most when it goes; None while memory is no trouble."""
        if self._memory_percent() < self._policy.memory_shed_percent:
            return None
        return next((reading.detail for reading in self._readings if reading.sensor_id == LARGEST), None)

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _scripted(self) -> ScriptedProvider:
        return next(provider for provider in self._providers if isinstance(provider, ScriptedProvider))

    def _close(self) -> None:
        for provider in self._providers:
            _close_quietly(provider)
        self._gate.close()


class WatchdogActor(Watchdog):
    """As Ray runs it: with gauges, which need a Ray worker."""

    def __init__(self, settings: WatchdogSettings) -> None:
        super().__init__(settings, WatchdogGauges(settings.node))


def shape(command: Command) -> tuple[object, ...]:
    """What makes a command another one; its reason may tell a new temperature at each sample."""
    return command.step, command.drill


def _restored(file: Path, now: Now) -> GovernorState:
    """What the node's last governor knew. A STOP holds until an operator lifts it, all else for MEMORY_KEPT_S."""
    try:
        memory = GovernorState.from_json(json.loads(file.read_text()))
        old = memory.last is None or not 0.0 <= now.wall_s - memory.last.wall_s <= MEMORY_KEPT_S
        if memory.action is Action.STOP:
            # Of its sensors some may be gone with the machine's last boot: they are not lost, they are not there.
            return (
                GovernorState(action=Action.STOP, reason=memory.reason, protected=memory.protected) if old else memory
            )
        return GovernorState() if old else memory
    except FileNotFoundError:
        return GovernorState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # Another version's, or torn by a crash. A governor without memory is merely more careful at first.
        logging.getLogger("watchdog").warning("the governor's memory in %s is of no use: %s", file, error)
        return GovernorState()


def _save(file: Path, memory: GovernorState) -> None:
    fresh = file.with_name(file.name + ".new")
    try:
        fresh.write_text(json.dumps(memory.to_json()))
        fresh.replace(file)
    except OSError as error:
        # A full disk must not stop the watchdog: it has other things to say about that.
        logging.getLogger("watchdog").warning("the governor's memory cannot be kept: %s", error)


def _close_quietly(provider: Provider) -> None:
    try:
        provider.close()
    except Exception:
        # A provider that cannot let go of its device is no reason to lose the watchdog.
        logging.getLogger("watchdog").exception("closing provider %s", provider.name)


def _end_this_actor() -> None:
    import ray

    # Not os._exit: Ray would start an actor with max_restarts=-1 again.
    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
