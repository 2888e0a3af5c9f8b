"""Runs the experiments of a run one after another, and knows which come next and which a person leaves out."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.experiments import experiment_hours
from supervisor.daemon.experiments.experiment_hours import TrialSeconds
from supervisor.daemon.experiments.experiment_runner import ExperimentRunner
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.stop_request import StopRequest
from supervisor.domain.experiment_order import in_order
from supervisor.home import Home
from supervisor.preflight.concurrency import Choice
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter


class RunOrder:
    """Begins each experiment that has not ended, in order. `at_work` has begun and not ended: also between drivers."""

    def __init__(
        self,
        home: Home,
        writer: RunWriter,
        clock: Clock,
        stop: StopRequest,
        experiments: ExperimentRunner,
        skip_reason: Callable[[dict[str, Any]], str | None],
        choose_share: Callable[[dict[str, Any]], Coroutine[Any, Any, Choice | None]],
        trial_seconds: TrialSeconds,
    ) -> None:
        self._home, self._writer, self._clock, self._stop = home, writer, clock, stop
        self._experiments, self._skip_reason = experiments, skip_reason
        self._choose_share, self._trial_seconds = choose_share, trial_seconds
        self.at_work: str | None = None

    def left(self) -> list[str]:
        """Return the experiments that have not ended, in order."""
        return in_order(lookups.waiting(self._writer.store, self._writer.run_id))

    def leave_out(self) -> None:
        """Move the experiments that a person leaves out to SKIPPED; the one at work is moved by its runner."""
        for name in self.left():
            state = self._state(name)
            if name != self.at_work and state.is_left_out():
                state.leave_out()

    async def run(self) -> None:
        """Run experiments until all have ended, or the run is asked to stop."""
        while not self._stop.asked():
            self.leave_out()
            # Looked up each time: a person may ask for another try of an experiment that has ended.
            left = self.left()
            if not left:
                return
            self.at_work = left[0]
            try:
                await self._run_one(self._state(left[0]))
            finally:
                self.at_work = None

    def _state(self, name: str) -> ExperimentState:
        return ExperimentState(name, self._writer, self._clock, self._home)

    async def _run_one(self, state: ExperimentState) -> None:
        reason = self._skip_reason(state.spec)
        if reason is None:
            experiment_hours.pass_on(self._writer, state.name)
            reason = experiment_hours.narrow(self._writer, state.name, self._trial_seconds)
        if reason is not None:
            state.skip(reason)
            return
        state.warm()
        choosing = await self._stop.unless_asked(self._choose_share(state.spec))
        if choosing is None or self._stop.asked():
            # It has not begun, so there is nothing to stop: the next start chooses again.
            return
        choice = choosing.result()
        if choice is not None:
            state.choose_resources(choice)
        await self._experiments.run(state)
