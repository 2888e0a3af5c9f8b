"""The watchdog of a node: governs the node, ends its hung trials, and reports both to the driver.

One detached Ray actor per node, for all drivers at work. It outlives a driver that is killed and serves the next one;
when no driver has called it for IDLE_END_S it ends itself, and with it the leases of its flags, which pauses each trial
that still runs there.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.trial.node_files import heartbeats_folder
from actors.trial.worker_exit import Death
from actors.watchdog import hang_watch
from actors.watchdog.changes import Changes
from actors.watchdog.experiment_flag import OperatorCommands
from actors.watchdog.gauges import WatchdogGauges
from actors.watchdog.hang_watch import HangWatch, WaitWatch
from actors.watchdog.node_governor import NodeGovernor, OpenProviders, WatchdogSettings
from supervisor.clock import Clock
from supervisor.domain.command import Command
from supervisor.governor.sensor_health import Note
from supervisor.sensors import discovery

RENEW_S = 1.0
"""Well within the lease: one or two late renewals change nothing."""

IDLE_END_S = 120.0
MAX_LONG_POLL_S = 30.0
LOG = logging.getLogger("watchdog")


@dataclass(frozen=True)
class _Node:
    """The parts that are built anew for other settings."""

    settings: WatchdogSettings
    governor: NodeGovernor
    hangs: HangWatch
    waits: WaitWatch


class Watchdog:
    """Governs and watches one node. Its public methods are RPCs that return at once, but for `wait_change`."""

    def __init__(
        self,
        settings: WatchdogSettings,
        gauges: WatchdogGauges | None = None,
        open_providers: OpenProviders = discovery.open_providers,
    ) -> None:
        self._clock, self._gauges, self._open_providers = Clock(), gauges, open_providers
        self._changes = Changes()
        self._fetched = 0
        self._called_mono_s = self._clock.mono_s()
        self._wake, self._stopped, self._flag_changed = threading.Event(), threading.Event(), threading.Event()
        self._configuring = threading.Lock()
        self._failing: set[str] = set()
        self._node = self._open(settings)
        for target in (self._sample_for_ever, self._renew_for_ever, self._end_hangs_for_ever, self._see_waits_for_ever):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def _open(self, settings: WatchdogSettings, operators: Mapping[str, OperatorCommands] | None = None) -> _Node:
        governor = NodeGovernor(
            settings, self._changes, self._clock, self._open_providers, operators, self._flag_changed.set
        )
        folder = heartbeats_folder(settings.gate, settings.node)
        hangs = HangWatch(folder, governor.policy, self._note, self._clock)
        waits = WaitWatch(folder)
        # Before a flag can open: a trial that waited under an earlier watchdog waits until its heartbeat moves.
        self._try("looking for waiting trials", lambda: waits.look(governor.closes))
        return _Node(settings, governor, hangs, waits)

    # A driver calls these.

    def configure(self, settings: WatchdogSettings) -> dict[str, Any]:
        """Take new settings, for another experiment say, and return a snapshot; equal settings change nothing."""
        self._called()
        with self._configuring:
            if settings != self._node.settings:
                self._node.governor.close()
                self._node = self._open(settings, self._node.governor.operators)
                self._flag_changed.set()
                self._changes.add()
        # An earlier driver has passed on the notes that it fetched.
        return self.snapshot(since=self._fetched)

    def set_operator(self, commands: Iterable[Command], stamp: int, experiment: str) -> None:
        """Write the commands of an experiment's driver to its flag before this returns.

        `stamp` grows with each change; calls can overtake one another, and an older one changes nothing.
        """
        self._called()
        # Not while another driver's settings are taken: the governor that closes would lose them.
        with self._configuring:
            self._node.governor.set_operator(experiment, OperatorCommands(tuple(commands), stamp))

    def start_drill(self, name: str, duration_s: float) -> None:
        """Play a drill through the scripted provider. Raises ValueError with the valid names."""
        self._called()
        self._node.governor.start_drill(name, duration_s)
        self._wake.set()

    def force(self, for_s: float) -> dict[str, Any]:
        """Let only a critical reading pause for `for_s` seconds, as the operator wants; return a snapshot."""
        self._called()
        self._node.governor.force(for_s)
        return self.snapshot(since=self._fetched)

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """Return the governor's report, the attempts that wait, and the notes newer than version `since`."""
        self._called()
        # The version first: a change after it is then seen once more, never missed.
        version, notes = self._changes.since(since)
        self._fetched = version
        return {
            "version": version,
            "pid": os.getpid(),
            "waiting": self._node.waits.attempts,
            "notes": [{"kind": note.kind, "facts": dict(note.facts), "serial": serial} for serial, note in notes],
            **self._node.governor.report(),
        }

    def wait_change(self, version: int, timeout_s: float) -> dict[str, Any]:
        """Return the next snapshot after `version`, at the latest after `timeout_s`."""
        self._called()
        self._changes.wait(version, min(timeout_s, MAX_LONG_POLL_S))
        return self.snapshot(since=version)

    def how_died(self, experiment: str, number: int, attempt: int) -> Death | None:
        """Return how that attempt's worker died; None if it lives or is not of this node."""
        return self._node.hangs.how_died(experiment, number, attempt)

    def stop(self) -> None:
        """Sample and renew no more; the leases of the flags run out."""
        self._stopped.set()
        self._wake.set()
        self._flag_changed.set()
        self._node.governor.close()

    # Its own threads.

    def _called(self) -> None:
        self._called_mono_s = self._clock.mono_s()

    def _note(self, kind: str, facts: dict[str, Any]) -> None:
        self._changes.add([Note(kind, facts)])

    def _sample_for_ever(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(self._node.governor.next_period_s)
            self._wake.clear()
            # While it fails no lease is renewed, which pauses the node's trials.
            self._try("sampling", self._node.governor.sample)

    def _renew_for_ever(self) -> None:
        while not self._stopped.wait(RENEW_S):
            self._try("renewing the lease", lambda: self._node.governor.renew(self._gauges))
            if self._clock.mono_s() - self._called_mono_s > IDLE_END_S:
                self._try("ending", _end_this_actor)

    def _end_hangs_for_ever(self) -> None:
        while not self._stopped.wait(self._node.hangs.period_s):
            self._try("looking for hung trials", self._node.hangs.look)

    def _see_waits_for_ever(self) -> None:
        changed_mono_s = self._clock.mono_s()
        while not self._stopped.is_set():
            governor, waits = self._node.governor, self._node.waits
            quiet_s, before = self._clock.mono_s() - changed_mono_s, waits.attempts
            closed = governor.closes_any or bool(before)
            flag_changed = self._flag_changed.wait(hang_watch.wait_period_s(closed=closed, quiet_s=quiet_s))
            self._flag_changed.clear()
            self._try("looking for waiting trials", self._see_waits)
            if flag_changed or self._node.waits.attempts != before:
                changed_mono_s = self._clock.mono_s()

    def _see_waits(self) -> None:
        governor, waits = self._node.governor, self._node.waits
        if (governor.closes_any or waits.attempts) and waits.look(governor.closes):
            self._changes.add()

    def _try(self, work: str, act: Callable[[], object]) -> None:
        """Do one round of a thread's work; an error is noted once, until a round succeeds, and ends no thread."""
        try:
            act()
        except Exception as error:
            if work not in self._failing:
                self._failing.add(work)
                LOG.exception("%s", work)
                self._note("watchdog.failed", {"work": work, "why": f"{type(error).__name__}: {error}"[:500]})
        else:
            self._failing.discard(work)


class WatchdogActor(Watchdog):
    """A watchdog with gauges, which need a Ray worker."""

    def __init__(self, settings: WatchdogSettings) -> None:
        super().__init__(settings, WatchdogGauges(settings.node))


def _end_this_actor() -> None:
    import ray

    # Not os._exit: Ray would start an actor with max_restarts=-1 again.
    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
