"""The search of an experiment: Ray's OptunaSearch behind a gate, and the trials that follow it.

The gate starts no trial while a command forbids it, removes values that would break the study, and reports to Optuna
how each trial really ended. Only public names of OptunaSearch and Optuna are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.driver.process_local import PerProcess
from actors.driver.study import SamplerPerTrial, bounded, build_study, distribution, open_storage, sampler_factory
from actors.driver.trial_registry import Entry, TrialRegistry, Verdict, ended, finite_or_none
from actors.driver.trials_at_once import TrialsAtOnce
from actors.trial.result_keys import OWN_KEY, STEP
from supervisor.domain.command import Action
from supervisor.domain.finalists import AFTER_SEARCH, after_search, is_final, search_trials, trials_in_all
from supervisor.domain.lifecycle import ALL, EndReason, TrialState
from supervisor.domain.messages import SearchEnded, TrialAdded
from supervisor.domain.search_time import SearchTime
from supervisor.domain.spec_changes import with_search_ended


class AfterSearch(PerProcess):
    """Chooses the trials that follow the search: finalisation, then walk-forward; `domain.finalists` has the rule.

    `trials` are the daemon's; later ends are noted here. Called from Tune's thread only.
    """

    def __init__(self, spec: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._spec = spec
        self._trials: dict[int, Mapping[str, Any]] = {int(trial["number"]): trial for trial in trials if ended(trial)}
        own = [number for number in self._trials if not is_final(spec, number)]
        self._search_left = search_trials(spec) - len(own)
        self._given = {int(trial["number"]): trial for trial in trials if is_final(spec, int(trial["number"]))}
        self._taken = {number for number in self._trials if is_final(spec, number)}
        self._begun = sum(not is_final(spec, int(trial["number"])) for trial in trials)

    def search_gave(self, number: int) -> None:
        """Note that the search has given trial `number` to Tune."""
        self._search_left -= 1
        self._begun = max(self._begun, number + 1)

    def end_search(self, reason: str, time: SearchTime | None) -> SearchEnded:
        """End the search after the trials that it has; return what to tell the daemon."""
        top, seeds = (None, None) if time is None else (time.top, time.seeds)
        self._search_left -= search_trials(self._spec) - self._begun
        self._spec = with_search_ended(self._spec, reason, self._begun, top, seeds)
        return SearchEnded(reason, self._begun, top, seeds)

    def search_is_given(self) -> bool:
        """Return whether the search has given all its trials; without finalisation Tune's count ends it before."""
        return self._search_left <= 0

    def why_end(self, reason: str | None, time: SearchTime | None) -> str | None:
        """Return why the search ends now, to be recorded; None when it goes on, or ends as the spec says.

        Its first trial always fits, so that there is an answer. After its last one, the finalisation may be too long.
        """
        if 0 < self._begun < search_trials(self._spec):
            return reason
        finalize = self._spec.get("finalize")
        if time is None or finalize is None or not self.search_is_given() or self._spec.get("searched") is not None:
            return None
        if self._given:
            # Its numbers are those of the finalisation that has begun.
            return None
        return None if (time.top, time.seeds) == (finalize["top"], finalize["seeds"]) else ALL

    def waits(self) -> bool:
        """Return whether more trials follow once a running one has ended."""
        return len(self._taken) < trials_in_all(self._spec, self._ended()) - search_trials(self._spec)

    def note(self, entry: Entry, verdict: Verdict | None) -> None:
        """Note the end of a trial; `verdict` is None if its worker or Tune failed."""
        succeeded = verdict is not None and verdict.succeeded
        self._trials[entry.number] = {
            "number": entry.number,
            "state": TrialState.TERMINATED if succeeded else TrialState.ERROR,
            "end_reason": EndReason.ERROR if verdict is None else verdict.end_reason,
            "params": entry.params,
            "value": verdict.value if verdict is not None and succeeded else None,
        }

    def take(self) -> tuple[int, str, dict[str, Any]] | None:
        """Return number, source and params of the next trial; None when all that are known are given."""
        for number, (source, params) in after_search(self._spec, self._known()).items():
            if number not in self._taken:
                self._taken.add(number)
                unended = {"state": TrialState.PENDING, "end_reason": None, "value": None}
                self._given[number] = {"number": number, "params": params, **unended}
                return number, source, params
        return None

    def _known(self) -> list[Mapping[str, Any]]:
        """Return the trials that have ended, and those after the search that have begun: they keep their numbers."""
        return list({**self._given, **self._trials}.values())

    def _ended(self) -> list[Mapping[str, Any]]:
        return list(self._trials.values())


