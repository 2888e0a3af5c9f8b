"""Runs one experiment to its end: one driver after another, with back-off between them, then its evaluation."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class _Before:
    """Holds the progress, the planned trials and those set aside of an experiment when its driver began."""

    progress: int
    planned: int
    set_aside: int


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
        """Run an experiment until it has ended, is left out, or the run is asked to stop. Raises RayStartFailed."""
        try:
            await self._run(state)
        finally:
            await self._evaluator.end_ahead()

    async def _run(self, state: ExperimentState) -> None:
        fruitless = 0
        while not self._stop.asked() and not state.is_left_out():
            before, begun_s = _Before(state.progress(), state.planned, state.set_aside), self._clock.mono_s()
            end = await self._drivers.run(state)
            if state.is_left_out():
                break
            if end.ended or end.out_of_time:
                if await self._has_ended(state, end, before):
                    return
                continue
            if self._stop.asked():
                break
            if end.begins_anew and state.has_begun and self._commands.governors_stop is None:
                state.begin_anew()
            elif self._commands.governors_stop is not None:
                fruitless = 0
                # It was too hot in spite of a pause, so no driver starts until a person has looked at the machine.
                state.await_operator(self._commands.governors_stop)
                await self._commands.wait_for_force(self._stop)
            else:
                if end.trial is not None:
                    state.blame(end.trial, end.status)
                fruitless = 0 if self._got_far(state, before.progress, begun_s) else fruitless + 1
                if fruitless >= MAX_FRUITLESS_STARTS:
                    self._give_up(state, fruitless, end)
                    return
                await self._back_off(state, fruitless, end)
        if state.is_left_out():
            state.leave_out()
        else:
            state.stop(self._stop.reason)

    async def _has_ended(self, state: ExperimentState, end: DriverEnd, before: _Before) -> bool:
        """End an experiment with its evaluation; return False if more is to do, it is left out, or the run stops."""
        if self._has_more_to_do(state, end, before):
            return False
        if end.error is None and not await self._evaluator.evaluate(state.name, state.folder, self._stop):
            return False
        if self._has_more_to_do(state, end, before):
            return False
        state.end(end.error, out_of_time=end.out_of_time)
        return True

    def _has_more_to_do(self, state: ExperimentState, end: DriverEnd, before: _Before) -> bool:
        """Return whether trials wait that a person asked for after the driver had begun: the next driver takes them.

        `before` is as the driver began. A driver that left trials without any progress is not followed by another one.
        """
        if end.error is not None or end.out_of_time:
            return False
        if state.set_aside > before.set_aside or (state.planned > before.planned and state.search_goes_on):
            return True
        return state.progress() > before.progress and state.trials_wait

    def _got_far(self, state: ExperimentState, before: int, begun_s: float) -> bool:
        """Return whether the driver that died had made progress since it began, or is excused."""
        # Neither a driver nor Ray gets far on a full disk: that is not the experiment's fault.
        excused = self._reserve.full or self._clock.mono_s() - begun_s >= LONG_LIFE_S
        return excused or state.progress() > before

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
