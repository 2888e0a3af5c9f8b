"""Writes the answer's sections of the page: the scaling analysis and the test of each experiment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from supervisor.report.page import Drawing, picture, table
from supervisor.report.view import RunView

if TYPE_CHECKING:
    from supervisor.report.scaling_answer import ScalingAnswer
    from supervisor.report.scaling_law import Interval, Score, Slope

SCORES = {"bce": "log loss", "skill": "skill", "auc": "AUC", "average_precision": "avg. precision", "brier": "Brier"}
"""The scores of an evaluation, in the order of its table."""

_WORDS = {
    "scaling": "Yes: the loss falls with the number of parameters.",
    "inverse scaling": "The other way round: the loss rises with the number of parameters.",
    "no scaling detected": "No scaling detected.",
    "too few points": "No answer: too few points.",
}


def scaling_section(answer: ScalingAnswer, drawings: Sequence[Drawing]) -> str:
    """Write the verdict, its reason, the doubts, the figures and their numbers."""
    found = answer.analysis
    doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in answer.doubts)
    parts = [
        "<section><h2>Does the loss scale with size?</h2>",
        f'<p class="lead"><strong>{escape(_WORDS[found.verdict])}</strong></p><p>{escape(_capital(found.why))}.</p>',
        f"<h3>Doubts</h3><ul>{doubts}</ul>",
        *map(picture, drawings),
        _slopes(answer),
        _law(answer),
        _models(found.scores),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _slopes(answer: ScalingAnswer) -> str:
    slopes = [*zip(answer.groups, answer.analysis.slopes, strict=True), ("pooled", answer.analysis.pooled_slope)]
    rows = [(escape(name), *_slope_cells(slope)) for name, slope in slopes]
    caption = (
        "Slope of log loss on log parameters over cell means, with its 95 % t interval; negative means a falling loss."
    )
    return table(caption, ("group", "slope", "low", "high", "df", "p"), rows, frozenset(range(1, 6)))


def _slope_cells(slope: Slope | None) -> tuple[str, ...]:
    if slope is None:
        return ("–",) * 5
    numbers = (slope.value, slope.interval.low, slope.interval.high)
    return (*(f"{number:+.4f}" for number in numbers), str(slope.df), f"{slope.p_value:.2g}")


def _law(answer: ScalingAnswer) -> str:
    found, law = answer.analysis, answer.analysis.law
    if law is None or found.alpha is None:
        return ""
    rows = [("alpha", *_interval_cells(law.alpha, found.alpha))]
    for place, group in enumerate(answer.groups):
        rows.append((f"E, {escape(group)}", *_interval_cells(law.floors[place], found.floors[place])))
        rows.append((f"A, {escape(group)}", *_interval_cells(law.factors[place], found.factors[place])))
    caption = (
        "The pooled law L(N) = E + A / N^alpha, one alpha for all groups: Huber loss on log L, best of many starts, "
        "95 % bootstrap intervals."
    )
    return table(caption, ("parameter", "value", "low", "high"), rows, frozenset({1, 2, 3}))


def _interval_cells(value: float, interval: Interval) -> tuple[str, str, str]:
    return f"{value:.4g}", f"{interval.low:.4g}", f"{interval.high:.4g}"


def _models(scores: Sequence[Score]) -> str:
    known = [score.aicc for score in scores if score.aicc is not None]
    if not known:
        return ""
    rows = [
        (
            escape(score.model),
            str(score.k),
            f"{score.rss:.3g}",
            "too few points" if score.aicc is None else f"{score.aicc - min(known):.1f}",
        )
        for score in scores
    ]
    caption = "Models of the same points by AICc; 0 is the best, and a difference of 2 or more is relevant."
    return table(
        caption, ("model", "fitted numbers", "squared error", "AICc above the best"), rows, frozenset({1, 2, 3})
    )


def evaluation_section(run: RunView, drawings: Sequence[Drawing], unread: Sequence[str] = ()) -> str:
    """Write the test of each experiment beside its baselines; "" if none has been tested.

    `unread` names in sentences the experiments whose predictions are not drawn.
    """
    tested = [(e.name, e.evaluation) for e in run.experiments if e.evaluation is not None]
    if not tested:
        return ""
    rows = [row for name, evaluation in tested for row in _evaluation_rows(name, evaluation)]
    caption = (
        "Test windows, opened once, after everything was chosen. In brackets: 95 % intervals by stationary block "
        "bootstrap; skill is the share of the class prior's log loss that a model saves."
    )
    notes = "".join(f"<p>{escape(words)}</p>" for words in unread)
    openings = "".join(f"<li>{_opening(name, evaluation)}</li>" for name, evaluation in tested)
    return (
        f"<section><h2>The test</h2>{table(caption, ('experiment', 'model', *SCORES.values()), rows, frozenset())}"
        f"{''.join(map(picture, drawings))}{notes}<h3>When the test was opened</h3><ul>{openings}</ul></section>"
    )


def _evaluation_rows(name: str, evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (escape(name), escape(str(model["title"])), *(_score_cell(model["test"].get(key)) for key in SCORES))
        for model in evaluation["models"].values()
    ]


def _score_cell(score: Mapping[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    if score["low"] is None or score["high"] is None:
        return f"{score['value']:.4f}"
    return f'{score["value"]:.4f} <span class="soft">[{score["low"]:.3f}, {score["high"]:.3f}]</span>'


def _opening(name: str, evaluation: Mapping[str, Any]) -> str:
    opening, dates = evaluation["opening"], evaluation["dates"]["test"]
    times = int(opening["openings"])
    again = f"; these days have now been opened {times} times" if times > 1 else ""
    text = f"{name}: {opening['at']} by {opening['by']} ({opening['reason']}), days {dates[0]} to {dates[1]}{again}"
    return escape(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
