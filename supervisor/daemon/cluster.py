"""Keeps the latest messages of the nodes' watchdogs. Decides the command in force for the whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor.clock import Clock
from supervisor.domain import messages
from supervisor.domain.command import Command, Origin, in_force_for_all, pauses_all, run, strictest
from supervisor.store.reading_rollup import ReadingRollup
from supervisor.store.run_writer import RunWriter

HARDWARE_EVENT_PERIOD_S = 300.0
SILENT_AFTER_S = 30.0
"""A node without a message for so long is left out while others send samples."""


@dataclass
class NodeView:
    """Holds the latest message of a node's watchdog."""

    protected: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    readings: list[dict[str, Any]] = field(default_factory=list)
    command: Command = field(default_factory=lambda: run(Origin.GOVERNOR))
    message_mono_s: float | None = None
    recorded_mono_s: float | None = None
    sampled_by: str | None = None
    """The experiment whose driver passes its readings on."""


class ClusterView:
    """Handles the watchdogs' messages, and records an event where one is worth it."""

    def __init__(self, writer: RunWriter, clock: Clock) -> None:
        self._writer, self._clock = writer, clock
        self._rollup = ReadingRollup()
        self.nodes: dict[str, NodeView] = {}
        self._said: dict[str, dict[str, Command]] = {}
        """The governor's command of each node, by the experiment whose driver passed it on."""
        self._noted: dict[str, tuple[int, int]] = {}
        """The process of each node's watchdog, and the number of the last note that was recorded of it."""
        self.watched = False
        """True once a watchdog has sent a message through a driver at work."""

    def watchdog_up(self, message: messages.WatchdogUp) -> None:
        """Handle the start of a node's watchdog."""
        node = self.nodes.setdefault(message.node, NodeView())
        self.watched, first = True, node.message_mono_s is None
        node.protected, node.missing, node.message_mono_s = message.protected, message.missing, self._clock.mono_s()
        self._writer.record(
            "watchdog.started", node=message.node, pid=message.pid, protected=message.protected, missing=message.missing
        )
        if first and not message.protected:
            why = "; ".join(f"{name}: {reason}" for name, reason in message.missing.items()) or "none was found"
            self._writer.record("watchdog.unprotected", node=message.node, why=why)

    def sampled(self, message: messages.Sampled, experiment: str) -> None:
        """Handle a node's readings; they become an event once in HARDWARE_EVENT_PERIOD_S.

        Each driver at work passes them on: those of one count, while it does.
        """
        node = self.nodes.setdefault(message.node, NodeView())
        now = self._clock.mono_s()
        if node.sampled_by not in (None, experiment) and now - (node.message_mono_s or now) < SILENT_AFTER_S / 2:
            return
        node.sampled_by = experiment
        node.readings, node.protected, node.message_mono_s = message.readings, message.protected, now
        if minutes := self._rollup.add(message.node, message.readings, self._clock.wall_s()):
            self._writer.keep_readings(minutes)
        if node.recorded_mono_s is None or now - node.recorded_mono_s >= HARDWARE_EVENT_PERIOD_S:
            node.recorded_mono_s = now
            self._writer.record(
                "hardware.sampled", node=message.node, summary=summarise(message.readings, message.protected),
                readings=message.readings, protected=message.protected, missing=node.missing,
            )  # fmt: skip

    def noted(self, message: messages.SensorNoted) -> None:
        """Record the event that a watchdog noted about a sensor, once: each driver at work passes it on."""
        if message.pid is not None and message.serial is not None:
            pid, last = self._noted.get(message.node, (message.pid, 0))
            if pid == message.pid and message.serial <= last:
                return
            self._noted[message.node] = message.pid, message.serial
        sensor = message.facts.get("sensor")
        fields = {"node": message.node, "facts": message.facts}
        drill = {"drill": True} if message.facts.get("drill") else {}
        self._writer.record(message.kind, **fields, **drill, **({} if sensor is None else {"sensor": sensor}))

    def action_changed(self, message: messages.ActionChanged, experiment: str) -> None:
        """Handle a governor's new command, as the driver of an experiment heard it.

        Of several drivers at work the one that heard the strictest counts: all hear the same within moments.
        """
        self.nodes.setdefault(message.node, NodeView())
        self._said.setdefault(message.node, {})[experiment] = Command.from_json(message.command)
        self._weigh(message.node)

    def _weigh(self, name: str) -> None:
        """Put the strictest command of a node in force; another step of the ladder is an event."""
        node = self.nodes[name]
        command, before = strictest(self._said[name].values()), node.command
        node.command = command
        if command.step != before.step:
            self._writer.record(
                "action.changed", node=name, action=command.action.name, previous=before.action.name,
                reason=command.reason, throttle_share=command.throttle_share, shed_trials=command.shed_trials,
                # Easing back after a drill is part of the drill.
                drill=command.drill or (before.drill and command.action < before.action),
            )  # fmt: skip

    def in_force(self, operator: Sequence[Command]) -> Command:
        """Return the command in force for the whole run."""
        return in_force_for_all(operator, self._governors())

    def pause(self, operator: Sequence[Command]) -> Command | None:
        """Return the command that pauses the whole run; None while a node is not paused."""
        return pauses_all(operator, self._governors())

    def _governors(self) -> dict[str, Command]:
        """Return the governors' commands by node; a node that was silent for SILENT_AFTER_S is left out."""
        now = self._clock.mono_s()
        commands = {
            name: view.command
            for name, view in self.nodes.items()
            if view.message_mono_s is None or now - view.message_mono_s <= SILENT_AFTER_S
        }
        return commands or {name: view.command for name, view in self.nodes.items()}

    def strictest_governor(self, node: str | None) -> Command:
        """Return the governor's command on `node`; with None the strictest of all nodes."""
        held = [view.command for name, view in self.nodes.items() if node in (None, name)]
        return strictest([run(Origin.GOVERNOR), *held])

    def driver_gone(self, experiment: str) -> None:
        """Forget what the driver of an experiment passed on; after the last one its successor's watchdogs say it again.

        So no event tells that their commands have ended then.
        """
        for node in self.nodes.values():
            node.sampled_by = None if node.sampled_by == experiment else node.sampled_by
        for name, said in self._said.items():
            if said.pop(experiment, None) is not None and said:
                self._weigh(name)
            elif not said:
                self.nodes[name].command = run(Origin.GOVERNOR)

    def another_cluster(self) -> None:
        """Forget the nodes: a new cluster has others."""
        self.nodes.clear()
        self._said.clear()
        self._noted.clear()

    def close(self) -> None:
        """Keep the readings of the minute that has not ended."""
        self._writer.keep_readings(self._rollup.close())


def summarise(readings: Sequence[Mapping[str, Any]], protected: bool) -> str:
    """Return one line: the hottest temperature or why it is missing, CPU and memory."""
    temperatures = [r["value"] for r in readings if r["kind"] == "temperature" and r["value"] is not None]
    parts = [f"{max(temperatures):.0f} C" if temperatures else ("no reading" if protected else "no sensor")]
    for kind, label in (("utilisation", "cpu"), ("memory", "memory")):
        percents = [r["value"] for r in readings if (r["kind"], r["unit"]) == (kind, "percent")]
        values = [value for value in percents if value is not None]
        if values:
            parts.append(f"{label} {max(values):.0f} %")
    return ", ".join(parts)
