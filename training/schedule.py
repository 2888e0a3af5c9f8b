"""Compute the learning rate: linear warm-up, then cosine decay to zero (Loshchilov and Hutter, SGDR, 2017)."""

from __future__ import annotations

import math


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of optimiser step ``step`` (0-based) of ``total_steps``.

    The first of w = round(warmup_fraction * total_steps) steps has peak / w, not 0, so that no step is wasted. For the
    same reason the last step of all has a rate a little above 0.
    """
    warmup = round(warmup_fraction * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
