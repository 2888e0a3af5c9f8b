"""The search of an experiment: Ray's OptunaSearch behind a gate, and the trials that follow it.

The gate starts no trial while a command forbids it, removes values that would break the study, and reports to Optuna
how each trial really ended. Only public names of OptunaSearch and Optuna are used, but for ray_private's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from actors.driver import ray_private
from actors.driver.after_search import AfterSearch
from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.driver.duplicates import FreshDraws, Tried, known_end, tried_before, with_known_results
from actors.driver.points import Points
from actors.driver.study import SamplerPerTrial, bounded, build_study, distribution, open_storage, sampler_factory
from actors.driver.trial_registry import Entry, TrialRegistry, Verdict, ended, finite_or_none
from actors.driver.trials_at_once import TrialsAtOnce
from actors.trial.result_keys import OWN_KEY, STEP
from supervisor.domain.answer import TESTED
from supervisor.domain.command import Action
from supervisor.domain.finalists import AFTER_SEARCH, is_final
from supervisor.domain.messages import TrialAdded, TrialDuplicated
from supervisor.domain.plan_changes import waiting_points
from supervisor.domain.trials.extension import as_searched, extension_of


class GatedSearch(Searcher):
    """Wraps OptunaSearch. The store has its state, so Tune's snapshots of a searcher save nothing."""

    def __init__(
        self,
        inner: OptunaSearch,
        registry: TrialRegistry,
        in_force: CommandsInForce,
        link: DaemonLink,
        after_search: AfterSearch,
        points: Points,
        at_once: TrialsAtOnce,
        extended: Iterable[Extended] = (),
        tried: Tried | None = None,
    ) -> None:
        """`extended` are the trials that train on; they come before those that `inner` gives.

        `tried` are the configurations that are not trained again; None where the plan trains duplicates.
        """
        super().__init__(metric=registry.metric, mode=registry.mode)
        # Not `searcher`: Tune looks for that name to find layers of its own.
        self._inner, self._registry, self._in_force, self._link = inner, registry, in_force, link
        self._after_search, self._points, self._at_once = after_search, points, at_once
        self._extended, self._tried = deque(extended), tried
        self._taken: Mapping[str, Any] | None = None
        self._limits = False

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Say that this search itself bounds its trials at once: Ray's bound could not change while it works."""
        self._limits = True
        return True

    def _take_changes(self) -> None:
        """Take what a person has changed of the experiment since the last call."""
        spec = self._in_force.changed_spec
        if spec is not None and spec is not self._taken:
            self._taken = spec
            self._at_once.take(spec)
            self._points.take(spec, self._after_search.begun)
            if not self._after_search.take_spec(spec):
                self._in_force.finish("the plan has changed: the next driver begins with it")

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        finished: Any = Searcher.FINISHED
        self._take_changes()
        if self._in_force.finish_reason is not None:
            return finished  # type: ignore[no-any-return]
        if self._after_search.search_is_given() and not self._after_search.waits():
            # Also while no trial may start; a search that a person may add trials to ends with its last one.
            return None if self._after_search.may_grow() and self._registry.count() else finished
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
        if self._extended:
            return self._open_extended(trial_id, self._extended.popleft())
        config = dict(self._inner.suggest(trial_id) or {})
        number = config.pop(OWN_KEY)["number"]
        self._after_search.search_gave(number)
        source = "enqueued" if number in self._points else "sampled"
        if self._is_told_again(trial_id, number, config, source):
            # Tune asks again at once.
            return None
        return self._open(trial_id, number, config, source)

    def _is_told_again(self, trial_id: str, number: int, params: dict[str, Any], source: str) -> bool:
        """Give a trial whose params have a value the end of that trial; return False where it is to be trained."""
        if self._tried is None:
            return False
        of = None if self._registry.has_begun(number) else self._tried.of(params)
        if of is None:
            self._tried.begin(params)
            return False
        metric, (reports, value) = self._registry.metric, known_end(self._points.study, of)
        for step, reported in reports.items():
            self._inner.on_trial_result(trial_id, {metric: reported, STEP: step})
        self._inner.on_trial_complete(trial_id, None if value is None else {metric: value})
        self._after_search.note_duplicate(number, of)
        self._link.send(TrialDuplicated(number, dict(params), source, of))
        return True

    def _end_search_in_time(self) -> None:
        """End the search when no other trial of it fits; the first one always does, so that there is an answer."""
        end = self._in_force.search_end
        reason = self._after_search.why_end(end.before_another() or self._after_search.why_stop(), end.time)
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

    def _open_extended(self, trial_id: str, trial: Extended) -> dict[str, Any]:
        self._after_search.search_gave(trial.number)
        entry = self._registry.open(trial_id, trial.number, dict(trial.params), extension=trial.extension)
        return {**trial.params, **trial.config, OWN_KEY: entry.own_settings()}

    def _may_start(self) -> bool:
        """Return whether a trial may start: none under HOLD; under SHED and THROTTLE fewer than usual, but one."""
        if self._one_is_alone() or self._in_force.is_paused():
            return False
        limits = self._limits or self._at_once.now < self._at_once.most
        if limits and self._registry.count() >= self._at_once.now:
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
        if not entry.apart:
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
        if entry.apart:
            return
        if self._tried is not None:
            counts = verdict is not None and verdict.succeeded and verdict.value is not None and not entry.cut
            self._tried.end(entry.params, entry.number, counts=counts)
        self._tell_end(trial_id, entry, verdict)
        ray_private.forget_suggestion(self._inner, trial_id)

    def _tell_end(self, trial_id: str, entry: Entry, verdict: Verdict | None) -> None:
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


@dataclass(frozen=True)
class Extended:
    """A trial that trains on; `config` are the keys of its configuration that go with its new end."""

    number: int
    params: Mapping[str, Any]
    extension: Mapping[str, Any]
    config: Mapping[str, Any]


def extended_trials(spec: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> list[Extended]:
    """Return the trials of a search that train on after their end, by number."""
    found = []
    for trial in trials:
        extension = extension_of(spec, int(trial["number"]))
        if extension is not None and not ended(trial):
            end = int(extension["last_step"])
            # Without early stopping: a person asked for all these epochs.
            config = {"max_epochs": end, "patience": end} if spec["trainable"] == TESTED else {}
            found.append(Extended(int(trial["number"]), trial["params"], extension, config))
    return found


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
    searched = [as_searched(spec, trial) for trial in trials if not is_final(spec, int(trial["number"]))]
    searched = with_known_results(searched)
    asked, first = waiting_points(spec, searched), max(len(searched), len(points))
    study = build_study(
        storage, spec["name"], spec["mode"], space.distributions, searched, [*points[len(searched) :], *asked]
    )
    numbers = {*range(len(points)), *range(first, first + len(asked))}
    sampler, tried = spec["sampler"], tried_before(spec, space.distributions, searched)
    per_trial = SamplerPerTrial(sampler_factory(sampler["kind"], sampler["startup_trials"], spec["seed"]))
    inner = OptunaSearch(
        space=space,
        metric=spec["metric"],
        mode=spec["mode"],
        storage=storage,
        study_name=spec["name"],
        sampler=per_trial if tried is None else FreshDraws(per_trial, tried),
    )
    follow = AfterSearch(spec, trials)
    own_points = Points(study, numbers, len(spec.get("asked") or ()))
    extended = extended_trials(spec, trials)
    return GatedSearch(inner, registry, in_force, link, follow, own_points, at_once, extended, tried)
