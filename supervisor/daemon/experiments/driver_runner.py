"""Runs drivers, one an experiment: prepares their begins, passes messages to them, and handles those they send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView
from supervisor.daemon.commands_in_force import CommandsInForce
from supervisor.daemon.experiments.driver_ahead import DriverAhead
from supervisor.daemon.experiments.driver_session import DriverEnd, DriverSession
from supervisor.daemon.experiments.experiment_hours import Countdown, TrialSeconds
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.experiments.ray_session import RaySession
from supervisor.daemon.experiments.what_follows import WhatFollows
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.domain import messages
from supervisor.domain.finalists import known_to_the_search
from supervisor.errors import RayStartFailed
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.guardian import status_text
from supervisor.store import queries
from supervisor.store.run_writer import RunWriter
from supervisor.store.trial_writer import TrialWriter


class Drills:
    """Keeps a drill that was asked for until a watchdog can play it; a newer one replaces it."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._waiting: messages.DrillAsked | None = None
        self._playing: asyncio.Task[None] | None = None

    def ask(self, drill: messages.DrillAsked) -> None:
        """Keep a drill for the next watchdog."""
        self._waiting = drill

    async def play(self, driver: DriverProcess) -> None:
        """Send the waiting drill to the watchdogs of `driver`."""
        drill, self._waiting = self._waiting, None
        if drill is not None:
            self._writer.record(
                "drill.started", name=drill.name, duration_s=drill.duration_s, node=drill.node, drill=True
            )
            await driver.send(drill)

    def watchdog_up(self, driver: DriverProcess) -> None:
        """Play the waiting drill beside the work."""
        if self._waiting is not None:
            self._playing = asyncio.create_task(self.play(driver))


@dataclass
class DriverAtWork:
    """Holds the driver of an experiment while it is at work."""

    process: DriverProcess
    countdown: Countdown
    begins_anew: bool = False
    """True if it was asked to end so that the next one begins with another state."""
    shortage: str | None = None
    """The resources of a trial that no node has, in the driver's words; None while all are there."""


