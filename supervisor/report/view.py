"""Reads a run's snapshot into the values that a report shows, and lists what is missing. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.domain import answer, finalists
from supervisor.domain.lifecycle import (
    ENDED,
    FINISH,
    HOURS,
    PLATEAU,
    SUCCEEDED,
    TRIAL_ENDED,
    VALUE,
    EndReason,
    ProcessState,
    TrialState,
)
from supervisor.domain.time_accounting import by_cause
from supervisor.domain.trials.duplicates import duplicate_of
from supervisor.domain.trials.extension import as_it_had_ended
from supervisor.formatting import counted, duration
from supervisor.store.queries import best_trial, training_seconds

SAMPLE_SOURCE = "arch.data"
"""The package with the S&P 500 bars of the embedded sample (training.data.imports)."""
OWN_TRAINABLE = "patchtst"
SIZE_AXIS = "budget"
"""The axis of a plan whose values are sizes of a model."""


@dataclass(frozen=True)
class TrialRow:
    """A trial. `results` is (step, value or None) by step; `training_s` is without pauses.

    `param_count` and `architecture` are None until the trial's end, and for a trainable that records none.
    """

    number: int
    state: TrialState
    end_reason: EndReason | None
    source: str
    attempt: int
    value: float | None
    params: Mapping[str, Any]
    results: tuple[tuple[int, float | None], ...]
    training_s: float
    record: Mapping[str, Any]
    error: str | None
    held_for: str | None
    started_wall: float | None
    ended_wall: float | None

    @property
    def final(self) -> bool:
        """True for a trial after the search: a configuration of it, trained again on another seed or fold.

        One that was set aside with its finalisation is none of the search's either.
        """
        return self.source in (*finalists.AFTER_SEARCH, finalists.SET_ASIDE)

    @property
    def duplicate_of(self) -> int | None:
        """The number of the trial whose params it has, and so its end and value; None where it was trained."""
        return duplicate_of(self.record)

    @property
    def param_count(self) -> int | None:
        count = self.record.get("param_count")
        return count if isinstance(count, int) else None

    @property
    def architecture(self) -> Mapping[str, Any] | None:
        found = self.record.get("architecture")
        return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment. `best` is None until a trial has a value; times are seconds since the epoch.

    `finalized` is the configuration that its finalisation chose (finalists.describe), `evaluation` the result of its
    test; both are None until then, and if the plan asks for neither.
    """

    name: str
    cell: Mapping[str, Any]
    state: ProcessState
    reason: str | None
    spec: Mapping[str, Any]
    trials: tuple[TrialRow, ...]
    best: TrialRow | None
    started_wall: float | None
    ended_wall: float | None
    finalized: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    missing: str | None = None
    """The reason why it has no answer (domain.answer.missing_answer)."""
    eta: Mapping[str, float] | None = None
    """The seconds from now to its end (domain.eta.forecast)."""

    @property
    def metric(self) -> str:
        return str(self.spec["metric"])

    @property
    def minimised(self) -> bool:
        return bool(self.spec["mode"] == "min")

    @property
    def testable(self) -> bool:
        """True if its models can be tested: the test split of a user's trainable is unknown here."""
        return bool(self.spec["trainable"] == OWN_TRAINABLE)

    @property
    def max_trials(self) -> int:
        return finalists.planned_trials(self.spec)

    @property
    def end_reasons(self) -> dict[str, int]:
        """The number of trials that ended for each reason, most frequent first."""
        return dict(Counter(t.end_reason.value for t in self.trials if t.end_reason is not None).most_common())

    @property
    def ended(self) -> int:
        return sum(trial.state in TRIAL_ENDED for trial in self.trials)

    @property
    def valued(self) -> tuple[tuple[TrialRow, float], ...]:
        """The search's trials with a value, and the value; trials after the search are left out."""
        return tuple(
            (t, t.value) for t in self.trials if t.value is not None and t.end_reason in SUCCEEDED and not t.final
        )

    @property
    def training_s(self) -> float:
        return sum(trial.training_s for trial in self.trials)

    def duration_s(self, now_wall: float) -> float | None:
        """Return the time from its first start to its end or to now; None before its first start."""
        return None if self.started_wall is None else (self.ended_wall or now_wall) - self.started_wall


