"""Decides how many trials of a search run at once: after each tenth of it a step uphill, by measured throughput.

Pure; standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

WORTH_IT = 1.05
"""More trials at once must give so much more throughput: with fewer, each knows more results when it is proposed."""
CHANGED = 0.8
"""A rate under this share of the one before, with as many trials: the machine has changed, and old rates say little."""


@dataclass(frozen=True)
class ConcurrencyWalk:
    """Stands at a number of trials `at` once, of at most `most`; `rates` are the work a second by such a number."""

    at: int
    most: int
    rates: Mapping[int, float] = field(default_factory=dict)

    def after(self, rate: float) -> ConcurrencyWalk:
        """Return the walk after a tenth in which `rate` was measured; it moves by one at most."""
        before = self.rates.get(self.at)
        changed = before is not None and rate < CHANGED * before
        rates = {**({} if changed else self.rates), self.at: rate}
        return replace(self, at=_next(self.at, self.most, rates), rates=rates)

    def reason(self) -> str:
        """Say what was measured, in parameters times windows a second."""
        return ", ".join(f"{rate:.3g} parameter-windows/s with {at}" for at, rate in sorted(self.rates.items()))


def _next(at: int, most: int, rates: Mapping[int, float]) -> int:
    best = max(rates.values())
    goal = min(number for number, rate in rates.items() if rate * WORTH_IT >= best)
    if goal != at:
        return at + (1 if goal > at else -1)
    unknown = [number for number in (at + 1, at - 1) if 1 <= number <= most and number not in rates]
    return unknown[0] if unknown else at