class DriverRunner:
    """Knows the drivers at work, by experiment; an experiment between two drivers has none."""

    def __init__(
        self,
        writer: RunWriter,
        ray: RaySession,
        start_ray: Callable[[], Awaitable[None]],
        new_driver: Callable[[str], DriverProcess],
        ahead: DriverAhead,
        follows: WhatFollows,
        cluster: ClusterView,
        commands: CommandsInForce,
        drills: Drills,
        watchdog: dict[str, Any],
        home_key: str,
        reserve: DiskReserve,
        stop: StopRequest,
        clock: Clock,
        trial_seconds: TrialSeconds,
    ) -> None:
        self._clock, self._trial_seconds = clock, trial_seconds
        self._writer, self._ray, self._start_ray = writer, ray, start_ray
        self._new_driver, self._ahead, self._follows = new_driver, ahead, follows
        self._trials = TrialWriter(writer.store, writer.run_id)
        self._cluster, self._commands, self._drills = cluster, commands, drills
        self._home_key, self._reserve, self._stop = home_key, reserve, stop
        self.watchdog = dict(watchdog)
        """The settings of the next driver's watchdogs."""
        self.at_work: dict[str, DriverAtWork] = {}
        """The drivers at work by experiment, the one that began first at the front."""
        self._ray_starts = asyncio.Lock()

    @property
    def processes(self) -> list[DriverProcess]:
        """Return the processes of the drivers at work."""
        return [driver.process for driver in self.at_work.values()]

    async def send(self, message: messages.Message, experiment: str | None = None) -> None:
        """Send a message to the driver of an experiment, or to all drivers at work; to those that are there."""
        for name, driver in list(self.at_work.items()):
            if experiment in (None, name):
                await driver.process.send(message)

    async def begin_anew(self, experiment: str, reason: str) -> None:
        """Let the driver of an experiment save its trials and end; the next one follows at once."""
        driver = self.at_work.get(experiment)
        if driver is not None:
            driver.begins_anew = True
            await driver.process.send(messages.Finish(reason))

    async def kill(self, experiment: str | None = None) -> None:
        """Kill the driver of an experiment, or all drivers at work."""
        found = [driver for name, driver in self.at_work.items() if experiment in (None, name)]
        await asyncio.gather(*(driver.process.kill() for driver in found))

    async def run(self, state: ExperimentState) -> DriverEnd:
        """Run one driver of an experiment from its start to its end; start Ray first where it is down."""
        state.start()
        self._commands.begin_driver()
        # The last driver's trials, or a head that died, may have left processes outside of any group that was ended.
        ended = await asyncio.to_thread(orphans.end, self._home_key, orphans_only=True)
        if ended:
            self._writer.record("orphans.ended", processes=ended)
        try:
            async with self._ray_starts:
                if self._ray.head is None:
                    await self._start_ray()
            address = None if self._ray.head is None else self._ray.head.address
            driver = await self._ahead.take(state.name, address) or await self._spawned(state)
        except (RayStartFailed, OSError) as failure:
            return DriverEnd(False, None, str(failure))
        return await self._serve(state, driver)

    async def _spawned(self, state: ExperimentState) -> DriverProcess:
        """Return a new driver of an experiment. Raises OSError when it cannot start."""
        driver = self._new_driver(state.name)
        state.folder.mkdir(parents=True, exist_ok=True)
        await driver.spawn()
        return driver

    async def _serve(self, state: ExperimentState, process: DriverProcess) -> DriverEnd:
        head, countdown = self._ray.head, Countdown(state, self._clock, self._trial_seconds)
        driver = self.at_work[state.name] = DriverAtWork(process, countdown)
        self._writer.record("driver.started", experiment=state.name, pid=process.pid)
        session = DriverSession(
            process, state.name, self._writer, lambda message: self._handle(state, driver, message), self._reserve,
            self._stop,
        )  # fmt: skip
        try:
            begin = None if head is None or state.is_left_out() else self._begin(state, head.address)
            end = await session.run(begin, countdown)
        finally:
            del self.at_work[state.name]
            self._cluster.driver_gone(state.name)
            returncode = await session.reap()
        if end.error is not None and self._ray.head is not head:
            # The cluster died under the driver, so its error is not the experiment's.
            return DriverEnd(False, end.error, f"Ray ended: {end.error}", end.out_of_time)
        return replace(end, status=end.status or status_text(returncode), begins_anew=driver.begins_anew)

    def _begin(self, state: ExperimentState, ray_address: str) -> messages.Begin:
        spec, store = state.spec, self._writer.store
        return messages.Begin(
            run_id=self._writer.run_id,
            experiment=spec,
            trials=known_to_the_search(spec, queries.for_begin(store.connection, self._writer.run_id, state.name)),
            commands=[command.to_json() for command in self._commands.commands()],
            ray_address=ray_address,
            folder=str(state.folder),
            watchdog={**self.watchdog, **self._commands.for_watchdog()},
        )

    def _move_concurrency(self, state: ExperimentState, message: messages.ConcurrencyMoved) -> None:
        """Record that the driver moved the number of trials at once; a number that a person has set meanwhile stays."""
        if state.spec.get("auto_concurrency", True):
            self._writer.record(
                "experiment.concurrency_moved", experiment=state.name, trials=message.trials, before=message.before,
                reason=message.reason,
            )  # fmt: skip

    def _handle(self, state: ExperimentState, driver: DriverAtWork, message: messages.Message) -> bool:
        """Commit one message of a driver; return False for a refused one."""
        accepted = self._commit(state, driver, message)
        if isinstance(message, messages.TrialStarted | messages.ActionChanged):
            self._follows.look(state, self._commands.in_force())
        return accepted

    def _commit(self, state: ExperimentState, driver: DriverAtWork, message: messages.Message) -> bool:
        match message:
            case messages.Hello():
                state.started()
                self._commands.settle(state.name)
            case messages.WatchdogUp():
                self._cluster.watchdog_up(message)
                self._drills.watchdog_up(driver.process)
            case messages.Sampled():
                self._cluster.sampled(message, state.name)
            case messages.ActionChanged():
                self._commands.action_changed(message, state.name)
                self._settle_others(state.name)
            case messages.SensorNoted():
                self._cluster.noted(message)
            case messages.SearchEnded():
                self._writer.end_search(state.name, message)
            case messages.ConcurrencyMoved():
                self._move_concurrency(state, message)
            case messages.ResourcesCompared():
                driver.shortage = message.shortage
                if message.shortage is None:
                    self._writer.record("resources.found", experiment=state.name)
                else:
                    self._writer.record("resources.lacked", experiment=state.name, shortage=message.shortage)
            case messages.Heartbeat() | messages.ExperimentEnded():
                pass
            case _:
                return self._trials.handle(state.name, message)
        return True

    def _settle_others(self, experiment: str) -> None:
        """Pause or resume the other experiments at work: one governor holds the trials of all."""
        for name in self.at_work:
            if name != experiment:
                self._commands.settle(name)
