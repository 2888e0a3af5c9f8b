"""Runs one experiment to its end: one driver after another, with back-off between them, then its evaluation."""

from __future__ import annotations

from supervisor.clock import Clock
from supervisor.daemon.commands_in_force import CommandsInForce
from supervisor.daemon.experiments.driver_runner import DriverRunner
from supervisor.daemon.experiments.driver_session import DriverEnd
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.experiments.ray_session import RaySession
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.errors import RayStartFailed

MAX_FRUITLESS_STARTS = 5
"""An experiment fails when so many of its drivers in a row died without committing a result."""
LONG_LIFE_S = 600.0
"""A driver that lived so long is not fruitless: a pause of days brings no results either."""


class ExperimentRunner:
    """Runs the experiments that it is given, one after another."""

    def __init__(
        self,
        drivers: DriverRunner,
        ray: RaySession,
        commands: CommandsInForce,
        evaluator: Evaluator,
        clock: Clock,
        reserve: DiskReserve,
        stop: StopRequest,
    ) -> None:
        self._drivers, self._ray, self._commands, self._evaluator = drivers, ray, commands, evaluator
        self._clock, self._reserve, self._stop = clock, reserve, stop

    async def run(self, state: ExperimentState) -> None:
        """Run an experiment until it has ended or the run is asked to stop. Raises RayStartFailed."""
        fruitless = 0
        while not self._stop.asked():
            before, begun_s = state.progress(), self._clock.mono_s()
            end = await self._drivers.run(state)
            if end.ended or end.out_of_time:
                if self._has_more_to_do(state, end, before):
                    continue
                if end.error is None and not await self._evaluator.evaluate(state.name, state.folder, self._stop):
                    break
                if self._has_more_to_do(state, end, before):
                    continue
                state.end(end.error)
                return
            if self._stop.asked():
                break
            if self._commands.governors_stop is not None:
                fruitless = 0
                # It was too hot in spite of a pause, so no driver starts until a person has looked at the machine.
                state.await_operator(self._commands.governors_stop)
                await self._commands.wait_for_force(self._stop)
            else:
                if end.trial is not None:
                    state.blame(end.trial, end.status)
                # Neither a driver nor Ray gets far on a full disk: that is not the experiment's fault.
                excused = self._reserve.full or self._clock.mono_s() - begun_s >= LONG_LIFE_S
                fruitless = 0 if excused or state.progress() > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_STARTS:
                    self._give_up(state, fruitless, end)
                    return
                await self._back_off(state, fruitless, end)
        state.stop(self._stop.reason)

    def _has_more_to_do(self, state: ExperimentState, end: DriverEnd, before: int) -> bool:
        """Return whether trials wait that a person asked for after the driver had begun: the next driver takes them.

        `before` is the experiment's progress at the driver's begin. A driver that left trials without any progress
        is not followed by another one.
        """
        return end.error is None and not end.out_of_time and state.progress() > before and state.trials_wait()

    async def _back_off(self, state: ExperimentState, fruitless: int, end: DriverEnd) -> None:
        was_full = self._reserve.full
        await self._stop.within(state.back_off(fruitless, end.status))
        if was_full:
            await self._reserve.wait(self._stop)

    def _give_up(self, state: ExperimentState, fruitless: int, end: DriverEnd) -> None:
        if self._ray.head is None:
            # Not the experiment's fault: the run ends, and waits for a person.
            raise RayStartFailed(end.status)
        log = state.folder / "driver.log"
        state.fail(f"its driver died {fruitless} times in a row ({end.status}); see {log}")
