"""Works through a run: Ray head up, experiments in order, each by a driver of its own, until all have ended.

The only hands of the daemon on processes; what it may write is the ledger's, what it hears comes over the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from supervisor import failpoints, leftovers, link, snapshot
from supervisor.answer_ledger import AnswerLedger
from supervisor.clock import Clock
from supervisor.cluster_view import ClusterView, NodeView
from supervisor.command import ALL_NODES, Command, Origin, Rung, strictest, trial_scope
from supervisor.disk_room import DiskRoom
from supervisor.driver_process import DriverProcess, DriverSilentError
from supervisor.errors import Conflict, DiskFailed, DiskFull, RayStartFailed
from supervisor.examiner import Examiner
from supervisor.home import Home
from supervisor.ledger import Ledger
from supervisor.leftovers import MARK
from supervisor.lifecycle import ENDED, ProcessState
from supervisor.ray_head import RayHead, status_text

log = logging.getLogger("supervisor")

MAX_FRUITLESS_STARTS = 5
"""A driver that died this often in a row without committing a result makes its experiment FATAL."""
LONG_LIFE_S = 600.0
"""A driver that lived this long counts as fruitful: a pause of days brings no results either."""
BACKOFF_BASE_S, BACKOFF_CAP_S = 1.0, 60.0
MAX_HOURS_REACHED = "max_hours reached"
FORCE_S = 600.0
"""How long an operator's `resume --force` overrules the governor; a critical reading pauses all the same."""


