"""Time a step of a trial on a device: a fast one several times, a slow one once, on an eighth of its batch."""

from __future__ import annotations

import math

from torch import Tensor

from training.data.windows import MarketWindows
from training.loop import Clock, Learner, train_batch

# Of so many steps the fastest counts, since noise only adds.
TIMED_STEPS = 3
PROBE_SHARE = 8
SLOW_S = 2.0


def seconds_per_step(learner: Learner, windows: MarketWindows, clock: Clock) -> float:
    """Return the seconds of one step of a throw-away learner.

    One window pays for the set-up. Then an eighth of the batch is timed: if that takes more than ``SLOW_S``, it is
    all that is done, and the figure is eight times as long (too long by the optimiser's share); else full steps
    follow, until they have taken ``SLOW_S``.
    """
    local = windows.to(learner.device)
    samples = local.train[: learner.settings.batch_size]
    learner.model.train()
    with learner.own_randomness_discarded():
        _timed(learner, local, samples[:1], clock)
        part = samples[: max(1, len(samples) // PROBE_SHARE)]
        taken = _timed(learner, local, part, clock)
        if taken > SLOW_S:
            return taken * len(samples) / len(part)
        fastest, spent = math.inf, 0.0
        for _ in range(TIMED_STEPS):
            taken = _timed(learner, local, samples, clock)
            fastest, spent = min(fastest, taken), spent + taken
            if spent > SLOW_S:
                break
    return fastest


def _timed(learner: Learner, windows: MarketWindows, samples: Tensor, clock: Clock) -> float:
    started = clock()
    float(train_batch(learner, windows, samples))  # reading the loss waits for the device
    return clock() - started
