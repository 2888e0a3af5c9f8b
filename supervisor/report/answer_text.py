"""Words the answer of a run in up to three sentences to act on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from supervisor.formatting import short_value
from supervisor.report.comparisons import Comparison, Result, chosen
from supervisor.report.skill import RIVAL, Goal
from supervisor.report.view import OWN_TRAINABLE, ExperimentRow, RunView

if TYPE_CHECKING:
    from supervisor.report.scaling.answer import ScalingAnswer

MAX_GROUPS = 4
"""Groups named in one sentence; the tables have all."""
ARCHITECTURE = ("d_model", "n_layers", "n_heads")

VERDICTS = {
    "scaling": "larger models are better",
    "inverse scaling": "larger models are worse",
    "no scaling detected": "no scaling detected",
}


def sentences(
    run: RunView, scaling: ScalingAnswer | None, compared: Sequence[Comparison], goal: Goal | None = None
) -> list[str]:
    """Return the answer: scaling, where the plan has budgets; the simple models, where tested; the best.

    Where the `goal` is missed, the sentence that says so comes first.
    """
    best = chosen(run)
    if not best:
        return ["No trial has a value yet."]
    found = [] if scaling is None else [_scaling(scaling)]
    if compared:
        found.insert(0 if goal is not None and goal.missed else len(found), _simple_models(compared, goal))
    return [*found, _best(best)]


def _scaling(answer: ScalingAnswer) -> str:
    found = answer.analysis
    if found.verdict == "too few points":
        return f"No answer about scaling, too few points: {found.why}."
    verdict = VERDICTS[found.verdict]
    if answer.provisional is not None:
        return (
            f"Provisional, from validation, because tests are missing ({answer.provisional}): {verdict}: {found.why}."
        )
    beside = ""
    if answer.beside is not None:
        agrees = answer.beside == found.verdict
        beside = "; validation agrees" if agrees else f"; validation disagrees ({VERDICTS[answer.beside]})"
    return f"{verdict[0].upper()}{verdict[1:]} on the test: {found.why}{beside}."


def _simple_models(compared: Sequence[Comparison], goal: Goal | None) -> str:
    groups_by_text: dict[str, list[str]] = {}
    for group in dict.fromkeys(one.group for one in compared):
        text = _of_group([one for one in compared if one.group == group])
        groups_by_text.setdefault(text, []).append(group)
    parts = [f"{text}{_at(groups)}" for text, groups in list(groups_by_text.items())[:MAX_GROUPS]]
    number = f"{len(compared)} comparison{'s' * (len(compared) != 1)}"
    text = f"n the test (corrected for {number}), the search {'; '.join(parts)}{_and_more(len(groups_by_text))}."
    return f"{_goal(goal)}; o{text}" if goal is not None and goal.missed else f"O{text}"


def _goal(goal: Goal) -> str:
    where = [f"on validation{_at(goal.missed_groups)}"] if goal.missed_groups else []
    if goal.pooled is not None and goal.pooled < 0:
        where.append(f"on the pooled test (skill {goal.pooled:+.3f})")
    return (
        f"The goal (better than {RIVAL} alone on validation, no worse on the pooled test) is missed "
        f"{' and '.join(where)}"
    )


def _of_group(compared: Sequence[Comparison]) -> str:
    by_result: dict[Result, list[str]] = {}
    for one in compared:
        by_result.setdefault(one.result, []).append(one.baseline)
    if "better" not in by_result and "worse" not in by_result:
        return f"is not shown to be better or worse than any of {len(compared)} simple models"
    verbs: dict[Result, str] = {"better": "beats", "worse": "loses to", "no difference shown": "is not told apart from"}
    known = [(verb, by_result[result]) for result, verb in verbs.items() if result in by_result]
    return " and ".join(f"{verb} {', '.join(baselines)}" for verb, baselines in known)


def _at(groups: Sequence[str]) -> str:
    """Name the groups; those of one axis, such as a horizon, by their values."""
    if list(groups) == ["all"]:
        return ""
    axes = {group.rpartition(" ")[0] for group in groups}
    values = [group.rpartition(" ")[2] for group in groups[:MAX_GROUPS]]
    named = f"{axes.pop()} {', '.join(values)}" if len(axes) == 1 else ", ".join(groups[:MAX_GROUPS])
    return f" at {named}{_and_more(len(groups))}"


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
