"""Predicts the time of an optimiser step: a rule of thumb, scaled by the steps that were timed.

The rule knows how a step's time grows with width, depth and batch, but not how fast a machine is; a timed step says by
how much to scale it. Pure. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.grid import Architecture

FLOPS_PER_CORE = 65e9
"""Float32 operations a second of wide layers on one core: measured on an x86 server core with AVX-512, where a matrix
product reached 67e9. A laptop's core differs by a factor of about two."""
HALF_RATE_WIDTH = 48
"""The d_model that reaches half of FLOPS_PER_CORE, fitted to epochs of 20k to 2M parameters on that core. Narrow layers
spend their time in norms, copies and the interpreter."""
STEP_OVERHEAD_S = 0.002
LAYER_OVERHEAD_S = 0.0005
"""The cost of an optimiser step beside its arithmetic, and of each layer in it (fitted as above)."""


class Basis(StrEnum):
    """Says what an estimate rests on."""

    TIMED = "timed here"
    SCALED = "by operations"
    RULE = "rule of thumb"


@dataclass(frozen=True)
class TimedStep:
    """An optimiser step that was timed on `device`, with `at_once` trials of `threads` threads at work.

    `budget` is a parameter count, `batch` a number of windows.
    """

    budget: int
    architecture: Architecture
    batch: int
    threads: int
    at_once: int
    device: str
    seconds: float

    @property
    def factor(self) -> float:
        """Return by how much the step was slower than the rule says."""
        return self.seconds / rule_seconds(self.architecture, self.batch, self.threads)


def operations(architecture: Architecture, windows: float) -> float:
    """Count the operations of a forward pass: 2 per parameter and token (Kaplan et al. 2020); backward takes twice."""
    from training.grid import param_count

    return 2.0 * param_count(architecture) * architecture.n_patches * windows


def rule_seconds(architecture: Architecture, batch: float, threads: float) -> float:
    """Return the seconds of a step by the rule of thumb."""
    overhead = STEP_OVERHEAD_S + LAYER_OVERHEAD_S * architecture.n_layers
    return overhead + 3 * forward_seconds(architecture, batch, threads)


def forward_seconds(architecture: Architecture, windows: float, threads: float) -> float:
    """Return the seconds of reading so many windows without a backward pass, by the rule of thumb."""
    rate = FLOPS_PER_CORE * architecture.d_model / (architecture.d_model + HALF_RATE_WIDTH)
    return operations(architecture, windows) / (rate * max(1.0, threads))


def scale(timed: Sequence[TimedStep], architecture: Architecture, batch: int) -> float:
    """Return the factor of a step: that of the timed ones, the nearer the more (Shepard, 1968). 1.0 without any.

    It lies between the smallest and the largest of theirs, and is a timed step's own at that step. Near is measured in
    the logarithms of width, depth and batch.
    """
    place = _place(architecture, batch)
    logs, weights = [], []
    for step in timed:
        squared = sum((a - b) ** 2 for a, b in zip(place, _place(step.architecture, step.batch), strict=True))
        if squared == 0.0:
            return step.factor
        logs.append(math.log(step.factor))
        weights.append(1.0 / squared)
    if not logs:
        return 1.0
    return math.exp(sum(log * weight for log, weight in zip(logs, weights, strict=True)) / sum(weights))


def of_budget(
    timed: Sequence[TimedStep], budget: int, threads: int, at_once: int
) -> tuple[Basis, tuple[TimedStep, ...]]:
    """Return the steps by which a budget's are scaled: its own, else those of the nearest budget that was timed.

    Of steps with other threads or another number of trials at once, those with the same threads are preferred.
    """
    own = tuple(s for s in timed if (s.budget, s.threads, s.at_once) == (budget, threads, at_once))
    if own:
        return Basis.TIMED, own
    if not timed:
        return Basis.RULE, ()

    def distance(step: TimedStep) -> tuple[float, bool, int]:
        return abs(math.log(step.budget / budget)), step.threads != threads, abs(step.at_once - at_once)

    nearest = min(map(distance, timed))
    return Basis.SCALED, tuple(step for step in timed if distance(step) == nearest)


def _place(architecture: Architecture, batch: int) -> tuple[float, float, float]:
    return math.log(architecture.d_model), math.log(architecture.n_layers), math.log(batch)