@dataclass(frozen=True)
class RunView:
    """A run at the moment `now_wall`. `commands` are those in force, as Command.to_json gives them."""

    run_id: str
    plan: str
    fingerprint: str
    source: str
    state: ProcessState
    reason: str | None
    created_wall: float
    ended_wall: float | None
    now_wall: float
    data: Mapping[str, Any]
    commands: tuple[Mapping[str, Any], ...]
    experiments: tuple[ExperimentRow, ...]
    lost: Mapping[str, float]
    """Seconds that trials were held or waited, by cause (time_accounting.by_cause)."""
    eta: Mapping[str, float] | None = None

    @property
    def over(self) -> bool:
        return self.state in (ProcessState.EXITED, ProcessState.FATAL)

    @property
    def duration_s(self) -> float:
        return (self.ended_wall or self.now_wall) - self.created_wall

    @property
    def on_sample(self) -> bool:
        """True if the data are the embedded sample, as the plan's choice or as a fallback."""
        return bool(self.data.get("is_fallback")) or SAMPLE_SOURCE in str(self.data.get("source", ""))


def read_view(view: Mapping[str, Any], now_wall: float) -> RunView:
    """Read a snapshot of `store.queries` with trials. Raises KeyError or ValueError for anything else."""
    run = view["run"]
    return RunView(
        run_id=run["id"],
        state=ProcessState(run["state"]),
        now_wall=now_wall,
        data=run["data"] or {},
        commands=tuple(view["commands"]),
        experiments=tuple(_experiment(experiment) for experiment in view["experiments"]),
        lost=by_cause(view["lost"]),
        eta=view.get("eta"),
        **_picked(run, "plan", "fingerprint", "source", "reason", "created_wall", "ended_wall"),
    )


def _picked(view: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: view[key] for key in keys}


def _experiment(view: Mapping[str, Any]) -> ExperimentRow:
    best = best_trial(view["trials"], view["spec"])
    known = [trial for trial in view["trials"] if not finalists.is_discarded(view["spec"], int(trial["number"]))]
    # While a trial trains on, the value that it had counts.
    trials = tuple(_trial({**trial, "value": as_it_had_ended(view["spec"], trial)["value"]}) for trial in known)
    return ExperimentRow(
        cell=view["spec"]["cell"],
        state=ProcessState(view["state"]),
        trials=trials,
        best=None if best is None else next(t for t in trials if t.number == best["number"]),
        finalized=view.get("finalized"),
        evaluation=view.get("evaluation"),
        missing=view.get("missing"),
        eta=view.get("eta"),
        **_picked(view, "name", "reason", "spec", "started_wall", "ended_wall"),
    )


def _trial(view: Mapping[str, Any]) -> TrialRow:
    own = ("number", "source", "attempt", "value", "params", "error", "held_for", "started_wall", "ended_wall")
    return TrialRow(
        state=TrialState(view["state"]),
        end_reason=None if view["end_reason"] is None else EndReason(view["end_reason"]),
        results=tuple((step, value) for step, value, _ in view["results"]),
        training_s=training_seconds(dict(view)),
        record=view["record"] or {},
        **_picked(view, *own),
    )


def verdict(experiment: ExperimentRow) -> str:
    """Return passed, incomplete (it has no answer), failed, skipped or unfinished."""
    return answer.verdict(experiment.state, experiment.missing)


