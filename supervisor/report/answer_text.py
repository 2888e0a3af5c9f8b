"""Words the answer of a run in up to three sentences to act on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from supervisor.formatting import short_value
from supervisor.report.comparisons import Comparison, Result, chosen
from supervisor.report.view import OWN_TRAINABLE, ExperimentRow, RunView

if TYPE_CHECKING:
    from supervisor.report.scaling.answer import ScalingAnswer

MAX_GROUPS = 4
"""Groups named in one sentence; the tables have all."""
ARCHITECTURE = ("d_model", "n_layers", "n_heads")

VERDICTS = {
    "scaling": "Larger models are better",
    "inverse scaling": "Larger models are worse",
    "no scaling detected": "No scaling detected",
    "too few points": "No answer about scaling, too few points",
}


def sentences(run: RunView, scaling: ScalingAnswer | None, compared: Sequence[Comparison]) -> list[str]:
    """Return the answer: scaling, where the plan has budgets; the simple models, where tested; the best."""
    best = chosen(run)
    if not best:
        return ["No trial has a value yet."]
    found = [] if scaling is None else [_scaling(scaling)]
    if compared:
        found.append(_simple_models(compared))
    return [*found, _best(best)]


def _scaling(answer: ScalingAnswer) -> str:
    return f"{VERDICTS[answer.analysis.verdict]} (by validation losses): {answer.analysis.why}."


def _simple_models(compared: Sequence[Comparison]) -> str:
    by_group: dict[str, list[Comparison]] = {}
    for one in compared:
        by_group.setdefault(one.group, []).append(one)
    parts = [_of_group(group, several) for group, several in list(by_group.items())[:MAX_GROUPS]]
    number = f"{len(compared)} comparison{'s' * (len(compared) != 1)}"
    return f"On the test (corrected for {number}), the search {'; '.join(parts)}{_and_more(len(by_group))}."


def _of_group(group: str, compared: Sequence[Comparison]) -> str:
    by_result: dict[Result, list[str]] = {}
    for one in compared:
        by_result.setdefault(one.result, []).append(one.baseline)
    where = "" if group == "all" else f"at {group} "
    if "better" not in by_result and "worse" not in by_result:
        return f"{where}is not shown to be better or worse than any of {len(compared)} simple models"
    verbs: dict[Result, str] = {"better": "beats", "worse": "loses to", "no difference shown": "is not told apart from"}
    return where + " and ".join(
        f"{verb} {', '.join(by_result[result])}" for result, verb in verbs.items() if result in by_result
    )


def _best(best: Mapping[str, ExperimentRow]) -> str:
    named = [f"{_where(group)}{_configuration(one)}, {_score(one)}" for group, one in list(best.items())[:MAX_GROUPS]]
    return f"The best configuration {'; '.join(named)}{_and_more(len(best))}."


def _where(group: str) -> str:
    return "is " if group == "all" else f"for {group} is "


def _and_more(groups: int) -> str:
    return f"; and so on for {groups - MAX_GROUPS} more" if groups > MAX_GROUPS else ""


def _configuration(experiment: ExperimentRow) -> str:
    trial, final = experiment.best, experiment.finalized
    if final is not None:
        trial = next((one for one in experiment.trials if one.number == final.get("from_trial")), trial)
    assert trial is not None, "an experiment without a value is not chosen"
    shape = trial.architecture or {}
    shown: dict[str, Any] = {name: shape[name] for name in ARCHITECTURE if name in shape} or dict(trial.params)
    text = ", ".join(f"{name}={short_value(value)}" for name, value in list(shown.items())[:6])
    return f"trial {trial.number} of {experiment.name}" + (f" ({text})" if text else "")


def _score(experiment: ExperimentRow) -> str:
    """Say the test's loss; without a test the finalisation's mean; without one the search's best, as too good."""
    tested = (experiment.evaluation or {}).get("models", {}).get(OWN_TRAINABLE)
    if tested is not None:
        score = tested["test"]["bce"]
        known = score.get("low") is not None and score.get("high") is not None
        return f"test loss {score['value']:.4f}" + (f" [{score['low']:.4f}, {score['high']:.4f}]" if known else "")
    if experiment.finalized is not None:
        return f"{experiment.metric} {experiment.finalized['val_loss']:.5g} over fresh seeds, not tested"
    assert experiment.best is not None
    valued = sum(trial.value is not None for trial in experiment.trials)
    return f"{experiment.metric} {experiment.best.value:.5g}, the best of {valued} noisy values"
