"""Score forecasts of one part on the same resamples, so that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.block_bootstrap import Interval, block_days, draw_weights, interval
from training.scores import SCORES, Array, Forecast, resampled_scores, scores


@dataclass(frozen=True)
class PartScorer:
    """The outcomes of a part, the ``prior`` (days,), the resamples' mean ``block`` and ``weights`` (draws, days)."""

    labels: Array
    prior: Array
    block: int
    weights: Array

    @classmethod
    def of(
        cls, labels: Array, prior: Array, answers: Sequence[Array], horizon: int, draws: int, seed: int
    ) -> PartScorer:
        """Draw the resamples, with a block length for the mean loss of these answers."""
        losses = np.mean([Forecast(found, labels, prior).losses() for found in answers], axis=0)
        block = block_days(losses, horizon)
        return cls(labels, prior, block, draw_weights(len(labels), block, draws, seed))

    @property
    def blocks(self) -> float:
        return len(self.labels) / self.block

    def scored(self, forecasts: Sequence[Array]) -> dict[str, dict[str, float | None]]:
        """Average each score over forecasts of the same days; return it with its interval."""
        values = [scores(Forecast(one, self.labels, self.prior)) for one in forecasts]
        drawn = [resampled_scores(Forecast(one, self.labels, self.prior), self.weights) for one in forecasts]
        return {name: self._interval(name, values, drawn).as_dict() for name in SCORES}

    def _interval(
        self, name: str, values: Sequence[Mapping[str, float]], drawn: Sequence[Mapping[str, Array]]
    ) -> Interval:
        mean = float(np.mean([value[name] for value in values]))
        return interval(mean, np.mean([draw[name] for draw in drawn], axis=0), self.blocks)

    def plain(self, forecast: Array) -> dict[str, float | None]:
        """Return the scores of one forecast without intervals; None where a score is not finite."""
        found = scores(Forecast(forecast, self.labels, self.prior))
        return {name: value if np.isfinite(value) else None for name, value in found.items()}

    def difference(self, forecasts: Sequence[Array], baseline: Array) -> dict[str, float | None]:
        """Return the forecasts' mean BCE minus the baseline's, day by day on the same resamples."""
        own = np.mean([Forecast(one, self.labels, self.prior).losses() for one in forecasts], axis=0)
        daily = own - Forecast(baseline, self.labels, self.prior).losses()
        drawn = self.weights @ daily / self.weights.sum(axis=1)
        return interval(float(daily.mean()), drawn, self.blocks).as_dict()
