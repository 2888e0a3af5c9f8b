"""Runs a run's experiments in order, and answers the API about the work: pause, force, drill."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView, NodeView
from supervisor.daemon.commands_in_force import FORCE_S, CommandsInForce
from supervisor.daemon.experiments.driver_ahead import DriverAhead
from supervisor.daemon.experiments.driver_runner import Drills, DriverRunner
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.experiments.experiment_hours import TrialSeconds
from supervisor.daemon.experiments.experiment_runner import ExperimentRunner
from supervisor.daemon.experiments.ray_session import RaySession
from supervisor.daemon.experiments.run_order import RunOrder
from supervisor.daemon.experiments.what_follows import WhatFollows
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.underuse import Scene, scene_of
from supervisor.domain import messages
from supervisor.domain.command import Command
from supervisor.domain.retry import Retry
from supervisor.errors import Conflict
from supervisor.home import Home
from supervisor.preflight.concurrency import Choice
from supervisor.preflight.machine import available_memory_bytes, usable_cores
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.environment import OWNER
from supervisor.processes.ray_head import RayHead
from supervisor.report.process import ReportAhead
from supervisor.store import lookups
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter


class Orchestrator:
    """Owns Ray, the drivers at work and the commands in force of one run."""

    def __init__(
        self,
        home: Home,
        writer: RunWriter,
        clock: Clock,
        stop: StopRequest,
        reserve: DiskReserve,
        new_head: Callable[[], RayHead],
        new_driver: Callable[[str], DriverProcess],
        skip_reason: Callable[[dict[str, Any]], str | None],
        choose_share: Callable[[dict[str, Any]], Coroutine[Any, Any, Choice | None]],
        watchdog: dict[str, Any],
        trial_seconds: TrialSeconds,
        report: ReportAhead,
    ) -> None:
        self._home, self._writer, self.stop = home, writer, stop
        self._cluster = ClusterView(writer, clock)
        self._commands = CommandsInForce(writer, clock, self._cluster)
        self._drills = Drills(writer)
        hold = functools.partial(self.hold_for_disk, disk="ray")
        self.ray = RaySession(home.ray_temp, writer, clock, new_head, hold, on_exit=self._ray_ended)
        self._ahead, run_folder = DriverAhead(new_driver), home.run_folder(writer.run_id)
        evaluator = Evaluator(EvaluationWriter(writer.store, writer.run_id), {OWNER: home.key})
        self._follows = WhatFollows(
            writer,
            self._ahead,
            evaluator,
            report,
            lambda: self._order.left(),
            run_folder,
            available_memory_bytes,
            lambda: None if self.ray.head is None else self.ray.head.address,
        )
        self._drivers = DriverRunner(
            writer, self.ray, self.start_ray, new_driver, self._ahead, self._follows, self._cluster, self._commands,
            self._drills, watchdog, home.key, reserve, stop, clock, trial_seconds,
        )  # fmt: skip
        experiments = ExperimentRunner(self._drivers, self.ray, self._commands, evaluator, clock, reserve, stop)
        self._order = RunOrder(
            home, writer, clock, stop, experiments, skip_reason, choose_share, trial_seconds
        )  # fmt: skip

    @property
    def nodes(self) -> dict[str, NodeView]:
        """The nodes by id, as their watchdogs last described them."""
        return self._cluster.nodes

    @property
    def at_work(self) -> tuple[str, ...]:
        """The experiments that drivers work on now, the one that began first at the front."""
        return tuple(self._drivers.at_work)

    @property
    def experiment(self) -> str | None:
        """The only experiment that a driver works on now; None without one, and where there are several."""
        return self.at_work[0] if len(self.at_work) == 1 else None

    @property
    def shortage(self) -> str | None:
        """Why no node can run a trial of an experiment at work; None while one can run those of each."""
        return next((driver.shortage for driver in self._drivers.at_work.values() if driver.shortage), None)

    @property
    def left_s(self) -> dict[str, float | None]:
        """Return the seconds left of the hours of each experiment at work; None without hours."""
        return {name: driver.countdown.left_s for name, driver in self._drivers.at_work.items()}

    def scene(self) -> Scene | None:
        """Return how the machine is used; None while no experiment is at work or no node is sampled."""
        names, nodes = self.at_work, self._cluster.nodes.values()
        readings = next((node.readings for node in nodes if node.readings), None)
        if not names or readings is None:
            return None
        return scene_of(
            self._writer.store, self._writer.run_id, names, readings, self._commands.in_force().action, usable_cores()
        )

    # For the API

    def in_force(self) -> Command:
        """Return the command in force for the whole run."""
        return self._commands.in_force()

    def full_disks(self) -> list[Command]:
        """Return the pauses for full disks, except that of the daemon's own state: its reserve says so."""
        return self._commands.full_disks("ray")

    async def commands_changed(self) -> None:
        """Send the commands to the drivers at work, and pause or resume their experiments."""
        self._follows.obey(self._commands.in_force())
        await self._drivers.send(messages.Commanded([command.to_json() for command in self._commands.commands()]))
        for name in self.at_work:
            self._commands.settle(name)

    async def hold_for_disk(self, reason: str | None, disk: str = "state") -> None:
        """Pause the run while `disk` is full; `reason` None ends that pause."""
        self._commands.hold_for_disk(disk, reason)
        await self.commands_changed()

    async def force(self, node: str | None, who: str) -> None:
        """Let an operator overrule the governor of `node`, or of all nodes. Raises Conflict if none pauses."""
        if self._commands.force(node, who):
            await self._drivers.send(messages.ForceAsked(node, FORCE_S))

    async def drill(self, name: str, duration_s: float, node: str | None) -> bool:
        """Start a drill; return False if it waits for the next driver's watchdog.

        Raises Conflict when there will be no other driver.
        """
        if self.ending():
            raise Conflict("the run is ending, so there is no watchdog to drill")
        self._drills.ask(messages.DrillAsked(name, duration_s, node))
        drivers = self._drivers.processes
        if not drivers or not self._cluster.watched:
            return False
        await self._drills.play(drivers[0])
        return True

    def ending(self) -> bool:
        """Return whether no experiment will begin any more."""
        return self.stop.asked() or not self._order.left()

    async def retried(self, retries: Iterable[Retry]) -> None:
        """Tell the drivers at work when trials of their experiments wait again: their finalisations must not begin."""
        for name in {retry.experiment for retry in retries if retry.trials}:
            await self._drivers.send(messages.TrialsRetried(), name)

    async def finish(self, name: str, who: str) -> None:
        """Record that a person ends the search of an experiment, paused trials of it included; tell its driver."""
        self._writer.record("experiment.finish_asked", experiment=name, who=who)
        self._commands.let_trials_go(name, who)
        if name in self.at_work:
            await self._drivers.send(messages.FinishAsked(), name)
            await self.commands_changed()

    async def spec_changed(
        self, names: Collection[str], policy: Mapping[str, Any] | None = None, anew: str | None = None
    ) -> None:
        """Tell the drivers at work whose experiments are among `names` that a person has changed their specs.

        `policy` is the hardware policy from now on; None when that did not change. With `anew`, a reason, such a driver
        makes room for one that begins with the change: what it has in memory cannot follow.
        """
        if policy is not None:
            self._drivers.watchdog["policy"] = dict(policy)
        told = [name for name in self.at_work if policy is not None or name in names]
        for name in told:
            spec = lookups.spec(self._writer.store, self._writer.run_id, name)
            await self._drivers.send(messages.SpecChanged(spec, None if policy is None else dict(policy)), name)
        if told:
            await self.commands_changed()
        if anew is not None:
            for name in told:
                if name in names:
                    await self._drivers.begin_anew(name, anew)

    async def left_out(self) -> None:
        """Move the experiments that a person leaves out to SKIPPED; the drivers of those at work are killed first."""
        self._order.leave_out()
        for name in self.at_work:
            if lookups.spec(self._writer.store, self._writer.run_id, name).get("left_out"):
                # Not asked to finish: its results are not wanted, and its runner moves it on.
                await self._drivers.kill(name)

    async def kill(self) -> None:
        """Kill every process of the run."""
        await self._drivers.kill()
        await asyncio.to_thread(orphans.end, self._home.key, grace_s=0.0)

    # The run

    async def begin(self) -> None:
        """Start Ray, and meanwhile the driver of the first experiment. Raises RayStartFailed."""
        first = next(iter(self._order.left()), None)
        if first is not None:
            await self._ahead.start(first, self._home.run_folder(self._writer.run_id) / first)
        try:
            await self.start_ray()
        except BaseException:
            # Also when the run is asked to stop meanwhile, which cancels this.
            await self._ahead.end()
            raise

    async def _ray_ended(self) -> None:
        """Kill the drivers of a Ray that has ended by itself: one without its head would hang."""
        await self._drivers.kill()
        await self._ahead.ray_ended()

    async def start_ray(self) -> None:
        """Start Ray: a new cluster with other nodes. Raises RayStartFailed."""
        await self.ray.start()
        self._cluster.another_cluster()
        self._commands.widen_node_commands()

    async def run(self) -> None:
        """Run the experiments that have not ended, in order; return when all have, or the run is asked to stop.

        Ray is then left to `end_ray`; where this raises, Ray has ended.
        """
        try:
            try:
                await self._order.run()
            finally:
                self._cluster.close()
                await self._follows.run_ends()
        except BaseException:
            await self.end_ray()
            raise

    async def end_ray(self) -> None:
        """End Ray and all its processes; it takes seconds."""
        if await self.ray.end():
            # Ray's workers lead groups of their own, which the head's end does not reach.
            await asyncio.to_thread(orphans.end, self._home.key)
