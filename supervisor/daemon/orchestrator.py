"""Works through a run: Ray head up, experiments in order, each by a driver of its own, until all have ended.

The only hands of the daemon on processes; what it may write is the ledger's, what it hears comes over the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.cluster import ClusterView, NodeView
from supervisor.daemon.commands_in_force import FORCE_S, CommandsInForce
from supervisor.daemon.driver_session import DriverEnd, DriverLife
from supervisor.daemon.evaluation import Examiner
from supervisor.daemon.experiment_state import ExperimentState
from supervisor.daemon.ray_session import RayFolder
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.domain import messages
from supervisor.domain.command import Command
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.errors import Conflict, DiskFailed, DiskFull, RayStartFailed
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.orphans import MARK
from supervisor.processes.ray_head import RayHead, status_text
from supervisor.store import queries
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

MAX_FRUITLESS_STARTS = 5
"""A driver that died this often in a row without committing a result makes its experiment FATAL."""
LONG_LIFE_S = 600.0
"""A driver that lived this long counts as fruitful: a pause of days brings no results either."""


class Orchestrator:
    """`conduct()` returns when the run has ended or is asked to stop."""

    def __init__(
        self,
        home: Home,
        ledger: RunWriter,
        clock: Clock,
        new_head: Callable[[], RayHead],
        new_driver: Callable[[str], DriverProcess],
        skip_reason: Callable[[dict[str, Any]], str | None],
        watchdog: dict[str, Any],
        room: DiskReserve | None = None,
    ) -> None:
        self.home, self.ledger, self.clock = home, ledger, clock
        self._new_head, self._new_driver, self._skip_reason = new_head, new_driver, skip_reason
        self._watchdog, self._room = watchdog, room
        self._answers = EvaluationWriter(ledger.store, ledger.run_id)
        self._examiner = Examiner(self._answers, {MARK: home.key})
        self.head: RayHead | None = None
        self._head_watch: asyncio.Task[None] | None = None
        self._folder_watch: asyncio.Task[None] | None = None
        self.driver: DriverProcess | None = None
        self.current: str | None = None
        """The experiment that the driver works on."""
        self._cluster = ClusterView(ledger, clock)
        self._holds = CommandsInForce(ledger, clock, self._cluster)
        self._drill: messages.DrillAsked | None = None
        """A drill that no watchdog plays yet."""
        self._drill_task: asyncio.Task[None] | None = None
        self.stop = StopRequest()

    @property
    def nodes(self) -> dict[str, NodeView]:
        return self._cluster.nodes

    # Asked by the API

    def in_force(self) -> Command:
        """What holds for the run as a whole."""
        return self._holds.in_force()

    async def commands_changed(self) -> None:
        """The store's operator commands go to the driver, and the experiment's state follows."""
        if self.driver is not None:
            await self.driver.send(messages.Commanded([command.to_json() for command in self._holds.commands()]))
        self._holds.settle(self.current)

    def full_disks(self) -> list[Command]:
        """The pauses for a full disk, but for that of the daemon's own state, which it looks at itself."""
        return self._holds.full_disks("ray")

    async def hold_for_disk(self, reason: str | None, disk: str = "state") -> None:
        """The daemon's own pause, while that disk is full; None lifts it."""
        self._holds.for_disk(disk, reason)
        await self.commands_changed()

    async def force(self, node: str | None, who: str) -> None:
        """Lift the governor's command for an operator (CommandsInForce.force). Raises Conflict without one."""
        if self._holds.force(node, who) and self.driver is not None:
            await self.driver.send(messages.ForceAsked(node, FORCE_S))

    async def drill(self, name: str, duration_s: float, node: str | None) -> bool:
        """False when it waits for the next driver's watchdog: none is there to play it now. A later one replaces it.

        Raises Conflict when there will be no other driver.
        """
        if self.stop.asked() or not self._experiments_left():
            raise Conflict("the run is ending, so there is no watchdog to drill")
        self._drill = messages.DrillAsked(name, duration_s, node)
        if self.driver is None or not self._cluster.watched:
            return False
        await self._play_drill(self.driver)
        return True

    async def _play_drill(self, driver: DriverProcess) -> None:
        asked, self._drill = self._drill, None
        if asked is None:
            return
        self.ledger.record("drill.started", name=asked.name, duration_s=asked.duration_s, node=asked.node, drill=True)
        await driver.send(asked)

    async def kill(self) -> None:
        """Ends every process of the run at once: what was asked to end has not."""
        if self.driver is not None:
            await self.driver.kill()
        await asyncio.to_thread(orphans.end, self.home.key, grace_s=0.0)

    # The run

    async def start_ray(self) -> None:
        """Raises RayStartFailed."""
        head = self._new_head()
        try:
            await head.start()
        except asyncio.CancelledError:
            await head.stop()
            raise
        self.head = head
        self.nodes.clear()
        self._holds.widen_node_commands()
        self.ledger.record("ray.started", address=head.address, dashboard=head.dashboard, pid=head.pid)
        self._head_watch = asyncio.create_task(self._watch_head(head))
        self._folder_watch = asyncio.create_task(self._watch_folder(head))

    async def conduct(self) -> None:
        try:
            for name in self._experiments_left():
                if self.stop.asked():
                    return
                await self._conduct_experiment(ExperimentState(name, self.ledger, self.clock, self.home))
        finally:
            try:
                self._cluster.close()
            finally:
                await self._end_ray()

    def _experiments_left(self) -> list[str]:
        rows = self.ledger.store.rows(
            "SELECT name, state FROM experiment WHERE run = ? ORDER BY ordinal", self.ledger.run_id
        )
        return [row["name"] for row in rows if ProcessState(row["state"]) not in ENDED]

    async def _conduct_experiment(self, course: ExperimentState) -> None:
        reason = self._skip_reason(course.spec)
        if reason is not None:
            course.skip(reason)
            return
        self._answers.warm(course.name, course.spec)
        if not await self._drive_to_its_end(course):
            course.stop(self.stop.reason)

    async def _drive_to_its_end(self, course: ExperimentState) -> bool:
        """Driver after driver, until the experiment has ended; False when the run is to stop before."""
        fruitless = 0
        while True:
            before, begun_s = course.progress(), self.clock.mono_s()
            end = await self._drive(course)
            if end.ended or end.out_of_time:
                if end.error is None and not await self._examiner.examine(course.name, course.folder, self.stop):
                    return False
                course.end(end.error)
                return True
            if self.stop.asked():
                return False
            lived = self.clock.mono_s() - begun_s >= LONG_LIFE_S
            if self._holds.stop is not None:
                fruitless = 0
                await self._wait_for_an_operator(course, self._holds.stop)
            else:
                # Neither a driver nor Ray gets far on a full disk: that is no fault of the experiment's.
                starved = self._room is not None and self._room.full
                fruitless = 0 if lived or starved or course.progress() > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_STARTS:
                    self._give_up(course, fruitless, end.status)
                    return True
                await self.stop.within(course.back_off(fruitless, end.status))
                if self._room is not None and starved:
                    await self._room.wait(self.stop)
            if self.stop.asked():
                return False

    def _give_up(self, course: ExperimentState, fruitless: int, status: str) -> None:
        if self.head is None:
            # No experiment's fault, so none is given up: the run waits for a person.
            raise RayStartFailed(status)
        course.fail(f"its driver died {fruitless} times in a row ({status}); see {course.folder / 'driver.log'}")

    async def _wait_for_an_operator(self, course: ExperimentState, stop: Command) -> None:
        """After the governor's STOP: what is too hot in spite of a pause is not to be tried again by itself."""
        self._holds.let_go.clear()
        course.await_operator(stop.reason, stop.drill)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._holds.let_go, self.stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    # One driver

    async def _drive(self, course: ExperimentState) -> DriverEnd:
        course.start()
        # One that an experiment's last driver heard as it ended: if it holds, the node's governor still knows (its
        # memory), and this driver's death must not be taken for its work.
        self._holds.stop = None
        await self._sweep()
        driver = self._new_driver(course.name)
        try:
            if self.head is None:
                await self.start_ray()
            course.folder.mkdir(parents=True, exist_ok=True)
            await driver.spawn()
        except (RayStartFailed, OSError) as failure:
            return DriverEnd(False, None, str(failure))
        head = self.head
        self.driver, self.current = driver, course.name
        self.ledger.record("driver.started", experiment=course.name, pid=driver.pid)
        life = DriverLife(
            driver, course.name, self.ledger, lambda message: self._hear(course, message), self._room, self.stop
        )
        try:
            begin = None if head is None else self._begin(course, head.address)
            end = await life.live(begin, course.seconds_left())
        finally:
            self.driver = self.current = None
            self._cluster.driver_gone()
            returncode = await life.reap()
        if end.error is not None and self.head is not head:
            # What a driver says of a cluster that died under it is no verdict on the experiment.
            return DriverEnd(False, end.error, f"Ray ended: {end.error}", end.out_of_time)
        return DriverEnd(end.ended, end.error, end.status or status_text(returncode), end.out_of_time)

    def _begin(self, course: ExperimentState, ray_address: str) -> messages.Begin:
        return messages.Begin(
            run_id=self.ledger.run_id,
            experiment=course.spec,
            trials=queries.for_begin(self.ledger.store.connection, self.ledger.run_id, course.name),
            commands=[command.to_json() for command in self._holds.commands()],
            ray_address=ray_address,
            folder=str(course.folder),
            watchdog={**self._watchdog, **self._holds.forced_once()},
        )

    def _hear(self, course: ExperimentState, message: messages.Message) -> bool:
        """False for what the ledger refused."""
        match message:
            case messages.Hello():
                self.ledger.move_experiment(
                    course.name, ProcessState.RUNNING, "experiment.started", max_trials=course.spec["max_trials"]
                )
                self._holds.settle(self.current)
            case messages.WatchdogUp():
                self._cluster.watchdog_up(message)
                if self._drill is not None and self.driver is not None:
                    self._drill_task = asyncio.create_task(self._play_drill(self.driver))
            case messages.Sampled():
                self._cluster.sampled(message)
            case messages.ActionChanged():
                self._holds.action_changed(message, self.current)
            case messages.SensorNoted():
                self._cluster.noted(message)
            case messages.Heartbeat() | messages.ExperimentEnded():
                pass
            case _:
                return self.ledger.handle(course.name, message)
        return True

    async def _sweep(self) -> None:
        """What the last driver's trials left behind, or a head that died: no process group reaches it."""
        ended = await asyncio.to_thread(orphans.end, self.home.key, orphans_only=True)
        if ended:
            self.ledger.record("orphans.ended", processes=ended)

    # Ray

    async def _watch_head(self, head: RayHead) -> None:
        status = await head.exited()
        self.head = None
        try:
            self.ledger.record("ray.exited", status=status_text(status))
        except (DiskFull, DiskFailed) as error:
            # Untold, but not undone: a driver without its head would hang.
            log.error("Ray ended with %s, which cannot be told: %s", status_text(status), error)  # noqa: TRY400
        if self._folder_watch is not None:
            self._folder_watch.cancel()
        await head.stop()
        if self.driver is not None:
            await self.driver.kill()

    async def _watch_folder(self, head: RayHead) -> None:
        hold = functools.partial(self.hold_for_disk, disk="ray")
        lost = await RayFolder(self.home.ray_temp, self.ledger, self.clock, hold).watch()
        with contextlib.suppress(DiskFull, DiskFailed):
            self.ledger.record("ray.session_lost", path=str(lost))
        await head.stop()

    async def _end_ray(self) -> None:
        for watch in (self._head_watch, self._folder_watch):
            if watch is not None:
                watch.cancel()
        if self.head is not None:
            await self.head.stop()
            self.head = None
            # Ray's workers lead groups of their own, which the head's end does not reach.
            await asyncio.to_thread(orphans.end, self.home.key)
