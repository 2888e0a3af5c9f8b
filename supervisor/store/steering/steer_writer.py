"""Records what a person changes in a run that goes on, each request in one transaction. Standard library only.

The rules are pure (domain.early_ends, domain.plan_changes). A request that is refused in a part changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from supervisor.domain.early_ends import (
    MAX_REASONS,
    Named,
    allowed,
    why_not_discard,
    why_not_end,
    why_not_restore,
    why_not_skip,
)
from supervisor.domain.experiment_order import why_not_next
from supervisor.domain.lifecycle import ENDED, ProcessState, check_process_move
from supervisor.domain.plan_changes import effect, extended, why_not_change, why_not_enqueue, why_not_extend
from supervisor.domain.scope import trial_scope
from supervisor.domain.time_accounting import driven_seconds
from supervisor.errors import Conflict
from supervisor.store import answer_queries, lookups
from supervisor.store.database import Change, Store
from supervisor.store.run_writer import drop_command
from supervisor.store.steering.retry_writer import seconds_left
from supervisor.store.steering.set_aside import SetAsideWriter, reopen_run

EXTENDED = "to be extended"
"""The reason of an experiment that has ended and searches on."""


@dataclass(frozen=True)
class PlanChange:
    """Holds what a person changes in a run's plan: `specs` the changed keys by experiment, `policy` the whole one.

    `schedule` is the whole schedule, empty when there is none from then on; None when it stays.
    `plan_text` is the run's copy of the plan from then on, None when `sets` say it all. `fingerprint` and
    `source_sha256` are those of the plan's file when the run takes over what was edited there. `everywhere` is False
    when the person named experiments: the plan of the others stays.
    """

    sets: Sequence[str]
    specs: Mapping[str, Mapping[str, Any]]
    policy: Mapping[str, Any] | None = None
    plan_text: str | None = None
    fingerprint: str | None = None
    source_sha256: str | None = None
    everywhere: bool = True
    schedule: Mapping[str, Any] | None = None

    @property
    def is_for_experiments(self) -> bool:
        """Return whether nothing changes but specs of experiments."""
        return self.policy is None and self.schedule is None and self.plan_text is None


@dataclass(frozen=True)
class Changed:
    """Says the effect of a change by experiment, and why others are not changed."""

    effects: dict[str, str]
    refused: list[str]


@dataclass(frozen=True)
class SteerWriter:
    """Checks and records the requests about one run. Each raises Conflict, with the reasons, to refuse."""

    store: Store
    run_id: str

    def end_trials(self, found: Iterable[Named], who: str) -> list[Named]:
        """Record that trials end at their next report, those that are paused one by one too; return them."""
        with self.store.change(self.run_id) as change:
            taken = steerable(found, self._why_not_end(), "end")
            paused = {command.scope for command in lookups.commands(self.store, self.run_id)}
            for name, numbers in _by_experiment(taken):
                # A command is lifted with the end that ends its trial, so it parts them.
                waiting = list[int]()
                for number in numbers:
                    waiting.append(number)
                    if (scope := trial_scope(name, number)) in paused:
                        change.record_each("trial.end_asked", name, waiting, who=who)
                        drop_command(self.store, change, self.run_id, scope, who)
                        waiting = []
                change.record_each("trial.end_asked", name, waiting, who=who)
        return taken

    def discard(self, found: Iterable[Named], who: str, *, restore: bool = False) -> list[Named]:
        """Record that trials leave what their searches know, or with `restore` come back; return them."""
        verb = "restore" if restore else "discard"
        with self.store.change(self.run_id) as change:
            why_not = self._why_not_discard(why_not_restore if restore else why_not_discard)
            taken = steerable(found, why_not, verb)
            for name in dict.fromkeys(one.experiment for one in taken):
                if self._chosen.set_aside(change, name, who, verb):
                    self._chosen.reopen(change, name, who)
            for name, numbers in _by_experiment(taken):
                change.record_each("trial.restored" if restore else "trial.discarded", name, numbers, who=who)
        return taken

    def _why_not_discard(
        self, decide: Callable[[dict[str, Any], Mapping[str, Any], str | None], str | None]
    ) -> Callable[[Named], str | None]:
        """Return the decision on each trial; what concerns its whole experiment is read once."""

        @cache
        def search(name: str) -> tuple[dict[str, Any], str | None, dict[int, Any]]:
            spec = lookups.spec(self.store, self.run_id, name)
            return spec, self._chosen.why_not(name) or self._why_no_time(name, spec), self._trials(name)

        def why_not(one: Named) -> str | None:
            spec, chooses_anew, trials = search(one.experiment)
            row = None if one.trial is None else trials.get(one.trial)
            return "there is no such trial" if row is None else decide(spec, dict(row), chooses_anew)

        return why_not

    def _why_no_time(self, name: str, spec: Mapping[str, Any]) -> str | None:
        """Return why an experiment that has chosen has no time to choose anew; None when it has."""
        out_of_time = seconds_left(self.store, self.run_id, name, spec.get("max_hours")) == 0.0
        return "its max_hours are used up: it could not choose anew" if out_of_time and self.has_chosen(name) else None

    def has_chosen(self, name: str) -> bool:
        """Return whether the experiment has begun a finalisation that counts."""
        return self._chosen.has_begun(name)

    @property
    def _chosen(self) -> SetAsideWriter:
        return SetAsideWriter(self.store, self.run_id)

    def _trials(self, name: str) -> dict[int, Any]:
        """Return the rows of an experiment's trials by number: one query for all of them."""
        return {int(row["number"]): row for row in lookups.trials(self.store, self.run_id, name)}

    def leave_out(self, found: Iterable[Named], who: str) -> list[Named]:
        """Record that experiments are left out; return them. The orchestrator moves them to SKIPPED."""
        with self.store.change(self.run_id) as change:
            taken = steerable(found, self._why_not_skip, "be left out")
            for one in taken:
                change.record("experiment.skip_asked", experiment=one.experiment, who=who)
        return taken

    def change_plan(self, found: Iterable[Named], changes: PlanChange, who: str) -> Changed:
        """Record changes of the plan for those of `found` that can take them."""
        with self.store.change(self.run_id) as change:
            asked = [one for one in found if one.exact or self._state(one) not in ENDED]
            reasons = {one: self._why_not_change(one, changes.specs.get(one.experiment, {})) for one in asked}
            refused = [f"{one}: {why}" for one, why in reasons.items() if why is not None]
            taken = [one.experiment for one, why in reasons.items() if why is None and one.experiment in changes.specs]
            nothing = not taken and changes.is_for_experiments
            if nothing or any(one.exact and why for one, why in reasons.items()):
                why_not = "; ".join(refused[:MAX_REASONS]) or "each experiment has these values already"
                raise Conflict(f"the plan does not change: {why_not}", remedy="`supervisorctl status` shows the run")
            effects = {name: self._effect(name, changes.specs[name]) for name in taken}
            change.record(
                "plan.changed", who=who, sets=list(changes.sets), experiments=taken,
                specs={name: changes.specs[name] for name in taken}, policy=changes.policy,
                plan_text=changes.plan_text, fingerprint=changes.fingerprint, source_sha256=changes.source_sha256,
                everywhere=changes.everywhere, schedule=changes.schedule,
            )  # fmt: skip
        return Changed(effects, refused)

    def put_next(self, found: Iterable[Named], at_work: str | None, who: str) -> list[Named]:
        """Record that an experiment begins next; of several the first one does, and the others follow it."""
        waiting = {each.name: each for each in lookups.waiting(self.store, self.run_id)}

        def why_not(one: Named) -> str | None:
            return why_not_next(waiting[one.experiment], one.experiment == at_work)

        with self.store.change(self.run_id) as change:
            taken = steerable(found, why_not, "begin next")
            for one in reversed(taken):
                change.record("experiment.advanced", experiment=one.experiment, who=who)
        return taken

    def enqueue(self, points: Mapping[str, Mapping[str, Any]], who: str) -> None:
        """Record that the search of each experiment tries a point next."""
        with self.store.change(self.run_id) as change:
            for name, point in points.items():
                trials = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
                spec = lookups.spec(self.store, self.run_id, name)
                refusal = why_not_enqueue(self._state(Named(name)), spec, trials, name)
                if refusal is not None:
                    raise Conflict(f"{name} takes no point: {refusal}")
                change.record("experiment.point_enqueued", experiment=name, who=who, point=dict(point))

    def extend(self, more: Mapping[Named, int], hours: float, who: str) -> dict[str, int]:
        """Record that each search gets so many trials more; one that has ended is opened again, and so is its run.

        Each gets `hours` too. A finalisation that has begun is set aside. Return the `max_trials` of each experiment.
        """
        with self.store.change(self.run_id) as change:
            taken = steerable(more, lambda one: self._why_not_extend(one, more[one], hours), "be extended")
            reopen_run(self.store, change, self.run_id, who)
            return {one.experiment: self._extend(change, one, more[one], hours, who) for one in taken}

    def _extend(self, change: Change, one: Named, trials: int, hours: float, who: str) -> int:
        name, state = one.experiment, self._state(one)
        searched = lookups.spec(self.store, self.run_id, name).get("searched")
        # An early end counts as one: the search tries so many more than it had tried.
        early = {"searched": searched} if self._chosen.set_aside(change, name, who, "extend") else {}
        rows = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
        total = extended({**lookups.spec(self.store, self.run_id, name), **early}, rows, trials)
        change.record(
            "experiment.enlarged", experiment=name, who=who, trials=trials, hours=hours, max_trials=total
        )  # fmt: skip
        if state in ENDED:
            check_process_move(state, ProcessState.STOPPED)
            change.record("experiment.moved", experiment=name, state=ProcessState.STOPPED, reason=EXTENDED)
        return total

    def _why_not_extend(self, one: Named, trials: int, hours: float) -> str | None:
        name = one.experiment
        spec = lookups.spec(self.store, self.run_id, name)
        rows = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
        left_s = seconds_left(self.store, self.run_id, name, spec.get("max_hours"))
        return why_not_extend(self._state(one), spec, rows, trials, hours, left_s, self._chosen.why_not(name))

    def _why_not_change(self, one: Named, changes: Mapping[str, Any]) -> str | None:
        name = one.experiment
        trials = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
        events = lookups.events_of_time(self.store, self.run_id, name)
        spent_s = driven_seconds((event.name, event.wall_s, event.fields) for event in events)
        return why_not_change(
            self._state(one), lookups.spec(self.store, self.run_id, name), changes, trials, spent_s
        )  # fmt: skip

    def _effect(self, name: str, changes: Mapping[str, Any]) -> str:
        trials = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
        return effect(self._state(Named(name)), lookups.spec(self.store, self.run_id, name), changes, trials)

    def _why_not_end(self) -> Callable[[Named], str | None]:
        """Return the decision on each trial; what concerns its whole experiment is read once."""

        @cache
        def search(name: str) -> tuple[ProcessState, dict[str, Any], dict[int, Any]]:
            return self._state(Named(name)), lookups.spec(self.store, self.run_id, name), self._trials(name)

        def why_not(one: Named) -> str | None:
            state, spec, trials = search(one.experiment)
            row = None if one.trial is None else trials.get(one.trial)
            return "there is no such trial" if row is None else why_not_end(state, spec, row)

        return why_not

    def _why_not_skip(self, one: Named) -> str | None:
        row = lookups.experiment(self.store, self.run_id, one.experiment)
        test = answer_queries.test_of(self.store.connection, self.run_id, one.experiment)
        spec = lookups.spec(self.store, self.run_id, one.experiment)
        return why_not_skip(self._state(one), row["action"], spec, test)

    def _state(self, one: Named) -> ProcessState:
        return ProcessState(lookups.experiment(self.store, self.run_id, one.experiment)["state"])


def _by_experiment(taken: Iterable[Named]) -> Iterator[tuple[str, list[int]]]:
    """Yield each experiment of trials that stand together, with their numbers."""
    for name, trials in groupby(taken, key=lambda one: one.experiment):
        yield name, [one.trial for one in trials if one.trial is not None]


def steerable(found: Iterable[Named], why_not: Callable[[Named], str | None], what: str) -> list[Named]:
    """Return those that may be steered so. Raises Conflict with the reasons when the request is refused."""
    taken, reasons = allowed(found, why_not)
    if reasons:
        raise Conflict(
            f"cannot {what}: {'; '.join(reasons)}", remedy="nothing was changed; `supervisorctl status` shows them"
        )
    return taken
