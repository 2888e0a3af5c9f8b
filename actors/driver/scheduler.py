"""HardwareAwareScheduler: wraps any Ray scheduler and starts no work that a command forbids.

Every decision of the wrapped scheduler is kept, except that a trial which may continue is answered NOOP while its node
is paused: it keeps its memory, and continues when the command is lifted. A pause that lasts, and SHED, take trials off
their workers; they resume from their checkpoints later, as new attempts. The wrapped scheduler does not see the trials
after the search, which are compared with one another on all their epochs, nor those that a person has extended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce
from actors.driver.loop_pace import LoopPace
from actors.driver.recorder import Recorder
from actors.driver.trial_registry import Entry, TrialRegistry, finite_or_none
from actors.driver.trials_at_once import TrialsAtOnce
from actors.trial.result_keys import LEFT, STEP
from supervisor.domain.command import Action

FINISH_WITHIN_S = 30.0


class Finished(BaseException):
    """The driver was asked to finish and its trials have stopped, or no trial reports the plan's metric.

    Not an Exception: Tune would catch it and take 15 s to stop actors that end with the driver anyway.
    """


@dataclass(frozen=True)
class SchedulerLimits:
    """`max_t` is the step at which a stop means finished, not pruned; None for no such step.

    `at_once` knows how many trials may run. `saves` says that a trial can be saved at the end of any step, so it may
    leave its worker there.
    """

    max_t: int | None
    at_once: TrialsAtOnce
    release_after_s: float
    saves: bool = False


@dataclass(frozen=True)
class _Held:
    """A trial that was answered NOOP. If it has `left` its work, it can only be released; SHED makes it leave."""

    trial: Trial
    since_mono_s: float
    left: bool
    shed: bool


class _Others:
    """Tune's controller as the wrapped scheduler sees it: without the trials that the operator holds."""

    def __init__(self, tune_controller: Any, left_out: Callable[[Trial], bool]) -> None:
        self._tune_controller, self._left_out = tune_controller, left_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tune_controller, name)

    def get_trials(self) -> list[Trial]:
        return [trial for trial in self._tune_controller.get_trials() if not self._left_out(trial)]

    def any_left_out(self) -> bool:
        return any(map(self._left_out, self._tune_controller.get_trials()))