class Conductor:
    """`conduct()` returns when the run has ended or `stop_asked` is set."""

    def __init__(
        self,
        home: Home,
        ledger: Ledger,
        clock: Clock,
        new_head: Callable[[], RayHead],
        new_driver: Callable[[str], DriverProcess],
        skip_reason: Callable[[dict[str, Any]], str | None],
        watchdog: dict[str, Any],
        room: DiskRoom | None = None,
    ) -> None:
        self.home, self.ledger, self.clock = home, ledger, clock
        self._new_head, self._new_driver, self._skip_reason = new_head, new_driver, skip_reason
        self._watchdog, self._room = watchdog, room
        self._disk_full: Command | None = None
        self._answers = AnswerLedger(ledger.store, ledger.run_id)
        self._examiner = Examiner(self._answers, {MARK: home.key})
        self.head: RayHead | None = None
        self._head_watch: asyncio.Task[None] | None = None
        self.driver: DriverProcess | None = None
        self.current: str | None = None
        self._cluster = ClusterView(ledger, clock)
        self.stop_asked = asyncio.Event()
        self.stop_reason = ""
        self._out_of_time = False
        self._stop: Command | None = None
        """The governor's STOP that ended a driver; only an operator goes on from it."""
        self._let_go = asyncio.Event()
        self._forced = False
        self._paused_by_drill = False

    @property
    def nodes(self) -> dict[str, NodeView]:
        return self._cluster.nodes

    # Asked by the API

    async def commands_changed(self) -> None:
        """The store's operator commands go to the driver, and the experiment's state follows."""
        if self.driver is not None:
            await self.driver.send(link.Commanded([command.to_json() for command in self._commands()]))
        self._settle_pause()

    async def hold_for_disk(self, reason: str | None) -> None:
        """The daemon's own pause, while its disk is full; None lifts it."""
        since = self.clock.wall_s()
        self._disk_full = None if reason is None else Command(Rung.PAUSE, Origin.GOVERNOR, reason, since_wall=since)
        await self.commands_changed()

    def _commands(self) -> list[Command]:
        """What the driver has to obey beside its nodes' governors."""
        return [*self.ledger.commands(), *([self._disk_full] if self._disk_full else [])]

    async def force(self, node: str | None, who: str) -> None:
        """The operator's word against the governor's, for FORCE_S. Raises Conflict when it restrains nothing."""
        strict = self._stop or self._cluster.governors(node)
        if strict.rung < Rung.PAUSE:
            raise Conflict("the governor pauses nothing", remedy="`supervisorctl resume` lifts the operator's pauses")
        self.ledger.tell(
            "governor.forced", who=who, for_s=FORCE_S, node=node, rung=strict.rung.name, reason=strict.reason
        )
        if self.driver is not None and self._stop is None:
            await self.driver.send(link.ForceAsked(node, FORCE_S))
        self._forced, self._stop = self._stop is not None, None
        self._let_go.set()

    async def drill(self, name: str, duration_s: float, node: str | None) -> bool:
        """False when no driver is there to pass it on."""
        if self.driver is None:
            return False
        self.ledger.tell("drill.started", name=name, duration_s=duration_s, node=node, drill=True)
        await self.driver.send(link.DrillAsked(name, duration_s, node))
        return True

    def ask_stop(self, reason: str) -> None:
        self.stop_reason = reason
        self.stop_asked.set()

    # The run

    async def start_ray(self) -> None:
        """Raises RayStartFailed."""
        head = self._new_head()
        await head.start()
        self.head = head
        # Another cluster has other nodes. A pause of one that is gone is taken to mean all: its machine may be any.
        self.nodes.clear()
        self._widen_node_commands()
        self.ledger.tell("ray.started", address=head.address, dashboard=head.dashboard, pid=head.pid)
        self._head_watch = asyncio.create_task(self._watch_head(head))

    async def conduct(self) -> None:
        try:
            for name in self._experiments_left():
                if self.stop_asked.is_set():
                    return
                await self._conduct_experiment(name)
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

    def spec_of(self, name: str) -> dict[str, Any]:
        row = self.ledger.store.row("SELECT spec FROM experiment WHERE run = ? AND name = ?", self.ledger.run_id, name)
        assert row is not None
        spec: dict[str, Any] = json.loads(row["spec"])
        return spec

    async def _conduct_experiment(self, name: str) -> None:
        reason = self._skip_reason(self.spec_of(name))
        if reason is not None:
            self.ledger.move_experiment(name, ProcessState.SKIPPED, "experiment.skipped", reason)
            return
        self._answers.warm(name, self.spec_of(name))
        fruitless = 0
        while True:
            before, begun_s = self._progress(name), self.clock.mono_s()
            ended, error, status = await self._drive(name)
            if ended or self._out_of_time:
                if error is None and not await self._examiner.examine(name, self._folder(name), self.stop_asked):
                    self._stop_experiment(name)
                    return
                self._end_experiment(name, error)
                return
            if self.stop_asked.is_set():
                self._stop_experiment(name)
                return
            lived = self.clock.mono_s() - begun_s >= LONG_LIFE_S
            if self._stop is not None:
                fruitless = 0
                await self._wait_for_an_operator(name, self._stop)
                if self.stop_asked.is_set():
                    self._stop_experiment(name)
                    return
                continue
            fruitless = 0 if lived or self._progress(name) > before else fruitless + 1
            if fruitless >= MAX_FRUITLESS_STARTS and self.head is None:
                # No experiment's fault, so none is given up: the run waits for a person.
                raise RayStartFailed(status)
            if fruitless >= MAX_FRUITLESS_STARTS:
                text = f"its driver died {fruitless} times in a row ({status}); see {self._folder(name) / 'driver.log'}"
                self._fail_experiment(name, text)
                return
            await self._back_off(name, fruitless, status)
            if self.stop_asked.is_set():
                self._stop_experiment(name)
                return

    def _progress(self, name: str) -> int:
        """Results and ended trials: both only ever grow."""
        row = self.ledger.store.row(
            "SELECT (SELECT count(*) FROM result WHERE run = ?1 AND experiment = ?2)"
            " + (SELECT count(*) FROM trial WHERE run = ?1 AND experiment = ?2 AND end_reason IS NOT NULL) AS n",
            self.ledger.run_id, name,
        )  # fmt: skip
        assert row is not None
        return int(row["n"])

    async def _back_off(self, name: str, fruitless: int, status: str) -> None:
        """Exponential with full jitter and a cap (Brooker, "Exponential Backoff And Jitter", 2015)."""
        wait_s = round(random.uniform(0.1, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**fruitless)), 2)
        self.ledger.requeue_live_trials(name, "driver_died")
        self.ledger.move_experiment(
            name, ProcessState.BACKOFF, "driver.exited", status,
            status=status, retry_in_s=wait_s, log=str(self._folder(name) / "driver.log"),
        )  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop_asked.wait(), wait_s)

    async def _wait_for_an_operator(self, name: str, stop: Command) -> None:
        """After the governor's STOP: what is too hot in spite of a pause is not to be tried again by itself."""
        self._let_go.clear()
        self.ledger.requeue_live_trials(name, "stopped by the governor")
        text = f"STOP by the governor: {stop.reason}; `supervisorctl resume --force` goes on"
        self.ledger.move_experiment(name, ProcessState.BACKOFF, "experiment.paused", text, drill=stop.drill)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._let_go, self.stop_asked)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    # One driver

    async def _drive(self, name: str) -> tuple[bool, str | None, str]:
        """One driver's life: (did it end the experiment, with what error, how did the process end)."""
        self.ledger.move_experiment(name, ProcessState.STARTING)
        self._out_of_time = False
        driver = self._new_driver(name)
        try:
            if self.head is None:
                await self.start_ray()
            self._folder(name).mkdir(parents=True, exist_ok=True)
            await driver.spawn()
        except (RayStartFailed, OSError) as failure:
            return False, None, str(failure)
        head = self.head
        self.driver, self.current = driver, name
        self.ledger.tell("driver.started", experiment=name, pid=driver.pid)
        stopper = asyncio.create_task(self._finish_when_asked(driver, self._seconds_left(name)))
        ended, error, status = False, None, ""
        try:
            # A head that died while the driver was spawned has nobody else to end this driver.
            await (driver.kill() if head is None else driver.send(self._begin(name, head.address)))
            async for message, number in driver.messages():
                if isinstance(message, link.ExperimentEnded):
                    ended, error = message.final or message.error is None, message.error
                    status = "" if ended else f"it stumbled: {message.error}"
                await self._listen(name, message)
                if number is not None:
                    failpoints.hit("ack.send")
                    await driver.send(link.Ack(number))
        except DriverSilentError as silence:
            status = str(silence)
            self.ledger.tell("driver.hung", experiment=name, silent_s=float(status.split()[0]))
            await driver.kill()
        except link.LinkError as broken:
            status = f"broke the link: {broken}"
            await driver.kill()
        except (DiskFull, DiskFailed):
            # What it has to say cannot be kept; the next one begins from what was.
            await driver.kill()
            raise
        finally:
            stopper.cancel()
            self.driver = self.current = None
            self._cluster.driver_gone()
            returncode = await self._reap(driver)
        if error is not None and self.head is not head:
            # What a driver says of a cluster that died under it is no verdict on the experiment.
            ended, status = False, f"Ray ended: {error}"
        return ended, error, status or status_text(returncode)

    async def _reap(self, driver: DriverProcess) -> int:
        """Its pipe is closed: it has ended or is about to; its group goes with it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(driver.exited(), 10.0)
        await driver.kill()
        return await driver.exited()

    async def _finish_when_asked(self, driver: DriverProcess, seconds_left: float | None) -> None:
        """Ends the driver when the run is to stop, or when its experiment's `max_hours` are over."""
        try:
            await asyncio.wait_for(self.stop_asked.wait(), seconds_left)
        except TimeoutError:
            self._out_of_time = True
        await driver.finish(self.stop_reason or MAX_HOURS_REACHED)

    def _seconds_left(self, name: str) -> float | None:
        """Of the experiment's `max_hours`, which count while a driver is alive; None without such a limit."""
        max_hours: float | None = self.spec_of(name)["max_hours"]
        if max_hours is None:
            return None
        events = self.ledger.store.rows(
            "SELECT name, wall FROM event WHERE run = ? AND (experiment = ? OR name LIKE 'daemon.%') ORDER BY seq",
            self.ledger.run_id, name,
        )  # fmt: skip
        spent_s = driven_seconds([(row["name"], row["wall"]) for row in events])
        return max(0.0, max_hours * 3600.0 - spent_s)

    def _begin(self, name: str, ray_address: str) -> link.Begin:
        return link.Begin(
            run_id=self.ledger.run_id,
            experiment=self.spec_of(name),
            trials=snapshot.for_begin(self.ledger.store.connection, self.ledger.run_id, name),
            commands=[command.to_json() for command in self._commands()],
            ray_address=ray_address,
            folder=str(self._folder(name)),
            watchdog={**self._watchdog, **self._force_once()},
        )

    def _force_once(self) -> dict[str, Any]:
        """A watchdog that is asked by the next driver must not stop that too, before it can be told."""
        forced, self._forced = self._forced, False
        return {"forced_s": FORCE_S} if forced else {}

    def _folder(self, name: str) -> Path:
        return self.home.run_folder(self.ledger.run_id) / name

    async def _listen(self, name: str, message: link.Message) -> None:
        """Raises LinkError for what makes no sense: a driver's nonsense ends the driver, not the daemon.

        On a full disk it waits: the message is neither committed nor acknowledged, so it is not lost.
        """
        try:
            while True:
                try:
                    return self._hear(name, message)
                except DiskFull:
                    if self._room is None:
                        raise
                    self._room.give_up()
                    if not await self._room.wait(self.stop_asked):
                        raise
        except (ValueError, KeyError, TypeError) as error:
            log.exception("the driver of %s sent nonsense: %r", name, message)
            raise link.LinkError(f"{type(message).__name__}: {error}") from error

    def _hear(self, name: str, message: link.Message) -> None:
        match message:
            case link.Hello():
                self.ledger.move_experiment(
                    name, ProcessState.RUNNING, "experiment.started", max_trials=self.spec_of(name)["max_trials"]
                )
                self._settle_pause()
            case link.WatchdogUp():
                self._cluster.watchdog_up(message)
            case link.Sampled():
                self._cluster.sampled(message)
            case link.RungChanged():
                self._rung_changed(message)
            case link.SensorNoted():
                self._cluster.noted(message)
            case link.Heartbeat() | link.ExperimentEnded():
                pass
            case link.TrialEnded():
                self.ledger.hear(name, message)
                self.ledger.drop_command(trial_scope(name, message.number), "the end of the trial")
            case _:
                self.ledger.hear(name, message)

    # Hardware

    def _rung_changed(self, message: link.RungChanged) -> None:
        self._cluster.rung_changed(message)
        command = self.in_force()
        if command.rung is Rung.STOP and command.origin is Origin.GOVERNOR:
            self._stop = command
        self._settle_pause()

    def in_force(self) -> Command:
        """What holds for the run as a whole."""
        return self._cluster.in_force(self._commands())

    def _settle_pause(self) -> None:
        """The experiment's state follows the strictest command: any pause of the operator's, or a governor's PAUSE."""
        if self.current is None:
            return
        state = self.ledger.experiment_state(self.current)
        command = self.in_force()
        paused = command.rung >= Rung.PAUSE or (command.origin is Origin.OPERATOR and command.rung >= Rung.HOLD)
        if paused and state is ProcessState.RUNNING:
            self._paused_by_drill = command.drill
            self.ledger.move_experiment(
                self.current, ProcessState.PAUSED, "experiment.paused", command.reason, drill=command.drill
            )
        elif not paused and state is ProcessState.PAUSED:
            self.ledger.move_experiment(
                self.current, ProcessState.RUNNING, "experiment.resumed", drill=self._paused_by_drill
            )

    # Ends

    def _end_experiment(self, name: str, error: str | None) -> None:
        self.ledger.end_unfinished_trials(name, MAX_HOURS_REACHED if error is None else error)
        trials = snapshot.trials_of(self.ledger.store.connection, self.ledger.run_id, name)
        best = snapshot.best_trial(trials, self.spec_of(name)["mode"])
        if error is None and best is None:
            first = next((t["error"] or t["end_reason"] for t in trials if t["end_reason"]), "no trial was started")
            error = f"no trial of {len(trials)} left a value; the first: {first}"
        if error is not None:
            self._fail_experiment(name, error)
            return
        assert best is not None
        self.ledger.move_experiment(
            name, ProcessState.EXITED, "experiment.finished", best=best["value"], best_trial=best["number"],
            trials=len(trials), seconds=self._seconds(name),
        )  # fmt: skip

    def _fail_experiment(self, name: str, error: str) -> None:
        self.ledger.requeue_live_trials(name, "experiment_failed")
        self.ledger.move_experiment(
            name, ProcessState.FATAL, "experiment.failed", in_a_line(error), error=error, seconds=self._seconds(name)
        )

    def _stop_experiment(self, name: str) -> None:
        self.ledger.requeue_live_trials(name, "stopped")
        self.ledger.move_experiment(name, ProcessState.STOPPING)
        self.ledger.move_experiment(name, ProcessState.STOPPED, "experiment.stopped", self.stop_reason)

    def _seconds(self, name: str) -> float:
        row = self.ledger.store.row(
            "SELECT started_wall FROM experiment WHERE run = ? AND name = ?", self.ledger.run_id, name
        )
        assert row is not None
        return round(self.clock.wall_s() - (row["started_wall"] or self.clock.wall_s()), 1)

    def _widen_node_commands(self) -> None:
        commands = self.ledger.commands()
        for command in commands:
            if command.scope != ALL_NODES and command.trial is None:
                self.ledger.drop_command(command.scope, "the end of the cluster that had this node")
                wider = replace(command, scope=ALL_NODES)
                earlier = [other for other in self.ledger.commands() if other.scope == ALL_NODES]
                self.ledger.put_command(strictest([wider, *earlier]), "its node has a new id")

    async def _watch_head(self, head: RayHead) -> None:
        status = await head.exited()
        self.ledger.tell("ray.exited", status=status_text(status))
        self.head = None
        await head.stop()
        if self.driver is not None:
            await self.driver.kill()

    async def _end_ray(self) -> None:
        if self._head_watch is not None:
            self._head_watch.cancel()
        if self.head is not None:
            await self.head.stop()
            self.head = None
            # Ray's workers lead groups of their own, which the head's end does not reach.
            await asyncio.to_thread(leftovers.end, self.home.key)


def in_a_line(error: str) -> str:
    """The last line that says something: of a traceback, the exception itself."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else error


def driven_seconds(events: Iterable[tuple[str, float]]) -> float:
    """Seconds during which a driver was alive, from (name, wall time) of one experiment's events, in order.

    A driver whose end nobody saw counts up to the last event before the next one's start.
    """
    total, begun, last = 0.0, None, 0.0
    for name, wall_s in events:
        if name in ("driver.started", "daemon.started") and begun is not None:
            total, begun = total + max(0.0, last - begun), None
        if name == "driver.started":
            begun = wall_s
        last = wall_s
    return total + (max(0.0, last - begun) if begun is not None else 0.0)
