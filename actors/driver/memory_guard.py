"""Asks the largest trial for its memory back before the kernel takes it: it leaves its work, saved, and comes back with
less.

The node's governor decides when: at each step that it takes up the ladder, from SHED on, while memory is short.
"""

from __future__ import annotations

import threading

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.trial_registry import TrialRegistry
from supervisor.domain.command import Action, Command, Origin, run


def asks(before: Command, now: Command) -> bool:
    """Whether a governor's move asks for memory: it is one up the ladder, a step within an action included."""
    return now.action >= Action.SHED and _place(now) > _place(before)


def _place(command: Command) -> tuple[Action, float, int]:
    return command.action, command.throttle_share, command.shed_trials


class MemoryGuard:
    """Hears of every change of the commands in force, from any thread. For trials that can save and go on."""

    def __init__(self, in_force: CommandsInForce, registry: TrialRegistry) -> None:
        self._in_force, self._registry = in_force, registry
        self._before: dict[str, Command] = {}
        self._looking = threading.Lock()
        in_force.on_change(self.look)

    def look(self) -> None:
        """Ask where a governor has gone up and knows which trial holds most."""
        with self._looking:
            for node, (command, largest) in self._in_force.governors().items():
                before = self._before.get(node, run(Origin.GOVERNOR))
                self._before[node] = command
                running = {entry.number for entry in self._registry.running()}
                if asks(before, command) and largest in running:
                    self._in_force.ask_back(largest, command.reason)
