"""Weighs the commands on a run: the operator's, the schedule's, the governors', the daemon's while a disk is full."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView
from supervisor.daemon.stop_request import StopRequest
from supervisor.domain.command import Action, Command, Origin, strictest
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.messages import ActionChanged
from supervisor.domain.scope import ALL_NODES
from supervisor.errors import Conflict
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

FORCE_S = 600.0
"""The time for which an operator's `resume --force` overrules the governor; a critical reading pauses all the same."""


class CommandsInForce:
    """Decides which command is in force. The states of the experiments at work follow."""

    def __init__(self, writer: RunWriter, clock: Clock, cluster: ClusterView) -> None:
        self._writer, self._clock, self._cluster = writer, clock, cluster
        self._full_disks: dict[str, Command] = {}
        self._governors_stop: Command | None = None
        self._overruled = asyncio.Event()
        """Set when an operator has overruled the governor's STOP."""
        self._forced_drivers = 0
        """So many next drivers overrule a STOP from their start."""
        self._stopped = 0
        """The number of experiments that wait for an operator since a STOP ended their drivers."""
        self._paused_by_drill = False

    @property
    def governors_stop(self) -> Command | None:
        """The governor's STOP that ended a driver; only an operator ends it."""
        return self._governors_stop

    def commands(self) -> list[Command]:
        """Return the commands that a driver obeys beside its nodes' governors."""
        schedule = self._writer.schedule()
        found = [*self._writer.commands(), *self._full_disks.values()]
        return found if schedule is None else [*found, schedule]

    def in_force(self) -> Command:
        """Return the command in force for the whole run."""
        return self._cluster.in_force(self.commands())

    def hold_for_disk(self, disk: str, reason: str | None) -> None:
        """Pause the run while `disk` is full; `reason` None ends that pause."""
        self._full_disks.pop(disk, None)
        if reason is not None:
            self._full_disks[disk] = Command(Action.PAUSE, Origin.GOVERNOR, reason, since_wall=self._clock.wall_s())

    def full_disks(self, *disks: str) -> list[Command]:
        """Return the pauses for those of `disks` that are full."""
        return [self._full_disks[disk] for disk in disks if disk in self._full_disks]

    def force(self, node: str | None, who: str) -> bool:
        """Let an operator overrule the governor for FORCE_S; return whether to send that to the drivers at work.

        Raises Conflict when no governor pauses.
        """
        overruled = self._governors_stop or self._cluster.strictest_governor(node)
        if overruled.action < Action.PAUSE:
            raise Conflict("the governor pauses nothing", remedy="`supervisorctl resume` lifts the operator's pauses")
        self._writer.record(
            "governor.forced", who=who, for_s=FORCE_S, node=node, action=overruled.action.name, reason=overruled.reason
        )
        self._forced_drivers = 0 if self._governors_stop is None else max(1, self._stopped)
        self._governors_stop = None
        self._overruled.set()
        return not self._forced_drivers

    def let_trials_go(self, experiment: str, who: str) -> None:
        """Lift the commands on single trials of an experiment: its search ends, and its answer waits for them."""
        for command in self._writer.commands():
            if command.trial is not None and command.trial[0] == experiment:
                self._writer.drop_command(command.scope, who)

    async def wait_for_force(self, stop: StopRequest) -> None:
        """Wait until an operator overrules the governor's STOP, or the run is asked to stop."""
        # An operator may have overruled an earlier command.
        self._overruled.clear()
        self._stopped += 1
        try:
            await stop.unless_asked(self._overruled.wait())
        finally:
            self._stopped -= 1

    def begin_driver(self) -> None:
        """Forget an earlier driver's STOP: if it still holds, the node's governor knows, and says so again.

        So the death of this driver is not taken for the work of that STOP. An experiment that waits for an operator
        since that STOP waits on.
        """
        if not self._stopped:
            self._governors_stop = None

    def for_watchdog(self) -> dict[str, float]:
        """Return the settings by which the next watchdogs overrule a STOP from the start."""
        forced, self._forced_drivers = self._forced_drivers > 0, max(0, self._forced_drivers - 1)
        return {"forced_s": FORCE_S} if forced else {}

    def action_changed(self, message: ActionChanged, experiment: str) -> None:
        """Handle a governor's new command, as the driver of an experiment heard it."""
        self._cluster.action_changed(message, experiment)
        command = self.in_force()
        if command.action is Action.STOP and command.origin is Origin.GOVERNOR:
            self._governors_stop = command
        self.settle(experiment)

    def settle(self, experiment: str) -> None:
        """Pause or resume an experiment at work, as the commands ask; record another cause of a pause, too."""
        row = lookups.experiment(self._writer.store, self._writer.run_id, experiment)
        state, pause = ProcessState(row["state"]), self._cluster.pause(self.commands())
        if pause is None:
            if state is ProcessState.PAUSED:
                self._writer.record("experiment.resumed", experiment=experiment, drill=self._paused_by_drill)
            return
        cause = (pause.action.name, pause.origin.value)
        if state is ProcessState.RUNNING or (state is ProcessState.PAUSED and cause != (row["action"], row["origin"])):
            self._paused_by_drill = pause.drill
            self._writer.record(
                "experiment.paused", experiment=experiment, action=cause[0], origin=cause[1], reason=pause.reason,
                drill=pause.drill,
            )  # fmt: skip

    def widen_node_commands(self) -> None:
        """Turn the operator's commands for single nodes into commands for all: a new cluster has other nodes.

        A pause must not be lost with a node's id, and the node's machine may be any of the new ones.
        """
        for command in self._writer.commands():
            if command.scope != ALL_NODES and command.trial is None:
                self._writer.drop_command(command.scope, "the end of the cluster that had this node")
                wider = replace(command, scope=ALL_NODES)
                earlier = [other for other in self._writer.commands() if other.scope == ALL_NODES]
                self._writer.put_command(strictest([wider, *earlier]), "its node has a new id")
