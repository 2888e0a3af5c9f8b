"""Writes the answer's sections of the page: the scaling analysis and the test of each experiment. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from supervisor.report.page import Drawing, picture, table
from supervisor.report.scaling.slope import DECADE
from supervisor.report.view import RunView

if TYPE_CHECKING:
    from supervisor.report.comparisons import Comparison
    from supervisor.report.scaling.answer import ScalingAnswer
    from supervisor.report.scaling.law import Score
    from supervisor.report.scaling.slope import Interval, Slope

SCORES = {"bce": "log loss", "skill": "skill", "auc": "AUC", "average_precision": "avg. precision", "brier": "Brier"}
"""The scores of an evaluation, in the order of its table."""


def scaling_section(answer: ScalingAnswer, drawings: Sequence[Drawing]) -> str:
    """Write the figures of the scaling answer and their numbers."""
    parts = [
        "<section><h2>Does the loss scale with size?</h2>",
        *map(picture, drawings),
        _slopes(answer),
        _law(answer),
        _models(answer.analysis.scores),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _slopes(answer: ScalingAnswer) -> str:
    found = answer.analysis
    slopes = [
        ("across budgets", found.slope),
        *((f"{g} alone", s) for g, s in zip(answer.groups, found.slopes, strict=True)),
    ]
    rows = [(escape(name), *_slope_cells(slope)) for name, slope in slopes]
    days = ", widened for other days by resampling days, seeds and cells" if found.resampled else ""
    caption = (
        "Change of log loss a decade of parameters (negative: the loss falls). Across budgets: losses averaged over "
        "the groups, which share days and noise, so each budget counts once; 95 % interval by Student's t"
        f"{days}. The verdict rests on this line. Each group alone: its own cell means, not corrected for several "
        "groups."
    )
    return table(caption, ("line", "change a decade", "low", "high", "df", "p"), rows, frozenset(range(1, 6)))


def _slope_cells(slope: Slope | None) -> tuple[str, ...]:
    if slope is None:
        return ("–",) * 5
    numbers = (slope.value, slope.interval.low, slope.interval.high)
    return (*(f"{DECADE * number:+.4f}" for number in numbers), str(slope.df), f"{slope.p_value:.2g}")


def _law(answer: ScalingAnswer) -> str:
    law, alpha = answer.analysis.law, answer.analysis.alpha
    if law is None or not answer.analysis.shows_law:
        return ""
    rows = [("alpha", f"{law.alpha:.4g}", *(("rejected", "rejected") if alpha is None else _ends(alpha)))]
    for place, group in enumerate(answer.groups):
        rows.append((f"E, {escape(group)}", f"{law.floors[place]:.4g}", "–", "–"))
        rows.append((f"A, {escape(group)}", f"{law.factors[place]:.4g}", "–", "–"))
    caption = (
        "The pooled law L(N) = E + A / N^alpha, one alpha for all groups: Huber loss on log L, best of many starts. "
        "Alpha's range holds the exponents that the budgets' means do not reject (95 %), and may have no end; floors E "
        "and factors A have no interval, because a few budgets hardly determine them."
    )
    return table(caption, ("parameter", "value", "low", "high"), rows, frozenset({1, 2, 3}))


def _ends(interval: Interval) -> tuple[str, str]:
    low, high = (f"{end:.4g}" if math.isfinite(end) else "no end" for end in (interval.low, interval.high))
    return low, high


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


def evaluation_section(
    run: RunView, drawings: Sequence[Drawing], unread: Sequence[str] = (), compared: Sequence[Comparison] = ()
) -> str:
    """Write the test of each experiment beside its baselines; "" if none has been tested.

    `unread` names in sentences the experiments whose predictions are not drawn, `compared` is each group's best model
    beside the simple ones.
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
        f"{_compared(compared)}{''.join(map(picture, drawings))}{notes}"
        f"<h3>When the test was opened</h3><ul>{openings}</ul></section>"
    )


def _compared(compared: Sequence[Comparison]) -> str:
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
    looks = opening.get("earlier_looks", ())
    again += "".join(f"; {look['days']} of them were opened before by {look['run']}" for look in looks)
    text = f"{name}: {opening['at']} by {opening['by']} ({opening['reason']}), days {dates[0]} to {dates[1]}{again}"
    return escape(text)