class HardwareAwareScheduler(TrialScheduler):
    """Wraps `inner`; `leave(reason)` makes all trials leave their work."""

    _supports_buffered_results = False

    def __init__(
        self,
        inner: Any,
        registry: TrialRegistry,
        in_force: CommandsInForce,
        recorder: Recorder,
        limits: SchedulerLimits,
        leave: Callable[[str], object],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner = inner
        self._registry, self._in_force, self._recorder = registry, in_force, recorder
        self._limits, self._leave = limits, leave
        self._held: dict[str, _Held] = {}
        self._ended: dict[str, Trial] = {}
        """The trials that have ended and that Tune still has in its lists."""
        self._pace = LoopPace(in_force)
        self._replayed: set[str] = set()
        self._apart: set[str] = set()
        self._finish_by_mono_s: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A Trial holds an actor's handle, which cannot be pickled with Tune's configuration.
        return {**self.__dict__, "_held": {}, "_ended": {}}

    @property
    def metric(self) -> Any:
        return self.inner.metric

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self.inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._ended.pop(trial.trial_id, None)
        entry = self._registry.entry(trial.trial_id)
        self._registry.at_work = entry.number
        # Deaths under earlier drivers count, or a trial that kills its workers would never end.
        if entry.deaths:
            ray_private.add_failures(trial, entry.deaths)
            entry.deaths = 0
        if entry.extension is not None:
            # Its own end: the plan's would stop it at once.
            trial.stopping_criterion = {STEP: int(entry.extension["last_step"])}
        if entry.apart:
            self._apart.add(trial.trial_id)
            return
        self.inner.on_trial_add(tune_controller, trial)
        # A trial whose worker died is added again; its results are in the rungs already.
        earlier = [] if trial.trial_id in self._replayed else list(entry.results)
        self._replayed.add(trial.trial_id)
        for step, value in earlier:
            if value is not None:
                # Its earlier attempt survived these decisions, so they only fill the rungs.
                entry.judged_step = max(entry.judged_step, step)
                self.inner.on_trial_result(tune_controller, trial, {STEP: step, self._registry.metric: value})

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        entry = self._registry.entry(trial.trial_id)
        self._registry.at_work = entry.number
        if LEFT not in result and self._registry.look(trial.trial_id, result):
            return str(TrialScheduler.STOP)
        decision = str(self._decide(tune_controller, trial, result, entry))
        if decision == TrialScheduler.CONTINUE and self._in_force.search_end.ends(entry, result, self._registry.metric):
            entry.cut, entry.asked = True, entry.number in self._in_force.search_end.ending
            return str(TrialScheduler.STOP)
        left, shed = LEFT in result, self._is_one_too_many(entry)
        if decision == TrialScheduler.CONTINUE and (left or shed or self._must_wait(entry)):
            entry.reported = True
            self._held[trial.trial_id] = _Held(trial, time.monotonic(), left, shed)
            return str(TrialScheduler.NOOP)
        return decision

    def _decide(self, tune_controller: Any, trial: Trial, result: dict[str, Any], entry: Entry) -> str:
        # A NaN would spoil a rung's percentile; such a trial is judged when it ends.
        if entry.apart or finite_or_none(result.get(self._registry.metric)) is None:
            return str(TrialScheduler.CONTINUE)
        step, max_t = int(result[STEP]), self._limits.max_t
        if step <= entry.judged_step and (max_t is None or step < max_t):
            # Trained again: the pruner has this epoch and let the trial go on; a median would count it twice.
            return str(TrialScheduler.CONTINUE)
        entry.judged_step = max(entry.judged_step, step)
        decision = str(self.inner.on_trial_result(tune_controller, trial, result))
        if decision == TrialScheduler.STOP:
            entry.pruned = max_t is None or step < max_t
        return decision

    def _must_wait(self, entry: Entry) -> bool:
        finishing = self._in_force.finish_reason is not None
        return finishing or self._in_force.must_wait(entry.node, entry.number, reported=True)

    def _is_one_too_many(self, entry: Entry) -> bool:
        """Return whether a trial must go back to the queue under SHED: at the end of an epoch, with its work saved."""
        running = self._registry.running()
        if (
            len(running) <= self._allowed()
            or not _may_leave(entry, self._limits)
            or self._in_force.finish_reason is not None
        ):
            return False
        return entry.number == self._in_force.to_shed(other.number for other in running)

    def _allowed(self) -> int:
        command = self._in_force.for_new_trials()
        if command.action not in (Action.SHED, Action.THROTTLE):
            # When the number goes down, the trials at work go on: the search starts no other one instead.
            return self._limits.at_once.most
        return max(1, self._limits.at_once.now - command.shed_trials)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        self._registry.at_work = None
        self._forget_ended(tune_controller)
        if self._registry.problem is not None:
            raise Finished(self._registry.problem)
        if self._in_force.finish_reason is not None:
            self._finish(tune_controller)
        else:
            self._continue_held(tune_controller)
        closed = self._closed()
        others = _Others(tune_controller, self._is_kept_out)
        self._pace.rest(tune_controller, len(self._held), closed=closed or others.any_left_out())
        if closed or any(entry.alone for entry in self._registry.running()):
            return None
        waiting = _waits_to_be_alone(self._registry, others)
        if waiting is not None:
            # The running trials end first, and search starts no new one.
            return None if self._registry.running() or _begins_another(others, waiting) else waiting
        chosen: Trial | None = self.inner.choose_trial_to_run(others)
        # Hyperband has its own list of trials.
        return None if chosen is not None and self._is_kept_out(chosen) else chosen

    def _forget_ended(self, tune_controller: Any) -> None:
        """Let Tune forget the trials that have ended: the round of a long search must cost no more than its first."""
        for trial_id, trial in list(self._ended.items()):
            if ray_private.forget_trial(tune_controller, trial):
                del self._ended[trial_id]
                self._replayed.discard(trial_id)
                self._apart.discard(trial_id)

    def _is_kept_out(self, trial: Trial) -> bool:
        """Return whether the operator holds this released trial; one with a worker waits at its gate instead."""
        return trial.status == Trial.PAUSED and self._in_force.keeps_out(self._registry.entry(trial.trial_id).number)

    def _closed(self) -> bool:
        action = self._in_force.for_new_trials().action
        if self._in_force.finish_reason is not None or action is Action.HOLD or self._in_force.is_paused():
            return True
        return action is not Action.RUN and len(self._registry.running()) >= self._allowed()

    def _continue_held(self, tune_controller: Any) -> None:
        """Continue or release held trials; once a round, and so after the recorder has sent their last results."""
        now, continued = time.monotonic(), False
        for trial_id, held in list(self._held.items()):
            entry = self._registry.entry(trial_id)
            paused = self._must_wait(entry)
            long = now - held.since_mono_s > self._limits.release_after_s and _may_leave(entry, self._limits)
            if held.left or held.shed or (paused and long):
                del self._held[trial_id]
                _let_go(self._recorder, tune_controller, held, entry)
            elif not paused:
                del self._held[trial_id]
                entry.reported = False
                ray_private.continue_trial(tune_controller, held.trial)
                continued = True
        if self._held or continued:
            # A trial that is held by itself waits from its report on, which the recorder has sent by now.
            self._recorder.record_pauses()

    def _finish(self, tune_controller: Any) -> None:
        """Raise Finished once no trial works any more, or FINISH_WITHIN_S is over."""
        now = time.monotonic()
        if self._finish_by_mono_s is None:
            self._finish_by_mono_s = now + FINISH_WITHIN_S
            self._leave(self._in_force.finish_reason or "the driver ends")
        for trial_id, held in list(self._held.items()):
            entry = self._registry.entry(trial_id)
            if self._limits.saves and not held.left and not entry.is_saved:
                del self._held[trial_id]
                _let_go(self._recorder, tune_controller, held, entry)
        idle = {self._registry.entry(trial_id).number for trial_id in self._held}
        busy = [entry for entry in self._registry.running() if entry.number not in idle]
        if not busy or now > self._finish_by_mono_s:
            raise Finished(self._in_force.finish_reason)

    def _over(self, trial: Trial) -> None:
        self._held.pop(trial.trial_id, None)
        self._ended[trial.trial_id] = trial

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._over(trial)
        if trial.trial_id not in self._apart:
            self.inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._over(trial)
        if trial.trial_id in self._apart:
            return
        if finite_or_none(result.get(self._registry.metric)) is None:
            # A pruner cannot add up such a value: it gets a failure.
            self.inner.on_trial_error(tune_controller, trial)
        else:
            self.inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._over(trial)
        if trial.trial_id not in self._apart:
            self.inner.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return f"{self.inner.debug_string()} ({len(self._held)} held)"


def _waits_to_be_alone(registry: TrialRegistry, tune_controller: _Others) -> Trial | None:
    """Return the first waiting trial that must have the machine to itself."""
    if not registry.alone():
        return None
    waiting = (trial for trial in tune_controller.get_trials() if trial.status in (Trial.PENDING, Trial.PAUSED))
    return next((trial for trial in waiting if registry.entry(trial.trial_id).alone), None)


def _let_go(recorder: Recorder, tune_controller: Any, held: _Held, entry: Entry) -> None:
    """Release a trial from its worker; one that is not saved is asked to save itself first, and answers LEFT."""
    if held.left or entry.is_saved:
        recorder.release(held.trial)
        ray_private.release_trial(tune_controller, held.trial)
    else:
        ray_private.ask_to_leave(tune_controller, held.trial)


def _begins_another(tune_controller: _Others, waiting: Trial) -> bool:
    """Return whether Tune is about to start a trial: it starts PENDING ones without asking the scheduler."""
    return any(trial.status == Trial.PENDING and trial is not waiting for trial in tune_controller.get_trials())


def _may_leave(entry: Entry, limits: SchedulerLimits) -> bool:
    """Return whether nothing is lost when a trial leaves its worker: it is saved, or can save itself."""
    return entry.is_saved or limits.saves