def best_so_far(experiment: ExperimentRow) -> list[tuple[int, float]]:
    """Return each valued trial's number and the best value up to it."""
    better: Callable[[float, float], float] = min if experiment.minimised else max
    curve: list[tuple[int, float]] = []
    for trial, value in experiment.valued:
        curve.append((trial.number, value if not curve else better(curve[-1][1], value)))
    return curve


def missing(run: RunView) -> list[str]:
    """List what is missing from the run, a sentence each; empty if nothing is."""
    sentences = []
    if not run.experiments:
        sentences.append("The run has no experiment.")
    unfinished = [e for e in run.experiments if e.state not in ENDED]
    if unfinished:
        done = len(run.experiments) - len(unfinished)
        sentences.append(f"The run is {run.state}: {done} of {len(run.experiments)} experiments have ended.")
    elif run.state is ProcessState.FATAL:
        sentences.append(f"The run itself failed: {run.reason or 'its log says why'}.")
    # Experiments that lack the same thing share a sentence.
    names_by_sentence: dict[str, list[str]] = {}
    for experiment in run.experiments:
        for sentence in _missing_of(experiment):
            names_by_sentence.setdefault(sentence, []).append(experiment.name)
    return sentences + [f"{', '.join(names)}: {sentence}" for sentence, names in names_by_sentence.items()]


def _missing_of(experiment: ExperimentRow) -> list[str]:
    sentences = []
    ended, most = experiment.ended, experiment.max_trials
    match experiment.state:
        case ProcessState.SKIPPED:
            return [f"skipped. {experiment.reason or 'No reason was recorded.'}"]
        case ProcessState.FATAL:
            sentences.append(f"failed after {ended} of {most} trials. {experiment.reason or 'No reason was recorded.'}")
        case ProcessState.EXITED if ended < most:
            sentences.append(f"ended after {ended} of {most} trials.")
        case ProcessState.EXITED:
            pass
        case ProcessState.STOPPED if not experiment.trials:
            return ["not started."]
        case _:
            sentences.append(f"{experiment.state}, {ended} of {most} trials have ended.")
    sentences += search_end_sentence(experiment.spec)
    reasons = dict(experiment.end_reasons)
    aside = reasons.pop(EndReason.SET_ASIDE.value, 0)
    if aside:
        verb = "counts" if aside == 1 else "count"
        sentences.append(f"{counted(aside, 'trial')} of a finalisation that was set aside {verb} no more.")
    failed = {reason: n for reason, n in reasons.items() if EndReason(reason) not in SUCCEEDED}
    if failed:
        sentences.append("trials without a value: " + ", ".join(f"{n} {reason}" for reason, n in failed.items()) + ".")
    if experiment.best is None:
        sentences.append("no trial has a value.")
    elif experiment.spec.get("finalize") and experiment.finalized is None:
        sentences.append("not finalised: its best value is the best of many noisy ones, and too good.")
    elif experiment.finalized is not None and experiment.evaluation is None and experiment.testable:
        sentences.append(f"finalised, but not tested: {experiment.missing or 'the run goes on'}.")
    return sentences


def search_end_sentence(spec: Mapping[str, Any]) -> list[str]:
    """Return how the search ended before its last trial; nothing if it did not."""
    why = {
        HOURS: "no further trial fitted into its hours", FINISH: "a person asked it to finish",
        VALUE: "it had a value that its plan calls good enough",
        PLATEAU: "as many trials as its plan says brought nothing better",
    }  # fmt: skip
    reason = spec.get("search_end")
    return [f"the search ended after {spec['searched']} trials: {why[reason]}."] if reason in why else []


def headline(run: RunView) -> str:
    """Sum up the run in one sentence: its plan, state and duration."""
    trials = sum(experiment.ended for experiment in run.experiments)
    took = f"in {duration(run.duration_s)}" if run.over else f"{duration(run.duration_s)} after its start"
    return (
        f"{run.plan}: {len(run.experiments)} experiment{'s' * (len(run.experiments) != 1)}, {trials} ended trials, "
        f"{run.state} {took}"
    )
