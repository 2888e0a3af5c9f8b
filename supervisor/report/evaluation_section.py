"""Writes the section of the test: skill, scores, comparisons, calibration, and when it was opened. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from supervisor.report.page import Drawing, picture, table
from supervisor.report.skill import PARTS, RIVAL, YARDSTICKS, Goal, Skill
from supervisor.report.view import OWN_TRAINABLE, ExperimentRow, RunView

if TYPE_CHECKING:
    from supervisor.report.calibration import Calibration, Threshold
    from supervisor.report.comparisons import Comparison
    from supervisor.report.evaluated import Evaluated

SCORES = {"bce": "log loss", "skill": "skill", "auc": "AUC", "average_precision": "avg. precision", "brier": "Brier"}
"""The scores of an evaluation, in the order of its table."""


def evaluation_section(
    run: RunView, tested: Evaluated, drawings: Sequence[Drawing] = (), unread: Sequence[str] = ()
) -> str:
    """Write the test of each experiment beside its simple models; "" if none has been tested.

    `unread` names in sentences the experiments whose predictions are not drawn.
    """
    evaluations = [(e.name, e.evaluation) for e in run.experiments if e.evaluation is not None]
    if not evaluations:
        return ""
    parts = [
        "<section><h2>The test</h2>",
        _skills(tested.skills),
        _goal(tested.goal),
        _scores(evaluations),
        _comparisons(tested.compared),
        *map(picture, drawings),
        *(f"<p>{escape(words)}</p>" for words in unread),
        _calibration(tested.calibrations),
        _thresholds(tested.thresholds),
        _no_return([e for e in run.experiments if e.name in tested.thresholds]),
        "<h3>When the test was opened</h3><ul>",
        *(f"<li>{_opening(name, evaluation)}</li>" for name, evaluation in evaluations),
        "</ul></section>",
    ]
    return "\n".join(part for part in parts if part)


def fold_tables(run: RunView) -> dict[str, str]:
    """Return for each experiment that was tested on several folds a table of its test losses by fold."""
    tested = [(e.name, (e.evaluation or {}).get("folds", [])) for e in run.experiments]
    return {name: _folds(name, folds) for name, folds in tested if len(folds) > 1}


def _folds(name: str, folds: Sequence[Mapping[str, Any]]) -> str:
    rows, better = [], 0
    for fold in folds:
        own, simple = fold["bce"][OWN_TRAINABLE]["test"], [fold["bce"][against]["test"] for against in YARDSTICKS]
        better += own < fold["bce"][RIVAL]["test"]
        days, rate, windows = fold["dates"]["test"], fold["base_rate"]["test"], fold["windows"]["test"]
        skill = [f"{1 - own / loss:+.4f}" for loss in simple]
        rows.append(
            (
                str(fold["fold"]),
                f'<span class="range">{days[0]} to {days[1]}</span>',
                str(windows),
                f"{rate:.3f}",
                f"{own:.4f}",
                *skill,
            )
        )
    caption = (
        f"The test of {name} by fold: other years, each answered by models that were trained on the days before it. A "
        "fold is too short for an interval; the scores of all folds together have one."
    )
    headings = ("fold", "days", "windows", "base rate", "log loss", *(f"skill against {name}" for name in YARDSTICKS))
    agrees = f"<p>Better than {RIVAL} alone in {better} of {len(folds)} folds.</p>"
    return table(caption, headings, rows, frozenset({2, 3, 4, 5, 6})) + agrees


def _scores(evaluations: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    rows = [row for name, evaluation in evaluations for row in _score_rows(name, evaluation)]
    caption = (
        "Test windows, opened once, after everything was chosen. In brackets: 95 % intervals by stationary block "
        "bootstrap. They hold the truth in 95 % where spells of volatility fade within days (an AR(1) of .8), in 90 to "
        "94 % where they last one or two weeks (.9, .95), and in 72 to 81 % only where they last for months (.99). "
        "Skill is the share of the class prior's log loss that a model saves."
    )
    return table(caption, ("experiment", "model", *SCORES.values()), rows, frozenset())


def _score_rows(name: str, evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (escape(name), escape(str(model["title"])), *(_score_cell(model["test"].get(key)) for key in SCORES))
        for model in evaluation["models"].values()
    ]


def _score_cell(score: Mapping[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    return f"{score['value']:.4f}{_range(score['low'], score['high'])}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f' <span class="soft range">[{low:.3f}, {high:.3f}]</span>'


def _skills(skills: Sequence[Skill]) -> str:
    by_place = {(one.group, one.against, one.part): one for one in skills}
    places = [(against, part) for against in YARDSTICKS for part in PARTS]
    groups = {one.group: one.experiment for one in skills}
    if not groups:
        return ""
    rows = [
        (
            escape(name if group == "all" else f"{group} ({name})"),
            *(_skill_cell(by_place.get((group, *place))) for place in places),
        )
        for group, name in groups.items()
    ]
    caption = (
        "Skill of each group's model with the least validation loss: the share of the prior's, or of volatility's, log "
        "loss that it saves; below zero it is worse. The prior always answers the train base rate; volatility is a "
        "logistic regression on one number, the volatility of the day. 95 % intervals as below."
    )
    headings = ("model", *(f"against {against}, {PARTS[part]}" for against, part in places))
    return table(caption, headings, rows, frozenset())


def _skill_cell(one: Skill | None) -> str:
    return "–" if one is None else f"{one.value:+.4f}{_range(one.low, one.high)}"


def _goal(goal: Goal | None) -> str:
    if goal is None:
        return ""
    pooled = "not every group is tested" if goal.pooled is None else f"{goal.pooled:+.4f}"
    reached = "missed" if goal.missed else "open" if goal.pooled is None else "reached"
    return (
        f"<p>The goal is a model better than {RIVAL} alone on validation in each group, and no worse on the test "
        f"pooled over the groups: <strong>{reached}</strong> (pooled test skill against {RIVAL}: {pooled}).</p>"
    )


def _comparisons(compared: Sequence[Comparison]) -> str:
    if not compared:
        return ""
    rows = [
        (
            escape(f"{one.experiment} against {one.title}"),
            f"{one.difference:+.4f}",
            *("–" if p is None else f"{p:.2g}" for p in (one.p_value, one.adjusted)),
            one.result,
        )
        for one in compared
    ]
    caption = (
        "The model with the least validation loss of each group against the simple models: its test loss less theirs. "
        f"The last p is corrected for all {len(compared)} comparisons (Holm); below .05 one model counts as better."
    )
    return table(caption, ("comparison", "difference", "p", "corrected p", "the search is"), rows, frozenset({1, 2, 3}))


def _calibration(found: Mapping[str, Calibration]) -> str:
    if not found:
        return ""
    rows = [
        (
            escape(name),
            *(f"{value:.4f}" for value in (one.error, one.by_chance, one.mean_probability, one.base_rate)),
            str(one.windows),
        )
        for name, one in found.items()
    ]
    caption = (
        "Expected calibration error on the test windows, mean of the seeds: the mean distance between probability and "
        "the share that came true, over 15 bins of equal width (Naeini et al., 2015; Guo et al., 2017). Few windows "
        "give even a perfect forecast an error: the one by chance."
    )
    headings = ("experiment", "calibration error", "by chance", "mean probability", "base rate", "windows")
    return table(caption, headings, rows, frozenset(range(1, 6)))


def _thresholds(found: Mapping[str, Sequence[Threshold]]) -> str:
    rows = [
        (escape(name), f"{one.threshold:.1f}", str(one.called), f"{one.precision:.3f}", _share(one.recall))
        for name, several in found.items()
        for one in several
    ]
    if not rows:
        return ""
    caption = (
        "Test windows whose probability reaches a threshold: how many, the share of them that came true (precision), "
        "and the share of all that came true which they hold (recall). The model of each group with the least "
        "validation loss, mean of its seeds."
    )
    headings = ("experiment", "threshold", "windows", "precision", "recall")
    return table(caption, headings, rows, frozenset({1, 2, 3, 4}))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _no_return(experiments: Sequence[ExperimentRow]) -> str:
    """Say that the target is no return that a trader could have."""
    if not experiments:
        return ""
    from training.settings import TargetSettings

    target = asdict(TargetSettings()) | experiments[0].spec["config"].get("target", {})
    touch = f"{target['price']} price {100 * target['threshold']:g} % above today's close"
    return (
        f"<p>A window comes true when a day within the horizon has a {escape(touch)}. To touch that price is no "
        "tradable return: it says nothing of the price at which one could sell, of the falls on the way, or of costs."
        "</p>"
    )


def _opening(name: str, evaluation: Mapping[str, Any]) -> str:
    opening, blocks = evaluation["opening"], evaluation.get("folds") or [evaluation]
    days = ", ".join(" to ".join(block["dates"]["test"]) for block in blocks)
    times = int(opening["openings"])
    again = f"; these days have now been opened {times} times" if times > 1 else ""
    looks = opening.get("earlier_looks", ())
    again += "".join(f"; {look['days']} of them were opened before by {look['run']}" for look in looks)
    text = f"{name}: {opening['at']} by {opening['by']} ({opening['reason']}), days {days}{again}"
    return escape(text)
