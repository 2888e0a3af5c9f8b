"""What holds a run's work back: the operator's commands, the nodes' governors, the daemon's own full disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView
from supervisor.domain import messages
from supervisor.domain.command import ALL_NODES, Action, Command, Origin, strictest
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict
from supervisor.store.run_writer import RunWriter

FORCE_S = 600.0
"""How long an operator's `resume --force` overrules the governor; a critical reading pauses all the same."""


class CommandsInForce:
    """Weighs them against each other, and lets the state of the experiment at work follow."""

    def __init__(self, ledger: RunWriter, clock: Clock, cluster: ClusterView) -> None:
        self._ledger, self._clock, self._cluster = ledger, clock, cluster
        self._full: dict[str, Command] = {}
        self.stop: Command | None = None
        """The governor's STOP that ended a driver; only an operator goes on from it."""
        self.let_go = asyncio.Event()
        self._forced = False
        self._paused_by_drill = False

    def commands(self) -> list[Command]:
        """What the driver has to obey beside its nodes' governors."""
        return [*self._ledger.commands(), *self._full.values()]

    def in_force(self) -> Command:
        """What holds for the run as a whole."""
        return self._cluster.in_force(self.commands())

    def for_disk(self, disk: str, reason: str | None) -> None:
        """The daemon's own pause, while that disk is full; None lifts it."""
        self._full.pop(disk, None)
        if reason is not None:
            self._full[disk] = Command(Action.PAUSE, Origin.GOVERNOR, reason, since_wall=self._clock.wall_s())

    def full_disks(self, *disks: str) -> list[Command]:
        return [self._full[disk] for disk in disks if disk in self._full]

    def force(self, node: str | None, who: str) -> bool:
        """The operator's word against the governor's, for FORCE_S; whether the driver at work is to be told.

        Raises Conflict when the governor restrains nothing.
        """
        strict = self.stop or self._cluster.governors(node)
        if strict.action < Action.PAUSE:
            raise Conflict("the governor pauses nothing", remedy="`supervisorctl resume` lifts the operator's pauses")
        self._ledger.record(
            "governor.forced", who=who, for_s=FORCE_S, node=node, action=strict.action.name, reason=strict.reason
        )
        at_work = self.stop is None
        self._forced, self.stop = not at_work, None
        self.let_go.set()
        return at_work

    def forced_once(self) -> dict[str, float]:
        """For the next driver's watchdog, which must not stop that too before it can be told."""
        forced, self._forced = self._forced, False
        return {"forced_s": FORCE_S} if forced else {}

    def action_changed(self, message: messages.ActionChanged, experiment: str | None) -> None:
        self._cluster.action_changed(message)
        command = self.in_force()
        if command.action is Action.STOP and command.origin is Origin.GOVERNOR:
            self.stop = command
        self.settle(experiment)

    def settle(self, experiment: str | None) -> None:
        """The experiment's state follows the strictest command: any pause of the operator's, or a governor's PAUSE."""
        if experiment is None:
            return
        state = self._ledger.experiment_state(experiment)
        command = self.in_force()
        paused = command.action >= Action.PAUSE or (command.origin is Origin.OPERATOR and command.action >= Action.HOLD)
        if paused and state is ProcessState.RUNNING:
            self._paused_by_drill = command.drill
            self._ledger.move_experiment(
                experiment, ProcessState.PAUSED, "experiment.paused", command.reason, drill=command.drill
            )
        elif not paused and state is ProcessState.PAUSED:
            self._ledger.move_experiment(
                experiment, ProcessState.RUNNING, "experiment.resumed", drill=self._paused_by_drill
            )

    def widen_node_commands(self) -> None:
        """Another cluster has other nodes. A pause of one that is gone is taken to mean all: its machine may be any."""
        for command in self._ledger.commands():
            if command.scope != ALL_NODES and command.trial is None:
                self._ledger.drop_command(command.scope, "the end of the cluster that had this node")
                wider = replace(command, scope=ALL_NODES)
                earlier = [other for other in self._ledger.commands() if other.scope == ALL_NODES]
                self._ledger.put_command(strictest([wider, *earlier]), "its node has a new id")
