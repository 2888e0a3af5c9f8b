"""Writes the section of the scaling answer. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from supervisor.report.page import Drawing, picture, table
from supervisor.report.scaling.law import percent

if TYPE_CHECKING:
    from supervisor.report.scaling.answer import ScalingAnswer
    from supervisor.report.scaling.law import Score
    from supervisor.report.scaling.slope import Interval, Slope


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
    if found.slope is None:
        return ""
    beside = [] if answer.validation is None else [("validation, across budgets", answer.validation)]
    slopes = [
        (f"{answer.losses}, across budgets", found.slope),
        *beside,
        *((f"{answer.losses}, {g} alone", s) for g, s in zip(answer.groups, found.slopes, strict=True)),
    ]
    rows = [(escape(name), *_slope_cells(slope)) for name, slope in slopes]
    days = ", widened for other days by resampling days and cells" if found.resampled else ""
    caption = (
        "Change of the loss in percent a decade of parameters (negative: it falls). Across budgets: log losses "
        "averaged over the groups, which share days and noise, so each budget counts once; 95 % interval by Student's "
        f"t{days}. The verdict rests on the first line. Each group alone: its own cell means, not corrected for "
        "several groups."
    )
    return table(caption, ("line", "% a decade", "low", "high", "df", "p"), rows, frozenset(range(1, 6)))


def _slope_cells(slope: Slope | None) -> tuple[str, ...]:
    if slope is None:
        return ("–",) * 5
    numbers = (slope.value, slope.interval.low, slope.interval.high)
    return (*(f"{percent(number):+.2f}" for number in numbers), str(slope.df), f"{slope.p_value:.2g}")


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