class GatedSearch(Searcher):
    """Wraps OptunaSearch. The store has its state, so Tune's snapshots of a searcher save nothing."""

    def __init__(
        self,
        inner: OptunaSearch,
        registry: TrialRegistry,
        in_force: CommandsInForce,
        link: DaemonLink,
        after_search: AfterSearch,
        enqueued: int,
        at_once: TrialsAtOnce,
    ) -> None:
        super().__init__(metric=registry.metric, mode=registry.mode)
        # Not `searcher`: Tune looks for that name to find layers of its own.
        self._inner, self._registry, self._in_force, self._link = inner, registry, in_force, link
        self._after_search, self._enqueued, self._at_once = after_search, enqueued, at_once

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        finished: Any = Searcher.FINISHED
        if self._in_force.finish_reason is not None:
            return finished  # type: ignore[no-any-return]
        if not self._may_start():
            return None
        self._end_search_in_time()
        if self._after_search.search_is_given():
            if self._in_force.finalisation_held:
                # Another driver takes the retried trials first.
                return finished  # type: ignore[no-any-return]
            found = self._after_search.take()
            if found is not None:
                number, source, params = found
                return self._open(trial_id, number, params, source)
            return None if self._after_search.waits() else finished
        config = dict(self._inner.suggest(trial_id) or {})
        number = config.pop(OWN_KEY)["number"]
        self._after_search.search_gave(number)
        return self._open(trial_id, number, config, "enqueued" if number < self._enqueued else "sampled")

    def _end_search_in_time(self) -> None:
        """End the search when no other trial of it fits; the first one always does, so that there is an answer."""
        end = self._in_force.search_end
        reason = self._after_search.why_end(end.before_another(), end.time)
        if reason is not None:
            self._link.send(self._after_search.end_search(reason, end.time))

    def _open(self, trial_id: str, number: int, params: dict[str, Any], source: str) -> dict[str, Any]:
        known, final = self._registry.known(number), source in AFTER_SEARCH
        entry = self._registry.open(trial_id, number, dict(params), final=final)
        if not known:
            self._link.send(TrialAdded(number, dict(params), source))
        if not final:
            self._tell_all(trial_id, entry)
        return {**params, OWN_KEY: entry.own_settings()}

    def _may_start(self) -> bool:
        """Return whether a trial may start: none under HOLD; under SHED and THROTTLE fewer than usual, but one."""
        if self._one_is_alone() or self._in_force.is_paused():
            return False
        if self._at_once.now < self._at_once.most and self._registry.count() >= self._at_once.now:
            return False
        command = self._in_force.for_new_trials()
        if command.action in (Action.SHED, Action.THROTTLE):
            return len(self._registry.running()) < max(1, self._at_once.now - command.shed_trials)
        return command.action < Action.HOLD

    def _one_is_alone(self) -> bool:
        """Return whether a trial has the machine to itself, or waits for it. Trials that are held do not count.

        Asked here: Tune starts each trial that the search gives, without asking the scheduler.
        """
        return any(entry.running or not self._in_force.keeps_out(entry.number) for entry in self._registry.in_the_way())

    def _tell_all(self, trial_id: str, entry: Entry) -> None:
        for step, value in list(entry.results):
            self._tell(trial_id, entry, step, value)

    def _tell(self, trial_id: str, entry: Entry, step: int, value: float | None) -> None:
        if value is not None and step not in entry.sent_steps:
            entry.sent_steps.add(step)
            self._inner.on_trial_result(trial_id, {self._registry.metric: bounded(value), STEP: step})

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        entry = self._registry.entry(trial_id)
        if not entry.final:
            self._at_once.worked(result)
            self._tell(trial_id, entry, int(result[STEP]), finite_or_none(result.get(self._registry.metric)))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        entry = self._registry.entry(trial_id)
        verdict = None if error or result is None else self._registry.verdict(trial_id, result)
        self._after_search.note(entry, verdict)
        if entry.final:
            return
        if not self._after_search.search_is_given():
            # At the end of the search fewer trials run than may.
            self._at_once.worked(result or {})
            self._at_once.ended()
        if verdict is None or not verdict.succeeded:
            self._inner.on_trial_complete(trial_id, None, error=True)
            return
        # Tune never reports the step that ends a trial to a searcher.
        self._tell_all(trial_id, entry)
        if entry.pruned or verdict.value is None:
            self._inner.on_trial_complete(trial_id, None, error=False)
        else:
            self._inner.on_trial_complete(trial_id, {self._registry.metric: bounded(verdict.value)})

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a search is always rebuilt from the store."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the store is the truth."""


class Space:
    """A plan's space as Optuna's define-by-run function; it also gives each Tune trial its number."""

    def __init__(self, space: Mapping[str, Mapping[str, Any]]) -> None:
        self.distributions = {name: distribution(dimension) for name, dimension in space.items()}

    def __call__(self, trial: Trial) -> dict[str, Any]:
        for name, found in self.distributions.items():
            match found:
                case CategoricalDistribution():
                    trial.suggest_categorical(name, found.choices)
                case FloatDistribution():
                    trial.suggest_float(name, found.low, found.high, log=found.log)
                case IntDistribution():
                    trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)
        return {OWN_KEY: {"number": trial.number}}


def open_search(
    spec: Mapping[str, Any],
    trials: list[dict[str, Any]],
    folder: Path,
    registry: TrialRegistry,
    in_force: CommandsInForce,
    link: DaemonLink,
    at_once: TrialsAtOnce,
) -> GatedSearch:
    """Return the search of an experiment, its study rebuilt in `folder` from the daemon's `trials`."""
    space = Space(spec["space"])
    points = list(spec["enqueue"])
    storage = open_storage(folder)
    searched = [trial for trial in trials if not is_final(spec, int(trial["number"]))]
    build_study(storage, spec["name"], spec["mode"], space.distributions, searched, points[len(searched) :])
    sampler = spec["sampler"]
    inner = OptunaSearch(
        space=space,
        metric=spec["metric"],
        mode=spec["mode"],
        storage=storage,
        study_name=spec["name"],
        sampler=SamplerPerTrial(sampler_factory(sampler["kind"], sampler["startup_trials"], spec["seed"])),
    )
    follow = AfterSearch(spec, trials)
    return GatedSearch(inner, registry, in_force, link, follow, len(points), at_once)
